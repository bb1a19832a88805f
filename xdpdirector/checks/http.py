# SPDX-License-Identifier: Apache-2.0
"""The `http` check: GET, and a look at the status.

The answer is read to its end, so that the server's log shows nothing odd, but 64 KiB of it at most. h11
speaks the protocol; this file must not know how the connection was made.
"""

from __future__ import annotations

import asyncio
import socket

import h11

from xdpdirector.checks import CheckFailed, place, tcp
from xdpdirector.checkspec import CheckSpec, HttpCheck
from xdpdirector.durations import format_duration
from xdpdirector.model import Address

LIMIT = 65536


async def probe(spec: CheckSpec, address: Address, port: int) -> None:
    """Fine when the whole answer, or 64 KiB of it, came in time, with a status that is wanted."""
    assert isinstance(spec, HttpCheck)
    talk = _Talk(spec, address, port)
    try:
        async with asyncio.timeout(spec.timeout), tcp.connection(address, port) as opened:
            await talk.run(opened)
    except TimeoutError:
        raise CheckFailed(f"{talk.waited_for} within {format_duration(spec.timeout)}") from None


class _Talk:
    """One request and its answer. `waited_for` says what is missing should the time be over now."""

    def __init__(self, spec: HttpCheck, address: Address, port: int) -> None:
        self._spec, self._port = spec, port
        self._host = f"[{address}]" if address.version == 6 else str(address)
        self._peer = place(address, port)
        self._request = f"GET {spec.path}"
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=LIMIT)
        self._begin, self._received = b"", 0
        self.waited_for = f"no answer from {self._peer}"

    async def run(self, opened: socket.socket) -> None:
        self.waited_for = f"{self._peer} opened the connection but did not answer {self._request}"
        await asyncio.get_running_loop().sock_sendall(opened, self._question())
        status = await self._status(opened)
        if status not in self._spec.status:
            wanted = " or ".join(str(number) for number in self._spec.status)
            raise CheckFailed(f"{self._request} answered {status}, expected {wanted}")
        self.waited_for = f"the answer to {self._request} from {self._peer} did not end"
        await self._rest(opened)

    def _question(self) -> bytes:
        host = self._spec.host or (self._host if self._port == 80 else f"{self._host}:{self._port}")
        headers = [("Host", host), ("User-Agent", "xdpdirector"), ("Accept", "*/*"), ("Connection", "close")]
        head = self._http.send(h11.Request(method="GET", target=self._spec.path, headers=headers))
        return (head or b"") + (self._http.send(h11.EndOfMessage()) or b"")

    async def _status(self, opened: socket.socket) -> int:
        """The final status; 1xx answers before it do not count."""
        while not isinstance(event := await self._event(opened), h11.Response):
            if event is None:
                raise CheckFailed(f"{self._request} answered with 64 KiB of headers, which is too much")
        return event.status_code

    async def _rest(self, opened: socket.socket) -> None:
        while isinstance(await self._event(opened), h11.Data):
            pass

    async def _event(self, opened: socket.socket) -> object:
        """The next thing the server says; None when 64 KiB of it are enough."""
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                raise CheckFailed(self._why_not(error)) from error
            if event is not h11.NEED_DATA:
                return event
            if self._received >= LIMIT:
                return None
            data = await asyncio.get_running_loop().sock_recv(opened, min(16384, LIMIT - self._received))
            self._begin, self._received = (self._begin + data)[:40], self._received + len(data)
            self._http.receive_data(data)

    def _why_not(self, error: Exception) -> str:
        if not self._begin:
            return f"{self._peer} closed the connection without an answer to {self._request}"
        if self._begin.startswith(b"HTTP/1."):
            return f"the answer to {self._request} from {self._peer} is broken: {error}"
        begin = self._begin.decode("ascii", "replace").splitlines()[0]
        return f"the answer from {self._peer} is not HTTP: it begins with {begin!r}"
