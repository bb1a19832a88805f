# SPDX-License-Identifier: Apache-2.0
"""Passive health of the backends of one service: a state machine over what their clients' packets show. Pure; the
caller passes the counts and the time, in monotonic seconds.

               too high, twice in a row               with `eject`, if there is room
    normal ──────────────────────────────► suspect ───────────────────────────────► ejected ◄──┐
     ▲ ▲    not too high, thrice in a row,  │   ▲   more are out than `at_most` has   │  │      │ too high
     │ └────────────────────────────────────┘   └─────────────────────────────────────┘  │      │
     │      or not judged for a minute                                     `trial_after` ▼      │
     └───────────────────────────────────────────────────────────────────────────────── trial ──┘
            not too high, twice in a row, or not judged for a minute

A backend's share is the part of its connections in the last WINDOW seconds whose SYN was sent again. It is too high
if its lower bound is above `share`, and above `factor` times the upper bound of its siblings'. These are bounds of
Wilson's score interval (1927), which hold for small numbers, too. Siblings are the better half of them, pooled:
others that are bad, too, must not hide one; a backend without siblings is never judged. Connections are counted,
not packets, for the retransmissions of one connection depend on each other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil, floor, sqrt
from typing import NamedTuple

from xdpdirector.model.passive import WINDOW, PassiveSpec, PassiveState

OWN_Z, SIBLINGS_Z = 3.0, 2.0
"""Standard deviations of the bounds: one in 740 is beyond the first by chance, one in 44 beyond the second."""
TOO_HIGH_LOOKS, NOT_TOO_HIGH_LOOKS = 2, 3
TRIAL_LOOKS = 2
"""Of one that is not too high: a SYN is sent again after a second, when a look may have been."""
PATIENCE = 60.0
"""Seconds without enough connections to judge, after which nothing is held against a backend."""
TRIAL_SHARE = 0.1
MOST_DOUBLINGS = 4

NORMAL, SUSPECT = PassiveState.NORMAL, PassiveState.SUSPECT
EJECTED, TRIAL = PassiveState.EJECTED, PassiveState.TRIAL


class Opened(NamedTuple):
    """Connections, and how many of them had to send their SYN again."""

    connections: int
    repeated: int

    @property
    def share(self) -> float | None:
        return self.repeated / self.connections if self.connections else None


class Figures(NamedTuple):
    """What a backend is judged by: its own connections, and those of the better half of its siblings."""

    own: Opened = Opened(0, 0)
    siblings: Opened = Opened(0, 0)


NO_FIGURES = Figures()


class Change(NamedTuple):
    """A transition of a backend, and by which figures."""

    backend: str
    before: PassiveState
    after: PassiveState
    figures: Figures


def bounds(opened: Opened, z: float) -> tuple[float, float]:
    """Of the true share, z standard deviations away (Wilson 1927); 0 and 1 without connections."""
    number = opened.connections
    if not number:
        return 0.0, 1.0
    share, squared = opened.repeated / number, z * z
    middle = share + squared / (2 * number)
    half = z * sqrt(share * (1 - share) / number + squared / (4 * number * number))
    return max(0.0, (middle - half) / (1 + squared / number)), min(
        1.0, (middle + half) / (1 + squared / number)
    )


def is_too_high(figures: Figures, spec: PassiveSpec) -> bool:
    """Surely, by both bounds."""
    lower, upper = bounds(figures.own, OWN_Z)[0], bounds(figures.siblings, SIBLINGS_Z)[1]
    return lower > max(spec.share, spec.factor * upper)


def is_unsuspicious(figures: Figures, spec: PassiveSpec) -> bool:
    """Not even by the shares as they are. Between this and `is_too_high` a state stays."""
    return (figures.own.share or 0.0) <= max(spec.share, spec.factor * (figures.siblings.share or 0.0))


def better_half(siblings: Iterable[Opened]) -> Opened:
    """Of those with connections, pooled."""
    ordered = sorted((each for each in siblings if each.connections), key=lambda each: each.share or 0.0)
    half = ordered[: ceil(len(ordered) / 2)]
    return Opened(sum(each.connections for each in half), sum(each.repeated for each in half))


@dataclass
class _Watched:
    state: PassiveState = NORMAL
    samples: deque[tuple[float, Opened]] = field(default_factory=deque)
    """Counts so far, by time."""
    figures: Figures = NO_FIGURES
    too_high: int = 0
    unsuspicious: int = 0
    """Looks in a row."""
    judged: float = 0.0
    """When it last had enough connections, or its state began."""
    until: float = 0.0
    """When it is no more ejected."""
    failed_trials: int = 0

    def take(self, total: Opened, now: float) -> Opened:
        """The connections of the window, with this count."""
        if self.samples and total.connections < self.samples[-1][1].connections:
            self.samples.clear()  # it is another backend of that name
        self.samples.append((now, total))
        while now - self.samples[0][0] > WINDOW:
            self.samples.popleft()
        before = self.samples[0][1]
        connections = total.connections - before.connections
        return Opened(connections, min(connections, max(0, total.repeated - before.repeated)))

    def enter(self, state: PassiveState, now: float) -> None:
        self.state, self.judged, self.too_high, self.unsuspicious = state, now, 0, 0
        if state in (EJECTED, TRIAL):
            while len(self.samples) > 1:  # a trial is judged by what came since
                self.samples.popleft()


class PassiveHealth:
    """Of one service. `look` it over every few seconds."""

    def __init__(self) -> None:
        self._watched: dict[str, _Watched] = {}

    def state(self, backend: str) -> PassiveState:
        return self._watched[backend].state if backend in self._watched else NORMAL

    def figures(self, backend: str) -> Figures:
        """Those of the last look."""
        return self._watched[backend].figures if backend in self._watched else NO_FIGURES

    def part(self, backend: str, spec: PassiveSpec) -> float:
        """The part of its weight that it gets."""
        state = self.state(backend)
        if state is EJECTED:
            return spec.weight
        return max(TRIAL_SHARE, spec.weight) if state is TRIAL else 1.0

    def look(
        self, totals: Mapping[str, Opened], serving: Collection[str], spec: PassiveSpec, now: float
    ) -> list[Change]:
        """`totals`: counts so far of the backends that are to take connections; `serving`: which of these do, but
        for passive health. Others are forgotten."""
        self._watched = {name: self._watched.get(name) or _Watched(judged=now) for name in totals}
        before = {name: each.state for name, each in self._watched.items()}
        opened = {name: each.take(totals[name], now) for name, each in self._watched.items()}
        for name, each in self._watched.items():
            siblings = [found for other, found in opened.items() if other != name]
            if each.state is not EJECTED:
                each.figures = Figures(opened[name], better_half(siblings))
            self._judge(each, spec, now)
        self._eject(set(serving), spec, now)
        return [
            Change(name, before[name], each.state, each.figures)
            for name, each in self._watched.items()
            if each.state is not before[name]
        ]

    def _judge(self, each: _Watched, spec: PassiveSpec, now: float) -> None:
        if each.state in (EJECTED, TRIAL) and not spec.eject:
            each.enter(SUSPECT, now)
        if each.state is EJECTED:
            if now >= each.until:
                each.enter(TRIAL, now)
            return
        if each.figures.own.connections >= spec.connections:
            each.judged = now
            each.too_high = each.too_high + 1 if is_too_high(each.figures, spec) else 0
            each.unsuspicious = each.unsuspicious + 1 if is_unsuspicious(each.figures, spec) else 0
        is_cleared = now - each.judged >= PATIENCE or each.unsuspicious >= (
            TRIAL_LOOKS if each.state is TRIAL else NOT_TOO_HIGH_LOOKS
        )
        if each.state is NORMAL and each.too_high >= TOO_HIGH_LOOKS:
            each.enter(SUSPECT, now)
        elif each.state is TRIAL and each.too_high:
            each.failed_trials += 1
            self._put_out(each, spec, now)
        elif each.state is not NORMAL and is_cleared:
            each.failed_trials = 0
            each.enter(NORMAL, now)

    def _put_out(self, each: _Watched, spec: PassiveSpec, now: float) -> None:
        each.until = now + spec.trial_after * (1 << min(each.failed_trials, MOST_DOUBLINGS))
        each.enter(EJECTED, now)

    def _eject(self, serving: set[str], spec: PassiveSpec, now: float) -> None:
        """As many suspects as there is room for, the worst first; if too many are out, the best come back."""
        by_share = sorted(self._watched, key=lambda name: -(self._watched[name].figures.own.share or 0.0))
        out = [name for name in by_share if self._watched[name].state in (EJECTED, TRIAL)]
        room = floor(spec.at_most * len(self._watched)) - len((set(self._watched) - serving) | set(out))
        while room < 0 and out:
            name = out.pop()
            self._watched[name].enter(SUSPECT, now)
            room += name in serving
        for name in by_share if spec.eject else ():
            each = self._watched[name]
            if room > 0 and each.state is SUSPECT and name in serving:
                self._put_out(each, spec, now)
                room -= 1
