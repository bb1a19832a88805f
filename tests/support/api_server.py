# SPDX-License-Identifier: Apache-2.0
"""The API on a real unix socket: the daemon's server in a thread, over a director that the test brings."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from xdpdirector.api.app import create_app
from xdpdirector.api.auth.access import Access
from xdpdirector.api.director_interface import Control
from xdpdirector.api.server.server import ListeningSocket, Server
from xdpdirector.client import Client, UnixConnection
from xdpdirector.model.access import ApiSpec

PLENTY = ApiSpec(rate=100_000)
DEADLINE = 30.0  # seconds


class ApiServer:
    """A context manager. The socket listens from the start, so no test waits for the thread.

    Tokens and audit are in the file `access.db` beside the socket. `listening_sockets`: further ones. `limits`: the
    server's timeouts and connection limits.
    """

    def __init__(
        self,
        director: Control,
        path: Path,
        spec: ApiSpec = PLENTY,
        listening_sockets: Sequence[ListeningSocket] = (),
        **limits: Any,
    ) -> None:
        self.path, self.access = path, Access.at(path.with_name("access.db"), spec)
        self._socket = socket.socket(socket.AF_UNIX)
        app = create_app(director, self.access)
        self._open = threading.Event()
        self._server = Server(
            app,
            [ListeningSocket(self._socket), *listening_sockets],
            grace=1,
            on_open=self._open.set,
            **limits,
        )
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    @property
    def client(self) -> Client:
        return Client(self.path)

    def status(self, path: str, **headers: str) -> int:
        """Of a GET."""
        connection = UnixConnection(self.path, 60.0)
        with contextlib.closing(connection):
            connection.request("GET", path, headers=headers)
            return connection.getresponse().status

    def __enter__(self) -> Self:
        self._socket.bind(str(self.path))
        self._socket.listen()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._open.wait(DEADLINE), "the server does not start"
        self._loop.call_soon_threadsafe(self._server.stop)
        self._thread.join()
        self.access.close()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._server.serve()
