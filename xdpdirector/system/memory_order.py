# SPDX-License-Identifier: Apache-2.0
"""Whether processors see loads and stores in the order of the program, and what keeps it where they do not.

On x86-64 they do (Intel SDM 3A, 8.2.2), and need nothing. On arm64 what is stored first may be seen last, and what
is read first may be older than what is read next (Arm ARM, B2.3). Knows nothing of what is stored.
"""

from __future__ import annotations

import platform
from threading import Lock

_KEEPING = ("x86_64", "i686")


def is_kept(machine: str = "") -> bool:
    """On that machine (uname -m), by default this one."""
    return (machine or platform.machine()) in _KEEPING


def _barrier() -> None:
    """A lock is released and then taken. Each half is a barrier in one direction; an acquire behind a release is
    not swapped with it (Arm ARM, B2.3.7), so together they are one for all."""
    lock = Lock()
    with lock:
        pass
    with lock:
        pass


def _nothing() -> None:
    """The processors do it."""


barrier = _nothing if is_kept() else _barrier
"""For all processors, what this thread has loaded and stored before the call happens before what it does behind
it."""
