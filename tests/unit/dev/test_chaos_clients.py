# SPDX-License-Identifier: Apache-2.0
"""The chaos run's clients and servers, on loopback: what breaks is seen, and what does not is not."""

import asyncio
import io
import socket
import struct
from collections.abc import Awaitable, Callable
from itertools import count

import pytest

from dev.chaos import client_log, clients
from dev.chaos.client_log import Ended, Second, parse
from dev.chaos.clients import Clients, Plan
from dev.chaos.echo import Echo

DEADLINE = 20.0
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Recording(io.StringIO):
    def records(self) -> list[Ended | Second]:
        return [parse(line) for line in self.getvalue().splitlines()]

    def connections(self) -> list[Ended]:
        return [each for each in self.records() if isinstance(each, Ended)]


def plan(port: int, *, running: int = 0, rate: float = 0.0) -> Plan:
    sources = {"4": ["127.0.0.1", "127.0.0.2"], "6": ["127.0.0.1"]}  # IPv4 only: both "families" lead there
    return Plan(7, [("web", "127.0.0.1", "127.0.0.1", port)], running, rate, sources)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.005)


def targets_of_ipv4(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    target = ("web", 4, "127.0.0.1", port)
    monkeypatch.setattr(Plan, "targets", lambda _plan, _random: iter(lambda: target, None))


async def served(
    monkeypatch: pytest.MonkeyPatch,
    serve: Serve | None,
    done: Callable[[Recording], object],
    *,
    running: int = 0,
    rate: float = 0.0,
) -> Recording:
    """What the clients of this server wrote until `done`."""
    loop, output = asyncio.get_running_loop(), Recording()
    if serve:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
    else:
        server = await loop.create_server(lambda: Echo(b"backend1"), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        targets_of_ipv4(monkeypatch, port)
        at_work = Clients(plan(port, running=running, rate=rate), output)
        running_task = asyncio.create_task(at_work.run())
        await until(lambda: done(output))
        at_work.stop()
        async with asyncio.timeout(DEADLINE):
            await running_task
    return output


def test_what_goes_well_is_counted_and_each_kind_says_its_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    def enough(output: Recording) -> bool:
        return sum(each.served for each in output.records() if isinstance(each, Second)) >= 20

    output = asyncio.run(served(monkeypatch, None, enough, running=6, rate=100.0))

    kinds = [each.kind for each in output.connections()]
    assert {each.outcome for each in output.connections()} == {client_log.OK}
    assert [kinds.count(kind) for kind in (client_log.IDLE, client_log.LINES, client_log.DOWNLOAD)] == [
        2,
        2,
        2,
    ]
    assert {each.backend for each in output.connections()} == {"backend1"}


async def another_name(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for number in count(1):
        if not await reader.readline():
            break
        writer.write(b"backend%d x\n" % number)
    writer.close()


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()
    writer.write(b"backend1 x\n")
    await reader.readline()
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()
    writer.write(b"backend1 x\n")
    writer.close()


async def fall_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()
    writer.write(b"backend1 x\n")
    await reader.read()
    writer.close()


@pytest.mark.parametrize(
    ("serve", "outcome"),
    [
        (another_name, client_log.MOVED),
        (reset, client_log.RESET),
        (close, client_log.CLOSED),
        (fall_silent, client_log.SILENT),
    ],
    ids=lambda each: getattr(each, "__name__", None),
)
def test_what_breaks_a_running_connection_is_seen(
    monkeypatch: pytest.MonkeyPatch, serve: Serve, outcome: str
) -> None:
    monkeypatch.setattr(clients, "PATIENCE", 0.3)
    monkeypatch.setattr(clients, "PAUSE", (0.0, 0.01))
    monkeypatch.setattr(clients.Connection.ask, "__defaults__", (b"x\n", 0.3))
    monkeypatch.setattr(clients.Connection.hear, "__defaults__", (0.3,))

    output = asyncio.run(served(monkeypatch, serve, lambda each: len(each.connections()) >= 2, running=3))

    seen = {each.kind: each.outcome for each in output.connections() if each.broken}
    assert seen[client_log.LINES] == outcome
    assert seen[client_log.DOWNLOAD] == outcome


def test_a_new_connection_that_is_refused_is_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> Recording:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        targets_of_ipv4(monkeypatch, port)
        output = Recording()
        at_work = Clients(plan(port, rate=50.0), output)
        running = asyncio.create_task(at_work.run())
        await until(output.connections)
        at_work.stop()
        await running
        return output

    found = asyncio.run(story()).connections()

    assert {(each.kind, each.outcome) for each in found} == {(client_log.NEW, client_log.REFUSED)}
