# SPDX-License-Identifier: Apache-2.0
"""One HTTP connection of the load generator: h11 speaks, asyncio carries. Knows nothing of schedules."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
import time
from collections.abc import Mapping
from types import MappingProxyType

import h11

_TOTAL_RETRANSMITS = 100  # offset of tcpi_total_retrans in struct tcp_info, linux/tcp.h
_READ = 16384
_OUTCOMES: Mapping[int, str] = MappingProxyType(
    {
        errno.ECONNREFUSED: "refused",
        errno.ECONNRESET: "reset",
        errno.EPIPE: "reset",
        errno.ETIMEDOUT: "timeout",
        errno.EHOSTUNREACH: "unreachable",
        errno.ENETUNREACH: "unreachable",
    }
)


class RefusedError(Exception):
    """The server answered, and not with 200."""


class Connection:
    """Open, ask one or more times, close."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._http = h11.Connection(h11.CLIENT)
        self._writer: asyncio.StreamWriter | None = None
        self.opened: float | None = None  # when opening began, on the monotonic clock
        self.connected = 0.0  # when it was open; 0: not yet
        self.server: str | None = None  # who answered last

    async def open(self) -> None:
        self.opened = time.monotonic()
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        self.connected = time.monotonic()

    async def ask(self, path: str, *, last: bool) -> str:
        """GET `path`; the body. Raises RefusedError, EOFError, OSError, or h11's ProtocolError."""
        assert self._writer
        if self._http.our_state is h11.DONE:
            self._http.start_next_cycle()
        request = h11.Request(
            method="GET",
            target=path,
            headers=[("Host", "lab"), ("Connection", "close" if last else "keep-alive")],
        )
        self._writer.write(self._http.send(request) + self._http.send(h11.EndOfMessage()))
        self.server = await self._answer()
        return self.server

    async def _answer(self) -> str:
        status, body = 0, b""
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                data = await self._reader.read(_READ)
                if not data:
                    raise EOFError("the server closed the connection")
                self._http.receive_data(data)
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                raise h11.RemoteProtocolError(f"unexpected {event!r}")
        if status != 200:
            raise RefusedError(str(status))
        return body.decode(errors="replace").strip()

    @property
    def resent(self) -> int:
        """Segments sent again on this connection so far."""
        endpoint = self._writer.get_extra_info("socket") if self._writer else None
        if endpoint is None:
            return 0
        try:
            information = endpoint.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TOTAL_RETRANSMITS + 4)
        except OSError:
            return 0
        (total,) = struct.unpack_from("=I", information, _TOTAL_RETRANSMITS)
        return int(total)

    def close(self) -> None:
        if self._writer:
            self._writer.transport.abort() if self._writer.is_closing() else self._writer.close()


def outcome(error: BaseException) -> str:
    """The word for what went wrong."""
    if isinstance(error, RefusedError):
        return "status"
    if isinstance(error, EOFError):
        return "closed"
    if isinstance(error, h11.ProtocolError):
        return "protocol"
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, OSError):
        return _OUTCOMES.get(error.errno or 0, "local")
    return "local"
