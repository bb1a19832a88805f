# SPDX-License-Identifier: Apache-2.0
"""The installer's mark on a disk: whether an installation was begun or finished there, and by which answers.

It stands in the 4,096 octets before the first partition, which begins at 1 MiB: no partition table reaches there,
and no boot loader. It is the first that is written to a disk, so that a disk on which an installation was killed is
known as ours. Knows nothing of how a disk is chosen.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

SIZE = 4096
OFFSET = (1 << 20) - SIZE
_MAGIC = b"XDPDIRECTOR-INSTALL-CD\n"


class State(StrEnum):
    UNFINISHED = "unfinished"
    FINISHED = "finished"


@dataclass(frozen=True)
class Mark:
    """`answers`: the SHA-256 of the answer file, or empty without one."""

    state: State
    answers: str = ""


def pack(mark: Mark) -> bytes:
    content = _MAGIC + json.dumps({"state": mark.state, "answers": mark.answers}).encode()
    return content.ljust(SIZE, b"\0")


def unpack(block: bytes) -> Mark | None:
    """None when there is no mark, or one that cannot be read: then the disk is none of ours."""
    if not block.startswith(_MAGIC):
        return None
    try:
        said = json.loads(block[len(_MAGIC) :].rstrip(b"\0"))
        return Mark(State(said["state"]), str(said["answers"]))
    except (ValueError, KeyError, TypeError):
        return None


def write(disk: Path, mark: Mark) -> None:
    """On the medium when this returns."""
    descriptor = os.open(disk, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(descriptor, pack(mark), OFFSET)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
