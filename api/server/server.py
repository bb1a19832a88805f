# SPDX-License-Identifier: Apache-2.0
"""The server: uvicorn's, with connection limits.

Connections are counted before anything of them is read, before TLS handshakes, so that clients cannot use up the
daemon's file descriptors. Knows sockets and limits, no routes.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus

import uvicorn.server
from starlette.types import ASGIApp
from uvicorn.config import Config

from xdpdirector.api.auth.identity import Peer
from xdpdirector.api.server.connection import LARGEST_HEAD, Connection, Timeouts, problem
from xdpdirector.api.server.connection_limits import AdmittedConnection, ConnectionCounts, ConnectionLimits

GRACE = 2  # seconds for requests under way when the end comes
ACCEPT_AGAIN = 1.0  # seconds, when descriptors are used up
TICK = 0.1  # seconds between two looks at how long clients take
BACKLOG = 128

log = logging.getLogger(__name__)


@dataclass(eq=False)
class ListeningSocket:
    """A bound socket to listen on, and the TLS context of connections that are accepted from now on."""

    socket: socket.socket
    tls: ssl.SSLContext | None = None


class Server(uvicorn.server.Server):
    """`serve()` until `stop()`. Leaves signals to the daemon, whose end is no death by signal."""

    def __init__(
        self,
        app: ASGIApp,
        listening_sockets: Sequence[ListeningSocket],
        *,
        timeouts: Timeouts | None = None,
        limits: ConnectionLimits | None = None,
        grace: int = GRACE,
        on_open: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_open` is called when the server accepts connections."""
        self._on_open = on_open
        self._listening_sockets, self._timeouts = listening_sockets, timeouts or Timeouts()
        self._counts = ConnectionCounts(limits or ConnectionLimits())
        self._stopping = asyncio.Event()
        self._accepting: list[asyncio.Task[None]] = []
        self._shaking: set[asyncio.Task[None]] = set()
        super().__init__(
            Config(
                app,
                http="h11",
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                log_level="warning",
                proxy_headers=False,  # the peer is the one that the kernel names
                server_header=False,
                timeout_keep_alive=self._timeouts.idle,
                timeout_graceful_shutdown=grace,
                h11_max_incomplete_event_size=LARGEST_HEAD,
            )
        )

    def stop(self) -> None:
        """End `serve()` when the requests under way are answered, or after the grace. To be called in its loop."""
        self.should_exit = True
        self._stopping.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.servers = []
        for listening_socket in self._listening_sockets:
            listening_socket.socket.setblocking(False)
            listening_socket.socket.listen(BACKLOG)
            self._accepting.append(asyncio.create_task(self._accept(listening_socket)))
        self.started = True
        self._on_open()

    async def main_loop(self) -> None:
        """uvicorn's sees the end only at the next tick."""
        ticks = 0
        while not await self.on_tick(ticks):
            ticks += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK):
                    await self._stopping.wait()

    async def on_tick(self, counter: int) -> bool:
        now = asyncio.get_running_loop().time()
        for connection in list(self.server_state.connections):
            assert isinstance(connection, Connection)
            connection.check(now)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        tasks = [*self._accepting, *self._shaking]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for listening_socket in self._listening_sockets:
            listening_socket.socket.close()
        try:
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                await self._empty()
        except TimeoutError:
            log.error("requests that are cut off: %d", len(self.server_state.tasks))
            for request in self.server_state.tasks:
                request.cancel()

    async def _empty(self) -> None:
        """Until the last connection has closed; uvicorn's looks ten times a second."""
        connections = self.server_state.connections
        for connection in list(connections):
            connection.shutdown()
        while connections:
            connection = next(iter(connections))
            assert isinstance(connection, Connection)
            await connection.gone.wait()
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks)

    async def _accept(self, listening_socket: ListeningSocket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listening_socket.socket)
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    log.warning("no connection can be accepted: %s", error.strerror)
                    await asyncio.sleep(ACCEPT_AGAIN)
                continue
            self._admit(connection, listening_socket.tls)

    def _admit(self, connection: socket.socket, tls: ssl.SSLContext | None) -> None:
        try:
            peer = Peer.of(connection)
        except OSError:  # it has gone already
            connection.close()
            return
        refusal = self._counts.refusal(peer)
        if refusal:
            if tls is None:
                detail = f"{refusal}: close some of them, or come back later."
                with contextlib.suppress(OSError):
                    connection.send(problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, "overloaded"))
            connection.close()
            return
        admitted = self._counts.enter(peer)
        task = asyncio.create_task(self._handshake(connection, admitted, tls))

        def abort() -> None:
            task.cancel()

        admitted.abort = abort
        self._shaking.add(task)
        task.add_done_callback(self._shaking.discard)
        task.add_done_callback(lambda done: connection.close() if done.cancelled() else None)

    async def _handshake(
        self, connection: socket.socket, admitted: AdmittedConnection, tls: ssl.SSLContext | None
    ) -> None:
        """Ends when requests can be read: after the TLS handshake, if there is one."""

        def make() -> Connection:
            return Connection(self.config, self.server_state, admitted.peer, self._timeouts, admitted)

        loop = asyncio.get_running_loop()
        handshake = self._timeouts.handshake if tls else None
        try:
            _, made = await loop.connect_accepted_socket(
                make, connection, ssl=tls, ssl_handshake_timeout=handshake
            )
            assert isinstance(made, Connection)
            admitted.abort = made.abort
            if not admitted.is_open:
                made.abort()
        except OSError as error:  # ssl.SSLError is one
            admitted.leave()
            log.debug("the handshake with %s failed: %s", admitted.peer, error)
        except BaseException:
            admitted.leave()
            raise
