# SPDX-License-Identifier: Apache-2.0
"""Writes captures for Wireshark and tcpdump: pcapng (draft-ietf-opsawg-pcapng), with a comment on each packet.

Three kinds of block, little-endian. Written here because the two libraries for it (python-pcapng, dpkt) have had no
release since 2022. Knows bytes only.
"""

from __future__ import annotations

import struct
from typing import IO

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_ETHERNET = 1  # LINKTYPE_ETHERNET
_COMMENT, _NAME, _RESOLUTION = 1, 2, 9
_NANOSECONDS = bytes([9])


class Writer:
    """Interfaces are numbered as they appear. Each packet is in the file when `packet` returns."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._interfaces: dict[str, int] = {}
        self._block(_SECTION, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
        file.flush()

    def packet(self, frame: bytes, length: int, time: float, interface: str, comment: str = "") -> None:
        """`frame`: the first bytes of `length`; `time` in seconds since the epoch."""
        if interface not in self._interfaces:
            self._interfaces[interface] = len(self._interfaces)
            options = _option(_NAME, interface.encode()) + _option(_RESOLUTION, _NANOSECONDS)
            self._block(_INTERFACE, struct.pack("<HHI", _ETHERNET, 0, 0) + options + _option(0, b""))
        stamp = round(time * 1_000_000) * 1000
        head = (self._interfaces[interface], stamp >> 32, stamp & 0xFFFFFFFF, len(frame), length)
        options = _option(_COMMENT, comment.encode()) + _option(0, b"") if comment else b""
        self._block(_PACKET, struct.pack("<IIIII", *head) + _padded(frame) + options)
        self._file.flush()

    def _block(self, kind: int, body: bytes) -> None:
        length = 12 + len(body)
        self._file.write(struct.pack("<II", kind, length) + body + struct.pack("<I", length))


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)


def _padded(value: bytes) -> bytes:
    return value + bytes(-len(value) % 4)
