# SPDX-License-Identifier: Apache-2.0
"""Single keys from a terminal, without waiting for the end of a line."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

ENDS = ("q", "Q", "\x1b")


@contextmanager
def keys() -> Iterator[None]:
    """For the block, keys come one by one and are not shown; nothing changes without a terminal."""
    if not sys.stdin.isatty():
        yield
        return
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSANOW, before)


def is_over(seconds: float) -> bool:
    """Wait so long; True at once when the key for the end was pressed."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if not sys.stdin.isatty():
            time.sleep(left)
        elif select.select([sys.stdin], [], [], left)[0] and os.read(sys.stdin.fileno(), 64).decode(
            errors="replace"
        ).startswith(ENDS):
            return True
    return False
