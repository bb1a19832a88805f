# SPDX-License-Identifier: Apache-2.0
"""The client against what is no daemon, and against answers that no daemon should give."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from xdpdirector.client import Client, backend_path
from xdpdirector.errors import DirectorError, NotAllowedError, UnreachableError

UNKNOWN = b'{"type": "urn:example:problem:teapot", "title": "No", "status": 418}'


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[list[bytes]]:
    """A server for one request; yields what it received."""
    received: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                received.append(connection.recv(65536))
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield received
        finally:
            thread.join()


def response(status: str, kind: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


@contextmanager
def nobody() -> Iterator[None]:
    """Root opens every socket: be somebody else for a while."""
    own = os.geteuid()
    if own == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(own)


def nothing(path: Path) -> None:
    pass


def dead_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))


def plain_file(path: Path) -> None:
    path.touch()


@pytest.mark.parametrize("prepare", [nothing, dead_socket, plain_file])
def test_no_daemon_is_named_with_its_remedy(tmp_path: Path, prepare: Callable[[Path], None]) -> None:
    path = tmp_path / "api.sock"
    prepare(path)

    with pytest.raises(UnreachableError) as caught:
        Client(path, instance="edge").get("/healthz")

    for part in ("'edge'", str(path), "xdpdirector -i edge run"):
        assert part in caught.value.detail
    assert caught.value.exit_code == 3


def test_a_silent_daemon_is_unreachable(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "api.sock"))
        listening.listen()

        with pytest.raises(UnreachableError, match=r"within 0.1 seconds"):
            Client(tmp_path / "api.sock").get("/healthz", timeout=0.1)


def test_a_daemon_that_dies_meanwhile_is_unreachable(tmp_path: Path) -> None:
    with answering(tmp_path / "api.sock", b""), pytest.raises(UnreachableError):
        Client(tmp_path / "api.sock").get("/healthz")


def test_a_closed_socket_is_not_allowed(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        path.chmod(0)

        with nobody(), pytest.raises(NotAllowedError, match="sudo"):
            Client(path).get("/healthz")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (response("502 Bad Gateway", "text/html", b"<html>"), "502 Bad Gateway"),
        (response("418 Teapot", "application/problem+json", UNKNOWN), "No"),
    ],
    ids=["no problem document", "unknown problem"],
)
def test_odd_errors_are_plain_errors(tmp_path: Path, answer: bytes, said: str) -> None:
    with answering(tmp_path / "api.sock", answer), pytest.raises(DirectorError, match=said) as caught:
        Client(tmp_path / "api.sock").get("/")

    assert type(caught.value) is DirectorError


def test_names_and_queries_are_quoted(tmp_path: Path) -> None:
    with answering(tmp_path / "api.sock", response("200 OK", "application/json", b"{}")) as received:
        Client(tmp_path / "api.sock").get(backend_path("a/b", "c d"), {"x": "1&2", "y": None})

    assert received[0].startswith(b"GET /v1/services/a%2Fb/backends/c%20d?x=1%262 HTTP/1.1\r\n")
