# SPDX-License-Identifier: Apache-2.0
"""Standard input, output and error as a command finds them: closed, full, or in a narrow encoding.

Knows descriptors and encodings; nothing of what is written.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator

_CANNOT_BE_WRITTEN = {errno.EBADF, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
# A closed descriptor would be the next that is opened, such as the socket to the daemon. What takes its place
# refuses what the standard stream is for, so that a lost output is an error; messages may be lost.
_PLACEHOLDERS = {0: os.O_WRONLY, 1: os.O_RDONLY, 2: os.O_RDWR}


def prepare() -> None:
    """Occupy closed descriptors, and write characters that the encoding lacks as escapes."""
    for number, mode in _PLACEHOLDERS.items():
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # the lowest free descriptor: `number`
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def reporting() -> Iterator[None]:
    """What cannot be written ends the command as it ends others: with a sentence and status 1."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.errno not in _CANNOT_BE_WRITTEN or error.filename is not None:
            raise
        give_up_output()
        print(f"xdpdirector: write error: {error.strerror}", file=sys.stderr)
        raise SystemExit(1) from None


def give_up_output() -> None:
    """Nobody reads any more. The interpreter flushes once more at the end: let that not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
