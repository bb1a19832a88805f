# SPDX-License-Identifier: Apache-2.0
"""Tunes glibc's malloc and Python's garbage collector for a process that runs for months.

glibc gives each thread a heap of its own, and keeps what was freed; with each large block that is freed it puts the
next ones into the heap, where they leave holes. Python's collector of garbage looks through all objects now and
then, and nothing else runs meanwhile. Knows nothing of what the memory is for.
"""

from __future__ import annotations

import asyncio
import ctypes as ct
import gc
import sys
from collections import deque
from collections.abc import Awaitable, Callable

# malloc.h; mallopt(3)
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
THRESHOLD = 128 << 10  # octets; glibc's own, which setting it keeps from growing
DUE = 100  # collections of what is young, until all is looked through at the next quiet moment
LATEST = 1000  # the same, without a quiet moment: bounds what cycles of objects hold
LOOK_EVERY = 0.2  # seconds
LOOKS = 50  # that say what a quiet moment is
QUIET = 1.01  # of the fewest objects that were seen


def give_back() -> None:
    """From now on one heap for all threads, large blocks beside it, and what is free at its end goes back. Nothing
    happens with a C library that has no such settings."""
    mallopt = getattr(ct.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    for parameter, value in ((M_ARENA_MAX, 1), (M_MMAP_THRESHOLD, THRESHOLD), (M_TRIM_THRESHOLD, THRESHOLD)):
        mallopt(parameter, value)


def settle() -> None:
    """What is there now stays: the collector looks at it no more. It took a tenth of a second each time, which is a
    tenth of a second without a check. All that came later is looked through by `collect_at_quiet_moments`."""
    gc.collect()
    gc.freeze()
    often, seldom, _ = gc.get_threshold()
    gc.set_threshold(often, seldom, LATEST)


async def collect_at_quiet_moments(
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    allocated: Callable[[], int] = sys.getallocatedblocks,
) -> None:
    """Look through all objects when it is due and few are there: a large document that lives for a moment would
    make it take twice as long. Never ends."""
    seen = deque[int](maxlen=LOOKS)
    while True:
        await sleep(LOOK_EVERY)
        if gc.get_count()[2] < DUE:
            continue
        seen.append(allocated())
        if len(seen) == LOOKS and seen[-1] <= QUIET * min(seen):
            gc.collect()
            seen.clear()
