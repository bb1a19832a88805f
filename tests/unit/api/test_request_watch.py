# SPDX-License-Identifier: Apache-2.0
"""Requests that last: they end with their client, and with the token that they were asked with."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dev import openapi_contract as contract
from tests.support.api_server import ApiServer
from tests.support.fake_director import FakeDirector
from xdpdirector.api.auth.rate_limit import AT_ONCE, AT_ONCE_IN_ALL, RESERVED, ConcurrencyLimiter
from xdpdirector.client import UnixConnection
from xdpdirector.errors import OverloadedError

DEADLINE = 60.0
WEB = {"name": "web", "listeners": ["192.0.2.10:80/tcp"], "backends": {"web1": {"address": "192.0.2.21"}}}
POLL = "/v1/services/web/backends/web1?wait=drained&timeout=10m"


@pytest.fixture
def director() -> FakeDirector:
    return FakeDirector()


@pytest.fixture
def server(director: FakeDirector, tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(director, tmp_path / "api.sock") as server:
        server.client.post("/v1/services", WEB)
        director.busy["web", "web1"] = 1
        server.client.post("/v1/services/web/backends/web1/drain")
        yield server
        director.busy.clear()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def under_way(server: ApiServer) -> float:
    """Beside the scrape itself."""
    lines = server.client.get("/metrics").splitlines()
    found = next(line for line in lines if line.startswith("xdpdirector_api_requests_under_way "))
    return float(found.split()[1]) - 1


def asked(server: ApiServer, path: str, token: str | None = None) -> http.client.HTTPConnection:
    connection = UnixConnection(server.path, DEADLINE)
    connection.request("GET", path, headers={"authorization": f"Bearer {token}"} if token else {})
    return connection


def test_a_long_poll_ends_with_its_client(server: ApiServer) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(contextlib.closing(asked(server, POLL)))
        until(lambda: under_way(server) == 20)

    until(lambda: under_way(server) == 0)


def test_who_has_left_behind_a_request_that_is_not_read_yet_has_left(server: ApiServer) -> None:
    """While the first is answered the second is not read, and so the end behind it is not either."""
    with contextlib.closing(asked(server, POLL)) as connection:
        connection.sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: under_way(server) == 1)

    until(lambda: under_way(server) == 0)


def streams() -> list[str]:
    """All that the document has."""
    return sorted(
        path
        for path, operations in contract.current()["paths"].items()
        if "text/event-stream"
        in operations.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
    )


def removed(server: ApiServer) -> None:
    server.client.delete("/v1/tokens/watcher")


def expired(server: ApiServer) -> None:
    """A day has passed."""
    tokens = server.access.tokens
    tokens._now = lambda: datetime.now(UTC) + timedelta(days=1)


ENDS = pytest.mark.parametrize("end", [removed, expired])


def token(server: ApiServer) -> str:
    made = server.client.post("/v1/tokens", {"name": "watcher", "role": "operate", "lifetime": "1h"})
    return str(made["token"])


def test_there_are_streams() -> None:
    assert {"/v1/events", "/v1/trace", "/v1/live"} <= {*streams()}


@ENDS
@pytest.mark.parametrize("path", streams())
def test_a_stream_ends_with_its_token(server: ApiServer, path: str, end: Callable[[ApiServer], None]) -> None:
    with contextlib.closing(asked(server, path, token(server))) as connection:
        answer = connection.getresponse()
        assert answer.status == 200

        end(server)

        answer.read()  # ends
    until(lambda: under_way(server) == 0)


@ENDS
def test_a_long_poll_with_a_token_that_ends_is_refused(
    server: ApiServer, end: Callable[[ApiServer], None]
) -> None:
    with contextlib.closing(asked(server, POLL, token(server))) as connection:
        until(lambda: under_way(server) == 1)

        end(server)

        assert connection.getresponse().status == 401


def test_a_token_that_stays_ends_nothing(server: ApiServer, director: FakeDirector) -> None:
    token = server.client.post("/v1/tokens", {"name": "watcher", "role": "read"})["token"]
    with contextlib.closing(asked(server, POLL, token)) as connection:
        until(lambda: under_way(server) == 1)

        threading.Timer(1.2, director.busy.clear).start()

        assert connection.getresponse().status == 200


def test_places_are_left_for_who_is_in_charge() -> None:
    under_way = ConcurrencyLimiter()
    with contextlib.ExitStack() as stack:
        for number in range(AT_ONCE_IN_ALL - RESERVED):
            stack.enter_context(under_way.one(f"token:{number // (AT_ONCE - 1)}"))

        with pytest.raises(OverloadedError):
            stack.enter_context(under_way.one("token:other"))
        with under_way.one("root", privileged=True):
            pass
