# SPDX-License-Identifier: Apache-2.0
"""The TCP twin of the daemon's unix socket, on loopback, for as long as somebody wants a browser there.

The daemon is told where each connection comes from, and gives it none of the rights of this process: who comes that
way logs in. Standard library only. Knows sockets, no HTTP.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

LOOPBACK = "127.0.0.1"
PORT = 8650  # where documents put the API
_PIECE = 1 << 16


class Relay:
    """A context manager: serves in threads. `port`: where; one that is free when it is taken and not `exact`."""

    def __init__(self, path: Path, port: int = PORT, *, exact: bool = False) -> None:
        self._path = path
        try:
            self._listening = socket.create_server((LOOPBACK, port))
        except OSError:
            if exact:
                raise
            self._listening = socket.create_server((LOOPBACK, 0))
        self._open: set[socket.socket] = set()

    @property
    def address(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def port(self) -> int:
        found: int = self._listening.getsockname()[1]
        return found

    def __enter__(self) -> Relay:
        threading.Thread(target=self._accept, name="relay", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # or who accepts would wait for one more
        self._listening.close()
        for each in [*self._open]:
            _end(each)

    def _accept(self) -> None:
        while True:
            try:
                client, source = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client, source), daemon=True).start()

    def _serve(self, client: socket.socket, source: tuple[str, int]) -> None:
        daemon = socket.socket(socket.AF_UNIX)
        with self._kept(client), self._kept(daemon), contextlib.suppress(OSError):
            daemon.connect(str(self._path))
            daemon.sendall(_line(source, self.port))
            back = threading.Thread(target=_copy, args=(daemon, client), daemon=True)
            back.start()
            _copy(client, daemon)
            back.join()

    @contextlib.contextmanager
    def _kept(self, one: socket.socket) -> Iterator[None]:
        self._open.add(one)
        try:
            yield
        finally:
            self._open.discard(one)
            one.close()


def _line(source: tuple[str, int], port: int) -> bytes:
    """PROXY protocol, version 1; see `xdpdirector.api.server.proxy_protocol`."""
    return f"PROXY TCP4 {source[0]} {LOOPBACK} {source[1]} {port}\r\n".encode()


def _copy(one: socket.socket, other: socket.socket) -> None:
    """Until one of both has ended; then both have."""
    with contextlib.suppress(OSError):
        while piece := one.recv(_PIECE):
            other.sendall(piece)
    for each in (one, other):
        _end(each)


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
