# SPDX-License-Identifier: Apache-2.0
"""The load generator against servers of every manner, on loopback."""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from xdpdirector.lab.load import Load, Plan, Target, plan
from xdpdirector.lab.sample import Request

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nserv\n"


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    """The port of a server on loopback that hands each connection to `handler` and closes it afterwards."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (ConnectionError, EOFError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def answering(*replies: bytes) -> Handler:
    """Each request of a connection gets the next reply; none left: the connection is closed."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for reply in replies:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(reply)
        await reader.readuntil(b"\r\n\r\n")

    return handler


async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()
    await asyncio.sleep(5)


def requests_of(handler: Handler, **options: float) -> list[Request]:
    """What clients see of such a server within 0.3 s."""

    async def run() -> str:
        async with serving(handler) as port:
            output = io.StringIO()
            values = {"rate": 20, "kept": 0, "pause": 0.02, "reuse": 3, "timeout": 0.2, "duration": 0.3}
            targets = (Target("127.0.0.1", port),)
            await Load(Plan(targets=targets, **{**values, **options}), output).run()
            return output.getvalue()

    return [Request.from_line(line) for line in asyncio.run(run()).splitlines()]


BAD_SERVERS = {
    "status": answering(b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n"),
    "protocol": answering(b"220 mail.example ESMTP\r\n\r\n"),
    "closed": answering(),
    "timeout": silent,
}


@pytest.mark.parametrize(("outcome", "handler"), BAD_SERVERS.items(), ids=BAD_SERVERS.keys())
def test_failure_is_called_by_its_name(outcome: str, handler: Handler) -> None:
    requests = requests_of(handler)

    assert {request.outcome for request in requests} == {outcome}
    assert all(request.failed for request in requests)


def test_nobody_listening_is_refused() -> None:
    async def run() -> str:
        async with serving(silent) as port:
            pass
        output = io.StringIO()
        await Load(Plan((Target("127.0.0.1", port),), 20, 0, 1, 1, 1, 0.2), output).run()
        return output.getvalue()

    lines = asyncio.run(run()).splitlines()

    assert {Request.from_line(line).outcome for line in lines} == {"refused"}


def test_schedule_is_open() -> None:
    requests = requests_of(silent, rate=50)

    dues = [request.due for request in sorted(requests, key=lambda request: request.due)]

    assert len(requests) >= 15  # though each takes 0.2 s of the 0.3 s
    assert [later - earlier for earlier, later in pairwise(dues)] == pytest.approx([0.02] * (len(dues) - 1))


def test_kept_client_reuses_its_connection_and_then_opens_another() -> None:
    requests = requests_of(answering(GOOD, GOOD, GOOD, GOOD), kept=1, rate=1)

    kept = [request for request in requests if request.kind == "kept"]
    by_connection = [sum(request.opened == one.opened for request in kept) for one in kept]
    assert {request.outcome for request in requests} == {"ok"}
    assert {request.backend for request in requests} == {"serv"}
    assert max(by_connection) == 3
    assert len({request.opened for request in kept}) > 1


def test_failed_request_names_who_answered_before_on_its_connection() -> None:
    requests = requests_of(answering(GOOD), kept=1, rate=1)

    failed = [request for request in requests if request.failed]

    assert failed
    assert {(request.outcome, request.backend) for request in failed} == {("closed", "serv")}


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("192.0.2.10:80", Target("192.0.2.10", 80)),
        ("[2001:db8::10]:8080", Target("2001:db8::10", 8080)),
    ],
)
def test_target_is_read(text: str, target: Target) -> None:
    assert Target.parse(text) == target
    assert Target.parse(text).family == (6 if "[" in text else 4)


def test_plan_is_read_from_the_command_line() -> None:
    made = plan(["192.0.2.10:80", "[2001:db8::10]:80", "--rate", "7", "--kept", "3"])

    assert [target.family for target in made.targets] == [4, 6]
    assert (made.rate, made.kept) == (7.0, 3)
