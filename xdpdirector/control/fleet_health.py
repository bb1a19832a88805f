# SPDX-License-Identifier: Apache-2.0
"""Verdicts of a fleet's majority: a backend is down for all directors when more than half of them say so.

    here    majority   it counts as
    up      down       down: the rings of all directors stay equal
    down    up         up; and this director is not ready, once that lasted longer than a check takes to see it
    unknown            unknown

No more directors call themselves not ready for that than leave a majority, with those that leave for maintenance:
the first by name. Directors that do
not tell verdicts, or have none yet of a backend, have no vote on it. Pure but for the clock; knows nothing of etcd.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from xdpdirector.health.rise_fall import HealthReport
from xdpdirector.model import Address, Key
from xdpdirector.model.fleet import DirectorReport
from xdpdirector.model.status import Operational
from xdpdirector.state.edits import Services

MARGIN = 3.0
"""Seconds that another director may take to tell what it sees, on top of its checks."""
Place = tuple[Key, str]
"""A backend and a VIP."""


@dataclass(frozen=True)
class _Count:
    """Who says that it is down, of so many that say anything."""

    down: tuple[str, ...]
    voters: int

    @property
    def is_down(self) -> bool:
        return 2 * len(self.down) > self.voters

    @property
    def text(self) -> str:
        return f"down at {len(self.down)} of {self.voters} directors: {', '.join(self.down)}"


class FleetHealth:
    """Of one director. `services`: the wanted ones; `clock`: monotonic seconds."""

    def __init__(self, services: Callable[[], Services], clock: Callable[[], float] = time.monotonic) -> None:
        self._services, self._clock = services, clock
        self._counts: dict[Place, _Count] = {}
        self._apart: dict[Place, float] = {}
        """What this director does not reach and most do, and since when."""
        self._withdraws = False
        self._own, self._voters = "", 1
        """How many directors tell verdicts, this one included."""

    def take(self, own: DirectorReport, others: Mapping[str, DirectorReport]) -> set[str]:
        """What the live directors say now. The services of which backends count as something else than before."""
        reports = {**others, own.name: own}
        self._own, self._voters = own.name, sum(each.down is not None for each in reports.values())
        before, self._counts = self._counts, _counted(reports)
        places = {
            place
            for place, count in self._counts.items()
            if own.name in count.down and not count.is_down and count.voters > 1
        }
        now = self._clock()
        self._apart = {place: self._apart.get(place, now) for place in places}
        said = {name: each.apart for name, each in others.items()} | {own.name: self.is_apart()}
        leaving = {name for name, each in reports.items() if each.drain}
        strained = sorted(name for name, is_apart in said.items() if is_apart and name not in leaving)
        self._withdraws = own.name in strained[: max(0, (len(reports) - 1) // 2 - len(leaving))]
        return {
            place[0][0]
            for place in before.keys() | self._counts.keys()
            if before.get(place) != self._counts.get(place)
        }

    def is_apart(self) -> bool:
        """Whether this director, for longer than checks take, does not reach what most reach."""
        return any(self._lasts(place) for place in self._apart)

    def problems(self) -> list[str]:
        """A sentence for each thing for which this director is not ready."""
        if not self._withdraws:
            return []
        return [
            f"backend {'/'.join(key)} for VIP {vip} is down from here, and up from "
            f"{count.voters - len(count.down)} of {count.voters} directors"
            for (key, vip), count in self._counts.items()
            if self._lasts((key, vip))
        ]

    def _lasts(self, place: Place) -> bool:
        began, service = self._apart.get(place), self._services().get(place[0][0])
        if began is None or service is None or service.check is None:
            return False
        check = service.check
        return self._clock() - began > check.interval * check.fall + check.timeout + MARGIN

    def of(self, key: Key, vip: Address, own: HealthReport) -> HealthReport:
        """What counts, where this director says that."""
        if own.operational is Operational.UNKNOWN:
            return own
        count = self._counts.get((key, str(vip)))
        if count is None:  # nobody said so when it was asked last; now at most this one does
            if own.operational is Operational.UP:
                return own
            count = _Count((self._own,), self._voters)
        if count.is_down:
            reason = own.reason or "it is up from here"
            return replace(own, operational=Operational.DOWN, reason=f"{count.text} ({reason})")
        if own.operational is Operational.DOWN and count.voters > 1:
            return replace(own, operational=Operational.UP, reason=f"{count.text} ({own.reason})")
        return own


def _counted(reports: Mapping[str, DirectorReport]) -> dict[Place, _Count]:
    """Of all that somebody says is down."""
    found: dict[Place, list[str]] = {}
    for name, each in sorted(reports.items()):
        for backend, vips in (each.down or {}).items():
            service, _, key = backend.partition("/")
            for vip in vips:
                found.setdefault(((service, key), vip), []).append(name)
    return {place: _Count(tuple(names), _voters(reports, place)) for place, names in found.items()}


def _voters(reports: Mapping[str, DirectorReport], place: Place) -> int:
    backend = "/".join(place[0])
    return sum(each.down is not None and backend not in each.undecided for each in reports.values())
