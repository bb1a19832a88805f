# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.support.sctp_responder PORT`: answers INITs to a port as an SCTP server does (RFC 9260, 5.1), by
raw sockets for IPv4 and IPv6, where the kernel has no SCTP. It says `ready`, and ends with its standard input.

Own code, so that the check is not compared with itself.
"""

from __future__ import annotations

import select
import socket
import struct
import sys
from collections.abc import Callable
from threading import Thread
from types import TracebackType
from typing import Self

SCTP = 132
COOKIE = struct.pack("!HH", 7, 8) + b"abcd"
Reply = Callable[[bytes], list[bytes]]
"""Of an INIT packet, without IP header: what is sent back."""


def crc32c(data: bytes) -> bytes:
    """As it stands in a packet: the lowest octet first."""
    table = []
    for entry in range(256):
        for _ in range(8):
            entry = (entry >> 1) ^ (0x82F63B78 if entry & 1 else 0)
        table.append(entry)
    crc = 0xFFFFFFFF
    for octet in data:
        crc = table[(crc ^ octet) & 0xFF] ^ (crc >> 8)
    return (crc ^ 0xFFFFFFFF).to_bytes(4, "little")


def packet(init: bytes, chunk: bytes, tag: bytes | None = None) -> bytes:
    """Back to who sent the INIT, with its tag or another one."""
    head = init[2:4] + init[:2] + (init[16:20] if tag is None else tag)
    return head + crc32c(head + bytes(4) + chunk) + chunk


def init_ack(init: bytes) -> list[bytes]:
    value = struct.pack("!IIHHI", 77, 65536, 1, 1, 99) + COOKIE
    return [packet(init, struct.pack("!BBH", 2, 0, 4 + len(value)) + value)]


def abort(init: bytes) -> list[bytes]:
    return [packet(init, struct.pack("!BBH", 6, 0, 4))]


class Responder:
    """In a thread. `wrong`: what was the matter with INITs that came."""

    def __init__(self, port: int, reply: Reply = init_ack) -> None:
        self.wrong: list[str] = []
        self.answered = 0
        self._port, self._reply = port, reply
        self._sockets = [
            socket.socket(family, socket.SOCK_RAW, SCTP) for family in (socket.AF_INET, socket.AF_INET6)
        ]
        self._sockets[1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        self._sockets[0].setsockopt(socket.IPPROTO_IP, 8, 1)  # IP_PKTINFO
        self._ended, self._end = socket.socketpair()
        self._thread = Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.close()
        self._thread.join()
        for each in (*self._sockets, self._ended):
            each.close()

    def _serve(self) -> None:
        while True:
            ready, _, _ = select.select([*self._sockets, self._ended], [], [])
            if self._ended in ready:
                return
            for each in ready:
                self._answer(each)

    def _answer(self, at: socket.socket) -> None:
        data, extra, _, sender = at.recvmsg(65536, 256)
        init = data[(data[0] & 15) * 4 :] if at.family == socket.AF_INET else data
        if len(init) < 13 or init[2:4] != struct.pack("!H", self._port) or init[12] != 1:
            return
        if len(init) != 32 or init[4:8] != bytes(4) or init[14:16] != b"\0\x14":
            self.wrong.append(f"no INIT: {init.hex()}")
        if crc32c(init[:8] + bytes(4) + init[12:]) != init[8:12]:
            self.wrong.append(f"checksum: {init.hex()}")
        for level, kind, info in extra:  # from the address that was asked, which may be a VIP
            if (level, kind) == (socket.IPPROTO_IP, 8):
                about = [(level, kind, struct.pack("=I4s4s", 0, info[8:12], bytes(4)))]
            else:
                about = [(level, kind, info[:16] + bytes(4))]
        self.answered += 1
        for reply in self._reply(init):
            at.sendmsg([reply], about, 0, sender)


if __name__ == "__main__":
    with Responder(int(sys.argv[1])):
        print("ready", flush=True)
        sys.stdin.read()
