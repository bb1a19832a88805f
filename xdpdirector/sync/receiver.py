# SPDX-License-Identifier: Apache-2.0
"""Takes the connections that peers send, and merges them into the tables. Whoever is no peer is told so and let go.

Knows messages; no records' contents.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from xdpdirector.model.access import Endpoint
from xdpdirector.sync import messages
from xdpdirector.sync.hello import Hello
from xdpdirector.sync.interface import Connections, Theirs
from xdpdirector.sync.merged import Merged
from xdpdirector.sync.messages import Kind, Message, ProtocolError
from xdpdirector.sync.names import Names
from xdpdirector.sync.scanner import Batch
from xdpdirector.sync.status import Direction, PeerState

HELLO_WITHIN = 5.0  # seconds
HEARTBEAT_WITHIN = 10.0  # seconds without a message, after which the link counts as lost
MOST_UNIDENTIFIED = 8  # connections that have not said who they are, at once

log = logging.getLogger(__name__)


@dataclass
class Incoming:
    """What came from one peer. `had_bulk`: all that it had, once."""

    state: PeerState = PeerState.CONNECTING
    why: str = "it has not connected yet"
    name: str = ""
    version: str = ""
    vips: tuple[str, ...] | None = None
    """That stand on it, as far as it says."""
    records: int = 0
    had_bulk: bool = False
    merged: Merged = field(default_factory=Merged)
    unknown_since_bulk: int = 0
    wants_bulk: bool = False

    def status(self) -> Direction:
        return Direction(state=self.state, why=self.why, records=self.records)


class Receiver:
    """Of all peers. `tls`: the server's context."""

    def __init__(
        self,
        listen: Endpoint,
        peers: tuple[Endpoint, ...],
        hello: Callable[[], Hello],
        connections: Connections,
        tls: ssl.SSLContext | None = None,
        on_peer: Callable[[Endpoint], None] = lambda peer: None,
    ) -> None:
        """`on_peer`: a peer has connected."""
        self.incoming: Mapping[Endpoint, Incoming] = {peer: Incoming() for peer in peers}
        self._listen, self._hello, self._connections, self._tls = listen, hello, connections, tls
        self._on_peer = on_peer
        self._sessions: dict[Endpoint, asyncio.StreamWriter] = {}
        self._unidentified = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """OSError when the address cannot be listened on."""
        self._server = await asyncio.start_server(
            self._serve, str(self._listen.address), self._listen.port, ssl=self._tls
        )

    async def close(self) -> None:
        if self._server:
            self._server.close()
            for writer in self._sessions.values():
                writer.transport.abort()
            await self._server.wait_closed()

    def renamed(self) -> None:
        """Numbers mean something else here: what was unknown may be known now, so it is asked for again."""
        for each in self.incoming.values():
            each.wants_bulk = each.wants_bulk or each.unknown_since_bulk > 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer: Endpoint | None = None
        try:
            hello = await self._introduced(reader, writer)
            if hello is None:
                return
            peer = Endpoint.parse(hello.listen)
            earlier = self._sessions.pop(peer, None)
            if earlier:
                earlier.transport.abort()  # of a link that was lost
            self._sessions[peer] = writer
            writer.write(messages.document(Kind.HELLO, **self._hello().document()))
            self._on_peer(peer)
            await self._take(self.incoming[peer], hello, reader, writer)
        except (OSError, EOFError, TimeoutError, ProtocolError) as error:
            self._note(peer, writer, error)
        finally:
            if peer and self._sessions.get(peer) is writer:
                del self._sessions[peer]
                self.incoming[peer].state, self.incoming[peer].vips = PeerState.CONNECTING, None
            writer.transport.abort()

    async def _introduced(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Hello | None:
        """Who comes, or None when that one may not."""
        if self._unidentified >= MOST_UNIDENTIFIED:
            return None
        self._unidentified += 1
        try:
            async with asyncio.timeout(HELLO_WITHIN):
                message = await messages.read(reader)
        finally:
            self._unidentified -= 1
        if message.kind is not Kind.HELLO or not isinstance(message.body, dict):
            raise ProtocolError(f"it begins with {message.kind.name}")
        hello = Hello.parse(message.body)
        why = self._why_not(hello, writer)
        if not why:
            return hello
        log.warning("a director is refused: %s (%s): %s", hello.name, hello.listen, why)
        known = next((each for peer, each in self.incoming.items() if str(peer) == hello.listen), None)
        if known:
            known.state, known.why = PeerState.REFUSED, f"it is refused: {why}"
            known.name, known.version = hello.name, hello.version
        writer.write(messages.document(Kind.REFUSED, why=why))
        async with asyncio.timeout(HELLO_WITHIN):
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        return None

    def _why_not(self, hello: Hello, writer: asyncio.StreamWriter) -> str:
        peer = next((each for each in self.incoming if str(each) == hello.listen), None)
        if peer is None:
            return f"{hello.listen} is none of the peers of '{self._hello().name}'"
        source = ip_address(writer.get_extra_info("peername")[0])
        if self._tls is None and source != peer.address:
            return (
                f"it comes from {source}, and without TLS a peer comes from its own address, {peer.address}"
            )
        return self._hello().why_not(hello)

    async def _take(
        self, incoming: Incoming, hello: Hello, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        theirs = Theirs(hello.states, is_first=hello.name < self._hello().name)
        incoming.name, incoming.version = hello.name, hello.version
        incoming.why, incoming.state = "", PeerState.BULK
        while True:
            async with asyncio.timeout(HEARTBEAT_WITHIN):
                message = await messages.read(reader)
            if isinstance(message.body, Batch):
                await self._merge(incoming, message.body, theirs)
            elif message.kind is Kind.HEARTBEAT:
                incoming.vips = _vips(message.body, incoming.vips)
                at, bulk = message.body.get("at"), incoming.wants_bulk
                writer.write(messages.document(Kind.HEARTBEAT, at=at, clock=time.time(), bulk=bulk))
                if incoming.wants_bulk:
                    incoming.wants_bulk, incoming.unknown_since_bulk = False, 0
                await writer.drain()
            else:
                self._take_in(incoming, message, theirs)

    def _take_in(self, incoming: Incoming, message: Message, theirs: Theirs) -> None:
        if message.kind is Kind.NAMES:
            try:
                theirs.named(Names.parse(message.body))
            except ValueError as error:
                raise ProtocolError(str(error)) from None
        elif message.kind is Kind.BULK_END:
            incoming.state, incoming.had_bulk = PeerState.SYNCED, True
        else:
            raise ProtocolError(f"it sends {message.kind.name} in the middle")

    async def _merge(self, incoming: Incoming, batch: Batch, theirs: Theirs) -> None:
        names = self._connections.names
        result = await self._connections.merge(batch, theirs)
        incoming.records += len(batch.records)
        incoming.merged.add(result)
        incoming.unknown_since_bulk += result.unknown
        if result.unknown and self._connections.names is not names:
            incoming.wants_bulk = True  # `renamed` came while it was merged by the names of before

    def _note(self, peer: Endpoint | None, writer: asyncio.StreamWriter, error: BaseException) -> None:
        if isinstance(error, TimeoutError):
            why = "it has been silent for too long"
        elif isinstance(error, EOFError):
            why = "it has closed the connection"
        else:
            why = str(error)
        if peer:
            self.incoming[peer].why = why
        else:
            log.warning(
                "a connection to the sync port from %s is closed: %s", writer.get_extra_info("peername"), why
            )


def _vips(heartbeat: dict[str, Any], before: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Those that a heartbeat names; the ones of before where it names none."""
    said = heartbeat.get("vips")
    if not isinstance(said, list) or not all(isinstance(each, str) for each in said):
        return before
    return tuple(said)
