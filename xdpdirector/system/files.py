# SPDX-License-Identifier: Apache-2.0
"""Files that a configuration or a command names: read without being held, read again when they are others, written
in one step.

Regular files only: a FIFO waits for a writer that may never come, a device may do anything. Knows no contents.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

LARGEST = 4 << 20  # octets; all authorities of a Debian are 220,000


class Fingerprint(NamedTuple):
    """Tells one state of a file from another, also when another one took its name."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int


def read(path: str | Path, most: int = LARGEST) -> tuple[bytes, Fingerprint]:
    """What is in there. OSError, with a sentence as strerror for what is no regular file, or too large."""
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with os.fdopen(opened, "rb") as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        content = file.read(most + 1)
        if len(content) > most:
            raise OSError(errno.EFBIG, f"it has more than {most >> 20} MiB", str(path))
        return content, _of(state)


def require_regular(path: str | Path) -> None:
    """OSError for what cannot be read as a file of this kind."""
    read(path)


@contextmanager
def replacing(path: Path, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """A new file, which gets its name when the block ends well. OSError.

    What somebody else put into the directory under the name that it has until then is removed, and neither written
    into nor waited for: its owner could read what is written."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(unfinished, flags, mode), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def fingerprint(path: str | Path) -> Fingerprint | None:
    """None when there is nothing, or nothing that may be looked at."""
    try:
        return _of(Path(path).stat())
    except OSError:
        return None


def _of(state: os.stat_result) -> Fingerprint:
    return Fingerprint(state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
