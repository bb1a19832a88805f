# SPDX-License-Identifier: Apache-2.0
"""What a seed makes happen, and when. Pure: the same options give the same schedule.

Three lanes run beside each other: disturbances of the director, operations over its API, and floods. In each lane
one thing follows the other. A thing is said in full, so that it means the same whatever became of those before it:
"weight 3 for wlc/backend2", and not "more weight for somebody".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any

from dev.chaos.setting import (
    CHANGING,
    SERVICES,
    SPARE,
    Options,
    Served,
)

DISTURBANCE, OPERATION, FLOOD = "disturbance", "operation", "flood"
LANES = (DISTURBANCE, OPERATION, FLOOD)

CALM = 3.0  # seconds at the begin, in which connections find their places
SETTLING = 15.0  # seconds at the end without anything, in which what is late comes in

DISTURBANCES: dict[str, tuple[float, float]] = {
    "address": (1.0, 5.0),
    "carrier": (1.0, 3.0),
    "mac": (3.0, 6.0),
    "interface": (1.0, 2.5),
    "helper killed": (2.0, 3.0),
    "helper stalled": (3.0, 4.0),
    "descriptors": (4.0, 6.0),
    "clock": (3.0, 6.0),
    "disk full": (3.0, 5.0),
    "disk read-only": (3.0, 5.0),
    "database locked": (3.0, 5.0),
    "access database damaged": (0.0, 0.0),
    "task": (3.0, 4.0),
    "daemon killed": (0.0, 4.0),
    "daemon restarted": (0.0, 1.0),
    "upgrade": (0.0, 0.0),
}
"""Kind: how long it lasts, in seconds."""
FLOODS: dict[str, tuple[float, float]] = {
    "SYN": (4.0, 6.0),
    "two packets": (8.0, 12.0),
    "spray FIN": (0.0, 0.0),
    "spray RST": (0.0, 0.0),
}
"""Kind: how long it lasts; a spray lasts until it has tried every port."""
OPERATIONS = ("weight", "drain", "enable", "listeners", "scheduler", "persistence", "health", "add", "remove")

_CLOCK_JUMPS = (-7200, -3700, 3700, 86400)
_FIRST_FLOOD, _FIRST_DISTURBANCE = 4.0, 6.0
_BETWEEN_FLOODS, _BETWEEN_DISTURBANCES, _BETWEEN_OPERATIONS = (2.0, 6.0), (1.5, 4.0), (0.4, 1.6)
_FEWEST = 2  # backends of a service that take new connections, whatever is done to the others
_TRIES = 100


@dataclass(frozen=True)
class Action:
    """To be done `at` seconds after the begin; what lasts `lasts` that many."""

    at: float
    lane: str
    kind: str
    lasts: float = 0.0
    arguments: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        said = ", ".join(
            f"{name} {' '.join(value) if isinstance(value, list) else value}"
            for name, value in self.arguments.items()
        )
        return f"{self.kind} ({said})" if said else self.kind

    def document(self) -> dict[str, Any]:
        return asdict(self)


def schedule(options: Options) -> tuple[Action, ...]:
    """All lanes, by time. A lane does not depend on the others, nor on how large the run is."""
    end = options.seconds - SETTLING
    lanes = (
        _disturbances(Random(f"{options.seed} {DISTURBANCE}"), end, options.only),
        _operations(Random(f"{options.seed} {OPERATION}"), end, options.only),
        _floods(Random(f"{options.seed} {FLOOD}"), end, options.only),
    )
    return tuple(sorted((action for lane in lanes for action in lane), key=lambda action: action.at))


def kinds() -> tuple[str, ...]:
    """All that `only` may name."""
    return (*DISTURBANCES, *OPERATIONS, *FLOODS)


def _chosen(all_kinds: Sequence[str], only: Sequence[str]) -> list[str]:
    return [kind for kind in all_kinds if not only or kind in only]


def _bag(random: Random, kinds: Sequence[str]) -> Iterator[str]:
    """Each once, in random order, and again."""
    while kinds:
        yield from random.sample(kinds, len(kinds))


def _disturbances(random: Random, end: float, only: Sequence[str]) -> Iterator[Action]:
    at = _FIRST_DISTURBANCE
    for kind in _bag(random, _chosen(list(DISTURBANCES), only)):
        lasts = round(random.uniform(*DISTURBANCES[kind]), 2)
        arguments: dict[str, Any] = {}
        if kind == "clock":
            arguments = {"seconds": random.choice(_CLOCK_JUMPS)}
        if kind == "task":
            arguments = {"number": random.randrange(100)}
        if kind == "helper killed":
            arguments = {"which": random.choice(("who serves", "who waits"))}
        if at + lasts > end:
            return
        yield Action(round(at, 2), DISTURBANCE, kind, lasts, arguments)
        at += lasts + random.uniform(*_BETWEEN_DISTURBANCES)


def _floods(random: Random, end: float, only: Sequence[str]) -> Iterator[Action]:
    at = _FIRST_FLOOD
    services = _bag(random, [each.name for each in SERVICES])
    for kind in _bag(random, _chosen(list(FLOODS), only)):
        lasts = round(random.uniform(*FLOODS[kind]), 2)
        if at + lasts > end:
            return
        arguments = {
            "service": next(services),
            "family": random.choice((4, 4, 6)),
            "seed": random.getrandbits(32),
        }
        yield Action(round(at, 2), FLOOD, kind, lasts, arguments)
        at += lasts + random.uniform(*_BETWEEN_FLOODS)


def _operations(random: Random, end: float, only: Sequence[str]) -> Iterator[Action]:
    wanted = _chosen(OPERATIONS, only)
    pool = {each.name: Pool(each) for each in SERVICES}
    at = CALM
    while wanted and at < end:
        for _ in range(_TRIES):
            kind, name = random.choice(wanted), random.choice(list(pool))
            arguments = _DRAW[kind](random, pool[name])
            if arguments is not None:
                yield Action(round(at, 2), OPERATION, kind, arguments={"service": name, **arguments})
                break
        at += random.uniform(*_BETWEEN_OPERATIONS)


class Pool:
    """Which backends of a service take new connections once all operations so far are done."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.weights = {"backend1": 1, "backend2": 1, "backend3": 1}
        self.draining: set[str] = set()

    @property
    def taking(self) -> set[str]:
        """The spare one does not count: it may not be there yet, or not any more."""
        return {
            name
            for name, weight in self.weights.items()
            if weight > 0 and name not in self.draining and name != SPARE
        }

    def can_do_without(self, name: str) -> bool:
        return len(self.taking - {name}) >= _FEWEST


def _weight(random: Random, pool: Pool) -> dict[str, Any] | None:
    name, weight = random.choice(sorted(pool.weights)), random.choice((0, 1, 1, 2, 3, 5))
    if name == SPARE or (weight == 0 and not pool.can_do_without(name)):
        return None
    pool.weights[name] = weight
    return {"backend": name, "weight": weight}


def _drain(random: Random, pool: Pool) -> dict[str, Any] | None:
    """With a deadline far out, or none: a deadline that comes would cut what runs, as it was asked to."""
    name, deadline = random.choice(sorted(pool.weights)), random.choice((None, "1h"))
    if name == SPARE or not pool.can_do_without(name):
        return None
    pool.draining.add(name)
    return {"backend": name, "deadline": deadline}


def _enable(random: Random, pool: Pool) -> dict[str, Any] | None:
    if not pool.draining:
        return None
    name = random.choice(sorted(pool.draining))
    pool.draining.discard(name)
    return {"backend": name}


def _listeners(random: Random, pool: Pool) -> dict[str, Any]:
    """In any order: also with another one first."""
    others = [each for each in pool.served.others if random.random() < 0.5]
    wanted = [*pool.served.listeners, *others]
    return {"listeners": random.sample(wanted, len(wanted))}


def _scheduler(random: Random, pool: Pool) -> dict[str, Any] | None:
    if pool.served.name not in CHANGING:
        return None
    return {"scheduler": random.choice(("rr", "wrr", "lc", "wlc", "sed", "nq", "mh", "sh"))}


def _persistence(random: Random, pool: Pool) -> dict[str, Any] | None:
    if pool.served.name not in CHANGING:
        return None
    return {"persistent": random.random() < 0.5}


def _health(random: Random, _pool: Pool) -> dict[str, Any]:
    interval = random.choice(("2s", "3s", "4s"))
    return {"interval": interval, "rise": random.choice((1, 2, 3)), "fall": random.choice((2, 3, 4))}


def _add(_random: Random, pool: Pool) -> dict[str, Any] | None:
    if SPARE in pool.weights:
        return None
    pool.weights[SPARE] = 1
    return {"backend": SPARE}


def _remove(_random: Random, pool: Pool) -> dict[str, Any] | None:
    if SPARE not in pool.weights:
        return None
    del pool.weights[SPARE]
    return {"backend": SPARE}


_DRAW: dict[str, Callable[[Random, Pool], dict[str, Any] | None]] = {
    "weight": _weight,
    "drain": _drain,
    "enable": _enable,
    "listeners": _listeners,
    "scheduler": _scheduler,
    "persistence": _persistence,
    "health": _health,
    "add": _add,
    "remove": _remove,
}
