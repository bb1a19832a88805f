# SPDX-License-Identifier: Apache-2.0
"""Sends frames from where it runs: `python -m xdpdirector.lab.capture_test.sender INTERFACE`.

Reads from standard input, one after the other: when the frame is due, in nanoseconds after the first (8 bytes), its
length (4 bytes), and the frame.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import Iterable

from xdpdirector.lab.capture_test.schedule import Played

_HEAD = struct.Struct("=QI")


def written(played: Iterable[Played]) -> bytes:
    """As `main` reads it."""
    return b"".join(_HEAD.pack(each.due, len(each.frame)) + each.frame for each in played)


def main() -> int:
    frames, at = sys.stdin.buffer.read(), 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((sys.argv[1], 0))
        began = time.monotonic_ns()
        while at < len(frames):
            due, length = _HEAD.unpack_from(frames, at)
            at += _HEAD.size
            time.sleep(max(0, began + due - time.monotonic_ns()) / 1e9)
            sender.send(frames[at : at + length])
            at += length
    return 0


if __name__ == "__main__":
    sys.exit(main())
