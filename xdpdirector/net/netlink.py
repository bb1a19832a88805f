# SPDX-License-Identifier: Apache-2.0
"""Two rtnetlink sockets: `Requests` sends requests and returns the answers, `Events` receives notifications.

pyroute2 encodes and decodes; its own AsyncIPRoute is not used, because one overflow of the receive buffer
(ENOBUFS) makes that object unusable permanently. The kernel answers a request before `send` returns
(rtnetlink is synchronous), so `Requests` does not block and may be used on an asyncio loop. Does not
interpret messages. A socket belongs to the network namespace of the thread that makes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
import sys
from collections.abc import Callable, Collection, Iterator
from itertools import count
from typing import Any, Self

from pyroute2.netlink import NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

SOL_NETLINK = 270
ADD_MEMBERSHIP, EXT_ACK = 1, 11
SO_RCVBUFFORCE = 33
RECEIVE_BUFFER = 1 << 20
LARGEST = 1 << 16
HEADER = struct.Struct("=IHHII")
ANSWER_TIMEOUT = 2.0
DUMP_TRIES = 5
READS_AT_ONCE = 64

Message = Any  # a pyroute2 nlmsg: fields by ["name"], attributes by .get_attr("NAME")


class Requests:
    """rtnetlink requests. A refusal is an OSError with the errno and, if the kernel provides it, its message."""

    def __init__(self, make: Callable[[int, int, int], socket.socket] = socket.socket) -> None:
        """`make`: creates the socket, and so determines the network namespace."""
        self._socket = make(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.settimeout(ANSWER_TIMEOUT)
        self._socket.setsockopt(SOL_NETLINK, EXT_ACK, 1)
        self._socket.bind((0, 0))
        self._marshal = MarshalRtnl()
        self._sequence = count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def get(self, kind: int, message: Message) -> Message:
        """Send a get request; returns the single answer."""
        return self._ask(kind, NLM_F_REQUEST, message)[0]

    def change(self, kind: int, message: Message, flags: int = 0) -> None:
        """Send a request that the kernel only acknowledges. `flags`: as NLM_F_CREATE."""
        self._ask(kind, NLM_F_REQUEST | NLM_F_ACK | flags, message)

    def dump(self, kind: int, message: Message) -> list[Message]:
        """The whole table, read again if it changed meanwhile (NLM_F_DUMP_INTR)."""
        for _ in range(DUMP_TRIES):
            answer = self._ask(kind, NLM_F_REQUEST | NLM_F_DUMP, message)
            if not any(part["header"]["flags"] & NLM_F_DUMP_INTR for part in answer):
                break
        return answer

    def _ask(self, kind: int, flags: int, message: Message) -> list[Message]:
        sequence = next(self._sequence) & 0xFFFFFFFF
        message["header"].update(type=kind, flags=flags, sequence_number=sequence, pid=0)
        message.reset()
        message.encode()
        self._socket.send(message.data)
        answer: list[Message] = []
        for part in self._parts(sequence):
            error = part["header"]["error"]
            if error is not None:
                raise _os_error(error)
            if part["header"]["type"] in (NLMSG_DONE, NLMSG_ERROR):
                break
            answer.append(part)
            if not flags & NLM_F_DUMP:
                break
        return answer

    def exchange(self, kind: int, body: bytes, flags: int = 0) -> bytes:
        """Send one request as bytes (see `rtnetlink_messages`); returns the answer, empty for an
        acknowledgement. Both without the message header."""
        sequence = next(self._sequence) & 0xFFFFFFFF
        length = HEADER.size + len(body)
        self._socket.send(HEADER.pack(length, kind, NLM_F_REQUEST | flags, sequence, 0) + body)
        while True:
            data, offset = self._socket.recv(LARGEST), 0
            while offset + HEADER.size <= len(data):
                length, found, _, number, _ = HEADER.unpack_from(data, offset)
                if number == sequence:
                    return _answer(found, data[offset + HEADER.size : offset + length])
                offset += max(HEADER.size, length + 3 & ~3)

    def _parts(self, sequence: int) -> Iterator[Message]:
        while True:
            for part in self._marshal.parse(self._socket.recv(LARGEST)):
                if part["header"]["sequence_number"] == sequence:
                    yield part


def _answer(kind: int, body: bytes) -> bytes:
    if kind != NLMSG_ERROR:
        return body
    code = -int.from_bytes(body[:4], sys.byteorder, signed=True)
    if code:
        raise OSError(code, os.strerror(code))
    return b""


def _os_error(error: Exception) -> OSError:
    if isinstance(error, OSError):
        return error
    if isinstance(error, NetlinkError):
        return OSError(error.code, error.args[1] if len(error.args) > 1 else os.strerror(error.code))
    return OSError(errno.EPROTO, f"the kernel's answer cannot be read: {error}")


class Events:
    """Subscribes to multicast groups of rtnetlink on the running loop.

    `on_event(type, message)` is called for each message; messages are decoded only for the types in `decode`,
    else None. `on_overflow()` is called when the kernel dropped messages (netlink(7), ENOBUFS): read
    everything again.
    """

    def __init__(
        self,
        groups: Collection[int],
        on_event: Callable[[int, Message | None], None],
        on_overflow: Callable[[], None],
        *,
        decode: Collection[int] = (),
        receive_buffer: int = RECEIVE_BUFFER,
    ) -> None:
        self._on_event, self._on_overflow, self._decode = on_event, on_overflow, frozenset(decode)
        self._marshal = MarshalRtnl()
        self._socket = socket.socket(
            socket.AF_NETLINK,
            socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
            socket.NETLINK_ROUTE,
        )
        with contextlib.suppress(PermissionError):
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, receive_buffer)
        self._socket.bind((0, 0))
        for group in groups:
            self._socket.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, group)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._read)

    def close(self) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _read(self) -> None:
        for _ in range(READS_AT_ONCE):
            try:
                data = self._socket.recv(LARGEST)
            except BlockingIOError:
                return
            except OSError:
                self._on_overflow()
                return
            for kind, message in self._messages(data):
                self._on_event(kind, message)

    def _messages(self, data: bytes) -> Iterator[tuple[int, Message | None]]:
        offset = 0
        while offset + HEADER.size <= len(data):
            length, kind, *_ = HEADER.unpack_from(data, offset)
            if length < HEADER.size:
                return
            part = data[offset : offset + length]
            yield kind, next(self._marshal.parse(part), None) if kind in self._decode else None
            offset += (length + 3) & ~3
