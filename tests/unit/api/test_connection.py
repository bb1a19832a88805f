# SPDX-License-Identifier: Apache-2.0
"""What is put down to a client that is slow, and what is not: a daemon that stood still cuts no answer off."""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.server import ServerState

from tests.support.stage import story
from xdpdirector.api.auth.identity import Peer
from xdpdirector.api.server.connection import Connection, Timeouts
from xdpdirector.api.server.connection_limits import ConnectionCounts, ConnectionLimits

ROOT = Peer(uid=0)
TIMEOUTS = Timeouts(request=15.0, answer=20.0)


class Wire(asyncio.Transport):
    """`untaken`: octets that the client has not taken yet."""

    def __init__(self) -> None:
        super().__init__()
        self.untaken, self.aborted, self.closed = 0, False, False

    def get_write_buffer_size(self) -> int:
        return self.untaken

    def write(self, data: bytes | bytearray | memoryview[int]) -> None:
        pass

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.aborted or self.closed


def connected(timeouts: Timeouts = TIMEOUTS) -> tuple[Connection, Wire]:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("no request is complete")

    config, wire = Config(app, interface="asgi3", http="h11", lifespan="off", log_config=None), Wire()
    config.load()
    connection = Connection(
        config, ServerState(), ROOT, timeouts, ConnectionCounts(ConnectionLimits()).enter(ROOT)
    )
    connection.connection_made(wire)
    return connection, wire


def looked_at(connection: Connection, begin: float, end: float) -> None:
    """Ten times a second."""
    for tenth in range(round(begin * 10), round(end * 10) + 1):
        connection.check(tenth / 10)


@story
async def test_an_answer_made_while_the_loop_stood_is_not_cut_off() -> None:
    connection, wire = connected()
    looked_at(connection, 0, 1)
    wire.untaken = 1 << 20  # written at the end of a minute in which nothing else was done

    looked_at(connection, 61, 62)

    assert not wire.is_closing()


@story
async def test_a_stand_while_an_answer_is_on_its_way_is_not_put_down_to_the_client() -> None:
    connection, wire = connected()
    wire.untaken = 1 << 20
    looked_at(connection, 0, 1)

    looked_at(connection, 61, 62)

    assert not wire.is_closing()


@story
async def test_a_request_that_arrives_while_the_loop_stands_is_not_given_up() -> None:
    connection, wire = connected()
    connection.data_received(b"POST /v1/services HTTP/1.1\r\nHost: x\r\n")
    looked_at(connection, 0, 1)

    looked_at(connection, 61, 62)

    assert not wire.is_closing()


@story
async def test_who_takes_nothing_is_cut_off() -> None:
    connection, wire = connected()
    wire.untaken = 1 << 20

    looked_at(connection, 0, TIMEOUTS.answer + 1)

    assert wire.aborted


@story
async def test_who_takes_a_little_may_go_on() -> None:
    connection, wire = connected(Timeouts(request=1000.0, answer=20.0))
    for second in range(60):
        wire.untaken = (1 << 20) - second
        looked_at(connection, second, second + 0.9)

    assert not wire.is_closing()


@story
async def test_who_does_not_end_a_request_is_given_up() -> None:
    connection, wire = connected()
    connection.data_received(b"POST /v1/services HTTP/1.1\r\nHost: x\r\n")

    looked_at(connection, 0, TIMEOUTS.request + 1)

    assert wire.closed
