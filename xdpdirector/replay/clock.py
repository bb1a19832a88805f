# SPDX-License-Identifier: Apache-2.0
"""The capture's time, as the packet path and the sweep read it. Pure."""

from __future__ import annotations

import numpy as np

from xdpdirector.dataplane.jiffies import Clock
from xdpdirector.dataplane.maps import Array

HZ = 250  # as Debian's kernels have it
START = 1 << 24  # jiffies: nothing was seen longer ago
LONGEST_GAP = 2 * 86400.0  # seconds: no time-out is longer than a day, and records count in few bits


class CaptureClock(Clock):
    """Stands where it was set: at the time of a frame."""

    def __init__(self) -> None:
        self.hz = HZ
        self.at = START

    def close(self) -> None:
        """It holds nothing."""

    def now(self) -> int:
        return self.at & 0xFFFFFFFF


class Passing:
    """Turns the times of frames into seconds since the first one, that never go back and never jump far."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._seconds = 0.0

    def seconds(self, times: Array) -> Array:
        """`times`: nanoseconds of the next frames."""
        before = int(times[0]) if self._last is None else self._last
        ordered = np.maximum.accumulate(np.maximum(times, before))
        gaps = np.diff(ordered, prepend=before) / 1e9
        passed: Array = self._seconds + np.minimum(gaps, LONGEST_GAP).cumsum()
        self._last, self._seconds = int(ordered[-1]), float(passed[-1])
        return passed


def jiffies(seconds: Array) -> Array:
    """Of the capture's time."""
    ticks: Array = (seconds * HZ).astype(np.uint64) + np.uint64(START)
    return ticks
