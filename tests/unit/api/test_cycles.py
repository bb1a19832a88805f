# SPDX-License-Identifier: Apache-2.0
"""Connections and requests leave no cycles of objects behind: a collection of them keeps the event loop from
running."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import h11
import pytest
from starlette.exceptions import HTTPException
from uvicorn.protocols.http.h11_impl import RequestResponseCycle

from tests.support import loopback_certificate
from tests.support.api_server import PLENTY, ApiServer
from tests.support.fake_director import FakeDirector
from xdpdirector.api.server import tls
from xdpdirector.api.server.connection import Connection
from xdpdirector.api.server.connection_limits import AdmittedConnection
from xdpdirector.api.server.server import ListeningSocket
from xdpdirector.lab.waiting import wait_until
from xdpdirector.model.access import TlsSpec

TIMES = 10
OURS = (Connection, AdmittedConnection, RequestResponseCycle)
"""Of each connection."""
RAISED = (HTTPException, RecursionError, h11.RemoteProtocolError)
DEEP = b'{"name":' + b"[" * 20_000 + b"]" * 20_000 + b"}"

Connect = Callable[[], socket.socket]


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.fixture
def over_unix(uncollected: None, tmp_path: Path) -> Iterator[Connect]:
    """How to connect to a server, in a process that collects nothing meanwhile."""

    def connect() -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(60.0)
        connection.connect(str(server.path))
        return connection

    with ApiServer(FakeDirector(), tmp_path / "socket") as server:
        yield connect


@pytest.fixture
def over_tls(uncollected: None, tmp_path: Path) -> Iterator[Connect]:
    certificate = loopback_certificate.made(tmp_path, "director")
    listening = socket.create_server(("127.0.0.1", 0))
    client = ssl.create_default_context(cafile=str(certificate.certificate))
    served = ListeningSocket(listening, tls.context(TlsSpec(**certificate._asdict())))

    def connect() -> socket.socket:
        return client.wrap_socket(
            socket.create_connection(listening.getsockname(), 60.0), server_hostname="127.0.0.1"
        )

    with ApiServer(FakeDirector(), tmp_path / "socket", PLENTY, [served]):
        yield connect


def request(method: str, path: str, body: bytes = b"") -> bytes:
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def status(connect: Connect, asked: bytes) -> int:
    with closing(connect()) as connection:
        connection.sendall(asked)
        answer = b""
        while piece := connection.recv(1 << 16):
            answer += piece
    return int(answer.split()[1])


def require_nothing_left() -> None:
    """The connections have ended: what there still is of them would only be found by a collection."""

    def is_gone() -> bool:
        return not any(isinstance(each, (*OURS, *RAISED, asyncio.Transport)) for each in gc.get_objects())

    wait_until(is_gone, "connections, transports and errors are gone", 20.0)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param(request("GET", "/v1/services"), 200, id="an answer"),
        pytest.param(request("GET", "/v1/nothing"), 404, id="no such path"),
        pytest.param(request("GET", "/v1/services?strange=1"), 422, id="a strange parameter"),
        pytest.param(request("POST", "/v1/explain", b'{"vip": 7}'), 422, id="what a validator raised"),
        pytest.param(request("POST", "/v1/services", DEEP), 400, id="what a parser raised"),
        pytest.param(b"GARBAGE\r\n\r\n", 400, id="no HTTP"),
        pytest.param(request("GET", "/" + "x" * 20_000), 400, id="a head that is too large"),
    ],
)
def test_a_request_leaves_nothing_behind(over_unix: Connect, asked: bytes, expected: int) -> None:
    assert {status(over_unix, asked) for _ in range(TIMES)} == {expected}

    require_nothing_left()


def test_who_leaves_before_the_answer_leaves_nothing_behind(over_unix: Connect) -> None:
    for _ in range(TIMES):
        with closing(over_unix()) as connection:
            connection.sendall(request("GET", "/v1/services"))

    require_nothing_left()


def test_tls_leaves_nothing_behind(over_tls: Connect) -> None:
    for _ in range(TIMES):
        with contextlib.suppress(ConnectionResetError):  # without a token it is refused
            assert status(over_tls, request("GET", "/v1/services")) == 401

    require_nothing_left()
