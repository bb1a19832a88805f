# SPDX-License-Identifier: Apache-2.0
"""Reads jiffies as the packet path does. Knows the program `clock` in bpf/director.c, not what the time is
used for.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from xdpdirector import libbpf

_KNOWN_HZ = (100, 250, 300, 1000)
_PAUSES = (0.05, 0.1, 0.2, 0.4)  # seconds


class Clock:
    """Reads jiffies by running the program `clock` once per reading."""

    def __init__(self, program: Path) -> None:
        self._fd = libbpf.obj_get(program)
        self.hz = self._measure()

    def close(self) -> None:
        os.close(self._fd)

    def now(self) -> int:
        """The low 32 bits of jiffies."""
        return int.from_bytes(libbpf.prog_test_run(self._fd, bytes(64)).frame[:4], sys.byteorder)

    def jiffies(self, seconds: float) -> int:
        """Seconds in jiffies, at least 1."""
        return min(max(1, round(seconds * self.hz)), 0x7FFFFFFF)

    def _measure(self) -> int:
        """Jiffies per second. The kernel does not export CONFIG_HZ, so compare two readings, with growing
        pauses until only one rate is possible: a busy machine can delay each reading."""
        for pause in _PAUSES:
            before, first, after = time.monotonic(), self.now(), time.monotonic()
            time.sleep(pause)
            again, last, end = time.monotonic(), self.now(), time.monotonic()
            ticks = (last - first) & 0xFFFFFFFF
            possible = frequencies(ticks, again - after, end - before)
            if len(possible) == 1:
                return possible[0]
        return min(_KNOWN_HZ, key=lambda hz: abs(hz - ticks / (end - before)))


def frequencies(ticks: int, shortest: float, longest: float) -> list[int]:
    """The kernel tick rates (CONFIG_HZ) at which this many ticks fit into a time between the bounds, in
    seconds."""
    return [hz for hz in _KNOWN_HZ if shortest * hz - 1 < ticks < longest * hz + 1]
