# SPDX-License-Identifier: Apache-2.0
"""The health state machine of one target: probe results in, transitions out. Pure.

    state     observation   becomes   when
    unknown   success       up        at once
    unknown   failure       down      at once; to be confirmed: after `fall` failures in a row
    up        failure       down      after `fall` failures in a row
    down      success       up        after `rise` successes in a row

The first observation decides at once, so that a new or restarted director serves after one round of checks. Where
connections of another director are taken over, a first failure has to be confirmed: it would end those of a backend
that this director could not ask in time, for example because it was still booting.
Must not know sockets, clocks or tasks; the caller passes the time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from xdpdirector.model.status import Operational

_TURNS: dict[tuple[Operational, bool], tuple[Operational, str]] = {
    (Operational.UNKNOWN, True): (Operational.UP, "once"),
    (Operational.UNKNOWN, False): (Operational.DOWN, "first"),
    (Operational.UP, False): (Operational.DOWN, "fall"),
    (Operational.DOWN, True): (Operational.UP, "rise"),
}


@dataclass(frozen=True)
class Transition:
    """A change of state. `reason`: the failure as a sentence, empty when the target came up."""

    before: Operational
    after: Operational
    reason: str
    at: float


@dataclass(frozen=True)
class HealthReport:
    """The present state. `reason` explains it: empty while nothing fails. Times are the caller's `now`.

    `successes` and `failures` are consecutive: one of them is always 0. `last_failure` stays after recovery.
    `share`: the part of its weight that the backend requests.
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
    """The first of the best reports."""
    return min(reports, key=lambda report: _BEST_FIRST.index(report.operational))


class Health:
    """The state machine. Starts as `unknown`, `since` the given time, or continues from `earlier`. `confirm`: a
    first failure alone does not decide."""

    def __init__(
        self,
        *,
        rise: int,
        fall: int,
        now: float,
        earlier: HealthReport | None = None,
        confirm: bool = False,
    ) -> None:
        self._needed = {"once": 1, "first": fall if confirm else 1, "rise": rise, "fall": fall}
        self._state = earlier.operational if earlier else Operational.UNKNOWN
        self._since = earlier.since if earlier else now
        self._reason = earlier.reason if earlier else ""
        self._last_failure = earlier.last_failure if earlier else ""
        self._successes = self._failures = 0

    def observe(self, ok: bool, reason: str, now: float) -> Transition | None:
        """Process one result; returns the transition, if it caused one. `reason`: of a failure."""
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
        """The present state."""
        return HealthReport(
            self._state, self._reason, self._since, self._successes, self._failures, self._last_failure
        )
