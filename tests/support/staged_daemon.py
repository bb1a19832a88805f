# SPDX-License-Identifier: Apache-2.0
"""The daemon but for packets, in a thread: director, database, tokens, audit and API, over a plane that is a fake.

It listens on a unix socket and, for those who have its token, on TCP. Its files are in memory where the machine has
such a place: what is tested with it asks for ten thousand syncs.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
import threading
from collections import Counter
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Self

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.support.busy_plane import LivelyPlane
from tests.support.stage import Stage
from xdpdirector.api.app import create_app
from xdpdirector.api.auth.access import Access
from xdpdirector.api.server.server import Server
from xdpdirector.api.server.sockets import open_sockets
from xdpdirector.client import Client
from xdpdirector.model.access import ApiSpec, Endpoint, Role
from xdpdirector.storage.denylist_store import SqliteDenyList
from xdpdirector.storage.fallback import FallbackStore
from xdpdirector.storage.idempotency_store import StoredAnswers
from xdpdirector.storage.tokens import TokenSpec

DEADLINE = 30.0
LOOPBACK = ip_address("127.0.0.1")
MEMORY = Path("/dev/shm")


class StagedDaemon:
    """A context manager. `answers` counts by operation (empty: none) and status. `stage` can be looked at when it
    has ended; `failures` are errors that nobody expected."""

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, int]] = Counter()
        self.failures: list[BaseException] = []
        self.stage: Stage
        self.token = ""
        self.port = _free_port()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)

    @property
    def client(self) -> Client:
        return Client(self.socket)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def __enter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        self.socket = Path(self._directory.name) / "api.sock"
        self._thread.start()
        assert self._ready.wait(DEADLINE), "the daemon does not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop)
        self._thread.join()
        self._directory.cleanup()

    def _run(self) -> None:
        asyncio.run(self._serve(self.socket.parent))

    async def _serve(self, directory: Path) -> None:
        spec = ApiSpec(listen=(Endpoint(LOOPBACK, self.port),), rate=100_000)
        with (
            contextlib.closing(Access.at(directory / "access.db", spec)) as access,
            FallbackStore(
                directory / "state.db", directory / "spare", on_revision=access.audit.note_revision
            ) as archive,
        ):
            _, self.token = access.tokens.add(TokenSpec(name="tester", role=Role.ADMIN))
            denials = SqliteDenyList(lambda: archive.database)
            self.stage = Stage(LivelyPlane(), kept=(archive, denials))
            app = create_app(self.stage.director, access, StoredAnswers(lambda: archive.database))
            with open_sockets(self.socket, spec, access.tokens) as listening_sockets:
                for listening_socket in listening_sockets:
                    listening_socket.socket.listen()
                async with self.stage:
                    self._loop = asyncio.get_running_loop()
                    self._server = Server(self._counted(app), listening_sockets, grace=1)
                    self._ready.set()
                    await self._server.serve()

    def _stop(self) -> None:
        self.stage.director.stop_waiting()
        self._server.stop()

    def _counted(self, app: ASGIApp) -> ASGIApp:
        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            async def watched(message: Message) -> None:
                if message["type"] == "http.response.start":
                    self.answers[scope["state"].get("operation") or "", int(message["status"])] += 1
                await send(message)

            try:
                await app(scope, receive, watched)
            except Exception as error:
                self.failures.append(error)
                raise

        return counted


def _free_port() -> int:
    with socket.create_server((str(LOOPBACK), 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
