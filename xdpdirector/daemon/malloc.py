# SPDX-License-Identifier: Apache-2.0
"""Tunes glibc's malloc and Python's garbage collector for a process that runs for months.

glibc gives each thread a heap of its own, and keeps what was freed; with each large block that is freed it puts the
next ones into the heap, where they leave holes. Python's collector of garbage looks through all objects now and
then, and nothing else runs meanwhile. Knows nothing of what the memory is for.
"""

from __future__ import annotations

import ctypes as ct
import gc

# malloc.h; mallopt(3)
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
THRESHOLD = 128 << 10  # octets; glibc's own, which setting it keeps from growing
RARELY = 200  # collections of what is young, until all is looked through


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
    tenth of a second without a check. All that came later is looked through seldom: a large document that lives for
    a moment is no reason."""
    gc.collect()
    gc.freeze()
    often, seldom, _ = gc.get_threshold()
    gc.set_threshold(often, seldom, RARELY)
