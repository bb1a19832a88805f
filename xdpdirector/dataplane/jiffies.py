# SPDX-License-Identifier: Apache-2.0
"""Time as the packet path reads it. Knows the program `clock` in bpf/director.c, not what the time is for."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from xdpdirector import libbpf

_KNOWN_HZ = (100, 250, 300, 1000)
_PAUSES = (0.05, 0.1, 0.2, 0.4)  # seconds


class Clock:
    """Jiffies, as the packet path reads them: asked of the kernel by running the program `clock` once."""

    def __init__(self, program: Path) -> None:
        self._fd = libbpf.obj_get(program)
        self.hz = self._measure()

    def close(self) -> None:
        os.close(self._fd)

    def now(self) -> int:
        """Jiffies, the low 32 bits."""
        return int.from_bytes(libbpf.prog_test_run(self._fd, bytes(64)).frame[:4], sys.byteorder)

    def jiffies(self, seconds: float) -> int:
        """A span of time in jiffies, at least 1."""
        return min(max(1, round(seconds * self.hz)), 0x7FFFFFFF)

    def _measure(self) -> int:
        """Jiffies a second. The kernel does not tell, so two readings do, further apart until they leave no doubt:
        a busy machine may delay each of them."""
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
    """At which of the kernel's tick rates (CONFIG_HZ) so many ticks can fall into a time of these bounds."""
    return [hz for hz in _KNOWN_HZ if shortest * hz - 1 < ticks < longest * hz + 1]
