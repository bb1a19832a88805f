# SPDX-License-Identifier: Apache-2.0
"""Moments that stay where they are when the wall clock jumps: kept on the machine's own clock, which counts from
its boot, and told by the wall clock. Only over a reboot does the wall clock alone say when they are.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import NamedTuple

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
JUMP = timedelta(seconds=1)  # less is no jump: two clocks are not read at once


class Now(NamedTuple):
    """`at`: CLOCK_BOOTTIME, in seconds."""

    at: float
    wall: datetime


def now() -> Now:
    """By both clocks."""
    return Now(time.clock_gettime(time.CLOCK_BOOTTIME), wall_clock())


def wall_clock() -> datetime:
    """What may jump."""
    return datetime.now(UTC)


@cache
def boot() -> str:
    """Which start of the machine this is; empty when it is not known."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


@dataclass(frozen=True)
class Moment:
    """`at` and `wall`: when it is by both clocks, as they were when it was noted."""

    at: float
    wall: datetime

    def later(self, seconds: float) -> Moment:
        return Moment(self.at + seconds, self.wall + timedelta(seconds=seconds))

    def told(self, now: Now) -> datetime:
        """When it is by the wall clock as that is set now."""
        at = now.wall + timedelta(seconds=self.at - now.at)
        return self.wall if abs(at - self.wall) < JUMP else at


@dataclass(frozen=True)
class Stored:
    """A moment as it outlives this process. `boot`: the start of the machine from which `at` counts; without one,
    as earlier releases stored it, the wall clock counts."""

    wall: datetime
    at: float | None = None
    boot: str = ""

    def restored(self, now: Now, *, longest: float | None = None) -> Moment:
        """After a reboot by the wall clock, but `longest` seconds ahead at most: that clock may be wrong."""
        if self.at is not None and self.boot and self.boot == boot():
            return Moment(self.at, self.wall)
        ahead = (self.wall - now.wall).total_seconds()
        if longest is not None and ahead > longest:
            return Moment(*now).later(longest)
        return Moment(now.at + ahead, self.wall)


def stored(moment: Moment, now: Now) -> Stored:
    """To be restored later."""
    return replace(Stored(moment.told(now)), at=moment.at, boot=boot())
