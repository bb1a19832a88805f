# SPDX-License-Identifier: Apache-2.0
"""Each scheduler against its definition (ipvsadm(8)), on a few backends and connections that come and go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tests.support.world as w
from xdpdirector.dataplane.service_plan import ServicePlan
from xdpdirector.model import Persistence, Scheduler

NAMES = ("web1", "web2", "web3")


def pool(scheduler: str, weights: tuple[int, ...], **changes: object) -> ServicePlan:
    members = tuple(
        w.backend(name, weight=weight, accepts=weight > 0)
        for name, weight in zip(NAMES, weights, strict=False)
    )
    return w.service(scheduler=Scheduler(scheduler), members=members, **changes)


def opened(world: w.World, count: int, first: int = 1) -> list[str]:
    """Open so many connections from ports in a row; who got them."""
    return [w.owner(world.send(w.tcp("S", sport=sport))) for sport in range(first, first + count)]


@dataclass
class Load:
    """What an observer knows of a backend."""

    weight: int
    active: int = 0
    inactive: int = 0
    served: int = 0


Cost = Callable[[Load], float]

COSTS: dict[str, Cost] = {
    "rr": lambda load: load.served,
    "wrr": lambda load: (load.served + 1) / load.weight,
    "lc": lambda load: 257 * load.active + load.inactive,
    "wlc": lambda load: (257 * load.active + load.inactive) / load.weight,
    "sed": lambda load: (load.active + 1) / load.weight,
    "nq": lambda load: 0 if load.active == 0 else (load.active + 1) / load.weight,
    "fo": lambda load: -load.weight,
    "ovf": lambda load: -load.weight,
}


def expected(scheduler: str, loads: dict[str, Load]) -> str | None:
    """Who the definition gives the next connection to: the cheapest, ties to the first; None for nobody."""
    able = {
        name: load
        for name, load in loads.items()
        if load.weight > 0 and (scheduler != "ovf" or load.active <= load.weight)
    }
    return min(able, key=lambda name: COSTS[scheduler](able[name])) if able else None


@settings(
    max_examples=settings.default.max_examples // 2,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    weights=st.tuples(*[st.integers(0, 5)] * 3),
    ends=st.lists(st.booleans(), min_size=1, max_size=25),
)
@pytest.mark.parametrize("scheduler", list(COSTS))
def test_each_scheduler_does_what_it_is_defined_to_do(
    world: w.World, scheduler: str, weights: tuple[int, ...], ends: list[bool]
) -> None:
    """After each new connection, an old one may end: the oldest that runs."""
    world.empty()
    world.apply(pool(scheduler, weights))
    loads = {name: Load(weight) for name, weight in zip(NAMES, weights, strict=True)}
    running: list[tuple[int, str]] = []
    for sport, one_ends in enumerate(ends, start=1):
        name = expected(scheduler, loads)

        outcome = world.send(w.tcp("S", sport=sport))

        if name is None:
            assert outcome.reason == "reject_empty"
            continue
        assert w.owner(outcome) == name
        loads[name].active += 1
        loads[name].served += 1
        running.append((sport, name))
        if one_ends:
            ended, by = running.pop(0)
            world.send(w.tcp("R", sport=ended))
            loads[by].active -= 1
            loads[by].inactive += 1


def test_destination_hashing_gives_a_vip_to_one_backend(world: w.World) -> None:
    """The VIP's bucket of 256 is that of ip_vs_dh.c, and the buckets are dealt to the backends in turn."""
    bucket = (0xC000020A * 0x61C88647 & 0xFFFFFFFF) >> 24  # 192.0.2.10
    for count in (1, 2, 3):
        world.empty()
        world.apply(pool("dh", (1, 1, 1)[:count]))

        assert set(opened(world, 20)) == {NAMES[bucket % count]}


def test_destination_hashing_replaces_nobody(world: w.World) -> None:
    """Where the bucket's backend takes nothing, nobody does. Otherwise weights do not matter."""
    owner = (0xC000020A * 0x61C88647 & 0xFFFFFFFF) >> 24
    weights = [5, 5, 5]
    weights[owner % 3] = 0
    world.apply(pool("dh", (weights[0], weights[1], weights[2])))

    assert world.send(w.tcp("S")).reason == "reject_empty"


def test_the_power_of_two_choices_levels_loads(world: w.World) -> None:
    """Of two draws the cheaper: nobody can be far behind, and who has no weight gets nothing."""
    world.apply(pool("twos", (1, 3, 0)))

    counts = Counter(opened(world, 400))

    assert counts.keys() == {"web1", "web2"}
    assert 60 <= counts["web1"] <= 140  # a quarter: the flows' ports, and so their draws, are always the same
    world.empty()
    world.apply(pool("twos", (0, 0, 0)))
    assert world.send(w.tcp("S")).reason == "reject_empty"


def test_weighted_round_robin_interleaves(world: w.World) -> None:
    world.apply(pool("wrr", (3, 1)))

    owners = opened(world, 8)

    assert Counter(owners[:4]) == Counter(owners[4:]) == {"web1": 3, "web2": 1}
    assert owners[:4] != ["web1", "web1", "web1", "web2"] or owners[3:5] != ["web2", "web2"]


def test_a_newcomer_is_not_given_all_that_the_others_had(world: w.World) -> None:
    world.apply(pool("rr", (1, 1)))
    opened(world, 20)

    world.apply(pool("rr", (1, 1, 1)))

    assert Counter(opened(world, 9, first=100)) == {"web1": 3, "web2": 3, "web3": 3}


@dataclass(frozen=True)
class Before:
    """What happens to a pool between two connections: the numbers of the members that are up then."""

    up: tuple[int, ...]
    weights: tuple[int, ...] = (1, 1, 1)


ALL, TWO = Before((1, 2, 3)), Before((1, 2))


@pytest.mark.parametrize(
    ("scheduler", "story", "shares"),
    [
        pytest.param("rr", [ALL, TWO] * 12, {1: (7, 11), 2: (7, 11), 3: (4, 8)}, id="one flaps"),
        pytest.param(
            "rr", [Before((1, 2, 3)), Before((1, 3)), Before((2, 3))] * 8, {1: (6, 10), 2: (6, 10), 3: (6, 10)},
            id="two flap",
        ),
        pytest.param(
            "rr", [*[ALL] * 6, *[TWO] * 30, *[ALL] * 9], {1: (19, 21), 2: (19, 21), 3: (5, 6)},
            id="back after long",
        ),
        pytest.param(
            "wrr", [Before((1, 2, 3), (1, 2, weight)) for weight in range(1, 31)],
            {1: (1, 4), 2: (3, 6), 3: (21, 25)}, id="weight grows",
        ),
        pytest.param(
            "wrr", [Before((1, 2, 3), (3, 1, 2)), Before((1, 2), (3, 1, 2))] * 12,
            {1: (11, 15), 2: (3, 6), 3: (4, 8)}, id="one flaps, by weight",
        ),
    ],
)  # fmt: skip
def test_turns_go_on_where_they_were(
    world: w.World, scheduler: str, story: list[Before], shares: dict[int, tuple[int, int]]
) -> None:
    """A change before each connection. `shares`: how many each member may get, at least and at most."""
    owners = []
    for sport, now in enumerate(story, start=1):
        members = tuple(
            w.backend(name, weight=weight, accepts=number in now.up)
            for number, (name, weight) in enumerate(zip(NAMES, now.weights, strict=True), start=1)
        )
        world.apply(w.service(scheduler=Scheduler(scheduler), members=members))
        owners += opened(world, 1, first=sport)

    counts = Counter(owners)

    got = {number: counts[NAMES[number - 1]] for number in shares}
    assert all(least <= got[number] <= most for number, (least, most) in shares.items()), got


def test_who_was_full_is_not_given_all_that_it_missed(world: w.World) -> None:
    full = (w.backend("web1", upper=4, lower=4), w.backend("web2"), w.backend("web3"))
    world.apply(w.service(scheduler=Scheduler.RR, members=full))
    owners = opened(world, 60)
    assert Counter(owners)["web1"] == 4

    world.plane.members.even_turns()
    for sport, name in enumerate(owners, start=1):
        if name == "web1":
            world.end_connection(sport)

    assert Counter(opened(world, 9, first=100))["web1"] <= 4


@pytest.mark.parametrize(("scheduler", "weights"), [("rr", (1, 1, 1)), ("wrr", (1, 2, 3))])
@pytest.mark.parametrize("count", [2**31, 2**32, 2**40])
def test_turns_go_on_after_very_many_connections(
    world: w.World, scheduler: str, weights: tuple[int, ...], count: int
) -> None:
    """All three have had so many, but for the next few."""
    world.apply(pool(scheduler, weights))
    for name, weight in zip(NAMES, weights, strict=True):
        load = world.tables.loads[world.plane.indices.backends["web", name]]
        load["served"], load["served_correction"] = (count - 10) * weight, 0

    owners = Counter(opened(world, 60))
    world.plane.members.even_turns()
    owners += Counter(opened(world, 60, first=100))

    assert owners == {name: 120 * w // sum(weights) for name, w in zip(NAMES, weights, strict=True)}


@pytest.mark.parametrize("raw", [2**31 - 3, -3], ids=["half of the range", "all of it"])
def test_connections_are_counted_rightly_after_very_many_of_them(world: w.World, raw: int) -> None:
    """Those that time out leave by a correction, so that what the path counts grows for ever."""
    world.apply(w.service(members=(w.backend("web1", upper=8, lower=6), w.backend("web2"))))
    index = world.plane.indices.backends["web", "web1"]
    for field in ("active", "inactive"):
        world.tables.loads[field][index] = raw
        world.tables.loads[f"{field}_correction"][index] = -raw

    owners = opened(world, 40)
    world.sweep()

    assert Counter(owners)["web1"] == 8
    assert world.plane.counters.load(("web", "web1")) == (8, 0)
    assert opened(world, 1, first=100) == ["web2"]


def test_fail_over_comes_back(world: w.World) -> None:
    world.apply(pool("fo", (1, 3, 2)))
    assert set(opened(world, 3)) == {"web2"}
    world.apply(w.service(scheduler=Scheduler.FO, members=(w.backend("web1"), w.backend("web3", weight=2))))
    assert set(opened(world, 3, first=10)) == {"web3"}

    world.apply(pool("fo", (1, 3, 2)))

    assert set(opened(world, 3, first=20)) == {"web2"}


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_source_hashing_gives_a_client_one_backend(world: w.World, family: str) -> None:
    world.apply(pool("sh", (1, 1, 1), hashes_port=False, ring_slots=1021))
    frame = w.tcp if family == "IPv4" else w.tcp6

    owners = {w.owner(world.send(frame("S", sport=sport))) for sport in range(1, 50)}

    assert len(owners) == 1


def test_source_hashing_spreads_clients(world: w.World) -> None:
    world.apply(pool("sh", (1, 1, 1), hashes_port=False, ring_slots=1021))

    owners = Counter(w.owner(world.send(w.tcp("S", client=f"198.51.100.{n}"))) for n in range(1, 250))

    assert set(owners) == set(NAMES)


@pytest.mark.parametrize("scheduler", ["wlc", "mh"])
def test_the_fallback_serves_only_when_nobody_else_does(world: w.World, scheduler: str) -> None:
    fallback = w.backend("web3", accepts=False)
    world.apply(
        w.service(scheduler=Scheduler(scheduler), members=(w.backend("web1"), fallback), fallback="web3")
    )
    assert set(opened(world, 5)) == {"web1"}

    gone = w.backend("web1", accepts=False)
    world.apply(w.service(scheduler=Scheduler(scheduler), members=(gone, fallback), fallback="web3"))

    assert set(opened(world, 5, first=100)) == {"web3"}
    assert w.owner(world.send(w.tcp("A", sport=100))) == "web3"


@pytest.mark.parametrize("scheduler", ["wlc", "mh"])
def test_connections_of_the_fallback_stay_there_when_the_others_are_back(
    world: w.World, scheduler: str
) -> None:
    fallback, kind = w.backend("web3", accepts=False), Scheduler(scheduler)
    world.apply(
        w.service(scheduler=kind, members=(w.backend("web1", accepts=False), fallback), fallback="web3")
    )
    opened(world, 9)
    assert {w.owner(world.send(w.tcp("A", sport=sport))) for sport in range(1, 10)} == {"web3"}

    world.apply(w.service(scheduler=kind, members=(w.backend("web1"), fallback), fallback="web3"))

    assert {w.owner(world.send(w.tcp("PA", sport=sport))) for sport in range(1, 10)} == {"web3"}
    assert set(opened(world, 9, first=100)) == {"web1"}


def test_the_fallback_is_full_at_its_threshold(world: w.World) -> None:
    members = (w.backend("web1", accepts=False), w.backend("web3", accepts=False, upper=4, lower=3))
    world.apply(w.service(members=members, fallback="web3"))
    assert opened(world, 4) == ["web3"] * 4

    assert {world.send(w.tcp("S", sport=sport)).reason for sport in range(50, 60)} == {"reject_empty"}
    world.end_connection(1)
    assert world.send(w.tcp("S", sport=60)).reason == "reject_empty"
    world.end_connection(2)

    assert opened(world, 2, first=70) == ["web3"] * 2
    assert world.send(w.tcp("S", sport=80)).reason == "reject_empty"
    assert world.send(w.tcp("A", sport=70)).reason == "forward_connection"


def test_a_client_that_persistence_keeps_passes_a_threshold(world: w.World) -> None:
    """As with IPVS."""
    plan = w.service(members=(w.backend("web1", upper=1, lower=1),), persistence=Persistence())
    world.apply(plan)

    assert opened(world, 3) == ["web1"] * 3
    assert world.send(w.tcp("S", client="198.51.100.9")).reason == "reject_empty"


def test_a_full_backend_takes_none_until_it_is_below_its_lower_threshold(world: w.World) -> None:
    world.apply(w.service(members=(w.backend("web1", weight=100, upper=4, lower=3), w.backend("web2"))))
    owners = opened(world, 6)
    assert Counter(owners) == {"web1": 4, "web2": 2}
    first, *others = [sport for sport, name in enumerate(owners, start=1) if name == "web1"]

    world.end_connection(first)
    assert opened(world, 1, first=50) == ["web2"]
    world.end_connection(others[0])

    assert opened(world, 2, first=60) == ["web1", "web1"]
    assert opened(world, 1, first=70) == ["web2"]


def test_all_full_is_empty(world: w.World) -> None:
    world.apply(w.service(members=(w.backend("web1", upper=1, lower=1),)))
    opened(world, 1)

    assert world.send(w.tcp("S", sport=99)).reason == "reject_empty"


def test_address_and_flow_hashing_differ_by_the_port_alone(world: w.World) -> None:
    world.apply(pool("mh", (1, 1, 1), ring_slots=1021))

    owners = Counter(opened(world, 60))

    assert set(owners) == set(NAMES)
