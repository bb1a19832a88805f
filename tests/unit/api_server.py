# SPDX-License-Identifier: Apache-2.0
"""The API on a real unix socket: uvicorn in a thread, over a director that the test brings."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import uvicorn

from xdpdirector.api.app import create_app
from xdpdirector.api.protocol import Control
from xdpdirector.client import Client


class ApiServer:
    """A context manager. The socket listens from the start, so no test waits for the thread."""

    def __init__(self, director: Control, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX)
        config = uvicorn.Config(
            create_app(director), lifespan="off", log_config=None, timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})

    @property
    def client(self) -> Client:
        return Client(self.path)

    def __enter__(self) -> Self:
        self._socket.bind(str(self.path))
        self._socket.listen()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()
