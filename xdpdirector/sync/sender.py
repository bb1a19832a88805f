# SPDX-License-Identifier: Apache-2.0
"""Sends this director's connections to one peer: all of them first, then what changes; all again when the link was
lost, when the peer asks, or when it could not keep up.

Nothing is queued but in the socket's buffer, which is bounded. Knows messages; no records' contents.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from xdpdirector.model.access import Endpoint
from xdpdirector.sync import messages
from xdpdirector.sync.hello import Hello
from xdpdirector.sync.interface import Connections
from xdpdirector.sync.messages import Kind, ProtocolError
from xdpdirector.sync.scanner import Batch
from xdpdirector.sync.status import Direction, PeerState

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds between two attempts to connect; doubled from one to the next
ANSWER_WITHIN = 5.0  # seconds: connecting, and each answer to a hello
HEARTBEAT_WITHIN = 10.0  # seconds without a heartbeat, after which the link counts as lost
MOST_UNSENT = 8 << 20  # octets in the socket's buffer, beyond which changes are dropped and all is sent again

log = logging.getLogger(__name__)


class Sender:
    """To one peer. `tls` makes the context for an attempt."""

    def __init__(
        self,
        peer: Endpoint,
        hello: Callable[[], Hello],
        connections: Connections,
        tls: Callable[[], ssl.SSLContext | None] = lambda: None,
    ) -> None:
        self.peer = peer
        self.peer_name = self.peer_version = ""
        self.clock: float | None = None
        """Seconds by which the peer's clock is ahead."""
        self._told_vips: tuple[str, ...] | None = None
        self._hello, self._connections, self._tls = hello, connections, tls
        self._state, self._why, self._sent = PeerState.CONNECTING, "not asked yet", 0
        self._lag: float | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._bulk_due, self._is_there = asyncio.Event(), asyncio.Event()

    def status(self) -> Direction:
        return Direction(state=self._state, why=self._why, records=self._sent, lag=self._lag)

    def see(self) -> None:
        """The peer is there: it has connected to this director. It is not left without connections until the next
        attempt."""
        self._is_there.set()

    async def run(self) -> None:
        """Connect, and go on until cancelled; wait between attempts."""
        pause = FIRST_PAUSE
        while True:
            begun = time.monotonic()
            self._state = PeerState.CONNECTING
            self._is_there.clear()
            try:
                await self._session()
            except (OSError, EOFError, TimeoutError, ProtocolError, ssl.SSLError) as error:
                self._why = _reason(error)
            finally:
                self._hang_up()
            pause = FIRST_PAUSE if time.monotonic() - begun > LONGEST_PAUSE else min(2 * pause, LONGEST_PAUSE)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._is_there.wait()

    def offer(self, batches: Sequence[Batch], *, renamed: bool, vips: tuple[str, ...] = ()) -> None:
        """What a scan found, and whether numbers mean something else since; every time, also when it is nothing.
        `vips`: that stand here."""
        if self._writer is None or self._state not in (PeerState.BULK, PeerState.SYNCED):
            return
        if self._writer.transport.get_write_buffer_size() > MOST_UNSENT:
            self._bulk_due.set()
            return
        if renamed:
            self._send_names(self._writer)
        for batch in batches:
            self._send(self._writer, batch)
        news = {"vips": vips} if vips != self._told_vips else {}
        self._told_vips = vips
        self._writer.write(messages.document(Kind.HEARTBEAT, at=time.monotonic(), **news))

    async def _session(self) -> None:
        async with asyncio.timeout(ANSWER_WITHIN):
            reader, writer = await self._opened()
            self._writer = writer
            writer.write(messages.document(Kind.HELLO, **self._hello().document()))
            refusal = await self._answer(reader)
        if refusal:
            self._state, self._why = PeerState.REFUSED, refusal
            await asyncio.sleep(LONGEST_PAUSE)
            return
        self._why, self._told_vips = "", None
        self._bulk_due.set()
        self._state = PeerState.BULK
        self._send_names(writer)
        await _until_one_fails(self._send_bulk(writer), self._hear(reader))

    async def _opened(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection. An attempt that began before the peer was there waits for TCP's next try, seconds later: it
        is given up once the peer is seen."""

        def opening() -> asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
            return asyncio.ensure_future(
                asyncio.open_connection(str(self.peer.address), self.peer.port, ssl=self._tls())
            )

        first, seen = opening(), asyncio.ensure_future(self._is_there.wait())
        either: tuple[asyncio.Future[Any], ...] = first, seen
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            return await (first if first.done() else opening())
        finally:
            first.cancel()
            seen.cancel()

    async def _answer(self, reader: asyncio.StreamReader) -> str:
        """Why it is not to be; empty when it is."""
        answer = await messages.read(reader)
        if answer.kind is Kind.REFUSED and isinstance(answer.body, dict):
            return f"it refuses this director: {str(answer.body.get('why', ''))[:500]}"
        if answer.kind is not Kind.HELLO or not isinstance(answer.body, dict):
            raise ProtocolError(f"it answers a hello by {answer.kind.name}")
        other = Hello.parse(answer.body)
        self.peer_name, self.peer_version = other.name, other.version
        return self._hello().why_not(other)

    async def _send_bulk(self, writer: asyncio.StreamWriter) -> None:
        while True:
            await self._bulk_due.wait()
            self._bulk_due.clear()
            self._state = PeerState.BULK
            async for batch in self._connections.bulk():
                self._send(writer, batch)
                await writer.drain()
            writer.write(messages.document(Kind.BULK_END))
            await writer.drain()
            if not self._bulk_due.is_set():
                self._state = PeerState.SYNCED

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        while True:
            async with asyncio.timeout(HEARTBEAT_WITHIN):
                message = await messages.read(reader)
            if message.kind is not Kind.HEARTBEAT or not isinstance(message.body, dict):
                raise ProtocolError(f"it sends {message.kind.name} to a sender")
            at, clock = message.body.get("at"), message.body.get("clock")
            if isinstance(at, float):
                self._lag = max(0.0, time.monotonic() - at)
            if isinstance(clock, float):
                self.clock = clock - time.time()
            if message.body.get("bulk") is True:
                self._bulk_due.set()

    def _send_names(self, writer: asyncio.StreamWriter) -> None:
        writer.write(messages.document(Kind.NAMES, **self._connections.names.document()))

    def _send(self, writer: asyncio.StreamWriter, batch: Batch) -> None:
        writer.write(messages.batch(batch))
        self._sent += len(batch.records)

    def _hang_up(self) -> None:
        if self._writer:
            with contextlib.suppress(OSError, RuntimeError):
                self._writer.transport.abort()
            self._writer = None
        if self._state is not PeerState.REFUSED:
            self._state = PeerState.CONNECTING


async def _until_one_fails(*works: Coroutine[Any, Any, None]) -> None:
    """Run all; when one fails, end the others and raise its error."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer"
    if isinstance(error, EOFError):
        return "it has closed the connection"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {getattr(error, 'verify_message', '') or error.reason or error}"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error)
