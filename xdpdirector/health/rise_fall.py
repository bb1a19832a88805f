# SPDX-License-Identifier: Apache-2.0
"""The health of one backend: observations in, transitions out. Pure.

    state     observation   becomes   when
    unknown   success       up        at once
    unknown   failure       down      at once
    up        failure       down      after `fall` failures in a row
    down      success       up        after `rise` successes in a row

The first observation decides at once, so that a new or restarted director serves after one round of checks.
This module must not know sockets, clocks or tasks; the time is whatever the caller says it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from xdpdirector.model.status import Operational

_TURNS: dict[tuple[Operational, bool], tuple[Operational, str]] = {
    (Operational.UNKNOWN, True): (Operational.UP, "once"),
    (Operational.UNKNOWN, False): (Operational.DOWN, "once"),
    (Operational.UP, False): (Operational.DOWN, "fall"),
    (Operational.DOWN, True): (Operational.UP, "rise"),
}


@dataclass(frozen=True)
class Transition:
    """A change of the verdict; `reason` is the failure's sentence, empty when the backend came up."""

    before: Operational
    after: Operational
    reason: str
    at: float


@dataclass(frozen=True)
class HealthReport:
    """What is known. `reason` explains the present: empty while nothing fails. Times are the caller's `now`.

    `successes` and `failures` count in a row: one of them is always 0. `last_failure` stays after recovery. `share`
    is the part of its weight that the backend asks for.
    """

    operational: Operational
    reason: str
    since: float
    successes: int = 0
    failures: int = 0
    last_failure: str = ""
    share: float = 1.0


_BEST_FIRST = (Operational.UP, Operational.UNKNOWN, Operational.DOWN)


def best(reports: Iterable[HealthReport]) -> HealthReport:
    """The first of those that are best."""
    return min(reports, key=lambda report: _BEST_FIRST.index(report.operational))


class Health:
    """The machine. It starts `unknown`, `since` the given time, or goes on where `earlier` says."""

    def __init__(self, *, rise: int, fall: int, now: float, earlier: HealthReport | None = None) -> None:
        self._needed = {"once": 1, "rise": rise, "fall": fall}
        self._state = earlier.operational if earlier else Operational.UNKNOWN
        self._since = earlier.since if earlier else now
        self._reason = earlier.reason if earlier else ""
        self._last_failure = earlier.last_failure if earlier else ""
        self._successes = self._failures = 0

    def observe(self, ok: bool, reason: str, now: float) -> Transition | None:
        """Take in one result; the transition, if it was the deciding one. `reason` is of a failure."""
        if ok:
            self._successes, self._failures = self._successes + 1, 0
        else:
            self._successes, self._failures = 0, self._failures + 1
            self._reason = self._last_failure = reason
        turn = _TURNS.get((self._state, ok))
        before = self._state
        if turn and max(self._successes, self._failures) >= self._needed[turn[1]]:
            self._state, self._since = turn[0], now
        if self._state is Operational.UP and ok:
            self._reason = ""
        return Transition(before, self._state, self._reason, now) if self._state is not before else None

    def report(self) -> HealthReport:
        """The present verdict."""
        return HealthReport(
            self._state, self._reason, self._since, self._successes, self._failures, self._last_failure
        )
