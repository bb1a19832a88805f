# SPDX-License-Identifier: Apache-2.0
"""A connection for a check, plain or TLS: limited in time and bytes.

Uses plain sockets, not asyncio streams: `with` closes them at once, even when cancelled, and nothing waits
for the peer. Errors become sentences. Must not know the protocol spoken over the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from xdpdirector.health.checks import (
    CheckFailed,
    CheckImpossible,
    Dial,
    Target,
    errno_messages,
)
from xdpdirector.health.checks.budget import budget
from xdpdirector.model.checks import CheckSpec
from xdpdirector.model.durations import format_duration
from xdpdirector.model.patterns import Search

LIMIT = 65536
PIECE = 16384
FAREWELL = 0.2  # seconds

T = TypeVar("T")


@asynccontextmanager
async def channel(spec: CheckSpec, target: Target, dial: Dial) -> AsyncIterator[Channel]:
    """A connected channel; the block is limited to `spec.timeout`."""
    talk = Channel(target)
    with await errno_messages.dialled(dial, target, socket.SOCK_STREAM) as opened:
        try:
            async with budget(spec.timeout, lambda: talk.too_late(spec.timeout)):
                await asyncio.get_running_loop().sock_connect(opened, (str(target.address), target.port))
                talk.begin(opened)
                yield talk
        except OSError as error:
            raise errno_messages.sentence(error, target) from error


class Channel:
    """Raises CheckFailed, and OSError, which `channel` translates. `expected`: names the awaited data in
    messages."""

    def __init__(self, target: Target) -> None:
        self.target, self.expected = target, ""
        self._socket: socket.socket | None = None
        self._tls: ssl.SSLObject | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._kept, self._received = b"", 0
        self._search: Search | None = None

    def begin(self, opened: socket.socket) -> None:
        self._socket = opened

    @property
    def socket(self) -> socket.socket:
        assert self._socket is not None  # `channel` yields it only when connected
        return self._socket

    @property
    def received(self) -> int:
        """Number of bytes received so far."""
        return self._received

    @property
    def certificate(self) -> bytes:
        """The peer's certificate, DER; empty without TLS."""
        return (self._tls.getpeercert(binary_form=True) or b"") if self._tls else b""

    async def contains(self, expression: str, answer: bytes) -> bool:
        """True if the expression matches in the answer, within the remaining time."""
        self._search = Search(expression, answer)
        return await self._search.found()

    def too_late(self, timeout: float) -> CheckFailed | CheckImpossible:
        """The error for a time-out at this moment."""
        if self._search:
            return errno_messages.late_search(self._search, self.target, timeout)
        within = format_duration(timeout)
        if self._socket is None:
            return CheckFailed(f"no answer from {self.target} within {within}", absence="silent")
        missing = self.expected or "anything"
        return CheckFailed(f"{self.target} opened the connection but did not send {missing} within {within}")

    # Sending and receiving

    async def send(self, data: bytes) -> None:
        if tls := self._tls:
            await self._in_tls(lambda: tls.write(data))
        else:
            await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def receive(self, most: int = PIECE) -> bytes:
        """Some bytes; empty at the end of the connection."""
        if self._kept:
            data, self._kept = self._kept[:most], self._kept[most:]
            return data
        tls = self._tls
        try:
            data = await self._in_tls(lambda: tls.read(most)) if tls else await self._raw(most)
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""
        except ssl.SSLError as error:
            raise CheckFailed(f"TLS with {self.target} failed: {error.reason or error}") from error
        self._received += len(data)
        return data

    async def exactly(self, number: int) -> bytes:
        """Exactly this many bytes; CheckFailed if the connection ends before, or if there are too many."""
        data = b""
        while len(data) < number:
            data += await self._more(number - len(data))
        return data

    async def line(self) -> bytes:
        """The next line, without newline and carriage return."""
        data = b""
        while b"\n" not in data:
            data += await self._more(PIECE)
        first, _, rest = data.partition(b"\n")
        self._kept = rest + self._kept
        return first.rstrip(b"\r")

    async def farewell(self, data: bytes) -> None:
        """Send a final command on a best-effort basis: the result is already decided."""
        with contextlib.suppress(CheckFailed, OSError):
            async with asyncio.timeout(FAREWELL):
                await self.send(data)
                while self._received < LIMIT and await self.receive():
                    pass

    async def _more(self, most: int) -> bytes:
        if self._received >= LIMIT:
            raise CheckFailed(f"{self.target} sent more than 64 KiB, but not {self.expected}")
        if data := await self.receive(most):
            return data
        raise CheckFailed(f"{self.target} closed the connection without {self.expected}")

    async def _raw(self, most: int) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self.socket, most)

    # TLS

    async def secure(self, context: ssl.SSLContext, name: str | None) -> None:
        """Start TLS. OSError for all failures of it."""
        self.expected = "its part of the TLS handshake"
        self._kept = b""  # data received before TLS must not count as received in TLS (RFC 3207, section 6)
        tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        await self._in_tls(tls.do_handshake)
        self._tls = tls

    async def _in_tls(self, step: Callable[[], T]) -> T:
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                await self._flush()
                if data := await self._raw(PIECE):
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
                continue
            except ssl.SSLError:
                await self._flush()  # the alert that tells the peer why
                raise
            await self._flush()
            return done

    async def _flush(self) -> None:
        if data := self._outgoing.read():
            await asyncio.get_running_loop().sock_sendall(self.socket, data)
