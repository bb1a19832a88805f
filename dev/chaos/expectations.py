# SPDX-License-Identifier: Apache-2.0
"""Was a chaos run as it should be? Pure decisions over what was done, what was said, and what the clients saw.

What is promised: a connection that runs on a living backend is never reset, moved, closed or left without an
answer. A new connection is served, be it late: while the director's network is disturbed, its first packets get
lost. A disturbance is named by the director while it lasts. All backends live all the time, so there is no excuse.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from dev.chaos import client_log, results
from dev.chaos.client_log import Ended, Second
from dev.chaos.disturbances import DETAIL, NAMED, UNREACHABLE
from dev.chaos.observer import Said
from dev.chaos.results import Done
from dev.chaos.schedule import DISTURBANCE

PROBLEM, RECOVERED = "director.problem", "director.recovered"
NAMED_WITHIN = 3.0  # seconds after it has ended: problems are looked at once a second
LAG = 2.0  # seconds by which clients that come late had no processor
LAGGING = 0.1  # of the seconds; with more the machine was too busy
LATEST = 6  # actions before something broke that are told with it


class Verdict(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    BUSY = "busy"


@dataclass(frozen=True)
class Broken:
    """A connection that broke, and what had been begun last, the latest first."""

    connection: Ended
    before: tuple[Done, ...]


@dataclass(frozen=True)
class Finding:
    """What is not as it should be, but for connections."""

    at: float
    text: str


def broken(connections: Sequence[Ended], actions: Sequence[Done]) -> list[Broken]:
    """In the order of time."""
    return [
        Broken(each, latest(actions, each.at))
        for each in sorted(connections, key=lambda each: each.at)
        if each.broken
    ]


def latest(actions: Sequence[Done], moment: float) -> tuple[Done, ...]:
    """Those that began last before this moment, what still went on then first."""
    begun = [each for each in actions if each.began <= moment]
    return tuple(sorted(begun, key=lambda each: (each.ended >= moment, each.began), reverse=True)[:LATEST])


def names(action: Done, said: Sequence[Said]) -> str | None:
    """The first words by which the director named that disturbance; None when it did not. A problem that it has
    already is not said once more."""
    pattern = re.compile(NAMED[action.action.kind].replace(DETAIL, re.escape(action.detail)))
    during = [each for each in said if action.began <= each.at <= action.ended + NAMED_WITHIN]
    for each in (*_standing(said, action.began), *during):
        if pattern.search(each.text) or pattern.search(each.kind):
            return each.text
    return None


def _standing(said: Sequence[Said], moment: float) -> list[Said]:
    """The problems at that moment. A daemon that starts has none."""
    found: dict[str, Said] = {}
    for each in said:
        if each.at >= moment:
            break
        if each.kind == UNREACHABLE:
            found.clear()
        elif each.kind == PROBLEM:
            found[each.text] = each
        elif each.kind == RECOVERED:
            found.pop(each.text.removeprefix("no more: "), None)
    return list(found.values())


def findings(actions: Sequence[Done], said: Sequence[Said]) -> list[Finding]:
    """Disturbances that were not named, and actions that failed."""
    found = [
        Finding(each.began, f"{each.action.lane}: {each.action} failed: {each.detail}")
        for each in actions
        if each.outcome == results.FAILED
    ]
    found += [
        Finding(each.began, f"the director did not name it: {each.action}")
        for each in actions
        if each.action.lane == DISTURBANCE and each.outcome == results.OK and names(each, said) is None
    ]
    return sorted(found, key=lambda each: each.at)


def too_busy(seconds: Sequence[Second]) -> bool:
    """Whether the clients had no processor too often for a judgement of what came late."""
    lagging = sum(each.lag > LAG for each in seconds)
    return lagging > LAGGING * max(1, len(seconds))


def verdict(broke: Sequence[Broken], found: Sequence[Finding], seconds: Sequence[Second]) -> Verdict:
    """A machine without time excuses what came too late, and nothing else."""
    if not broke and not found:
        return Verdict.PASS
    only_late = not found and all(each.connection.outcome == client_log.SILENT for each in broke)
    return Verdict.BUSY if only_late and too_busy(seconds) else Verdict.FAIL
