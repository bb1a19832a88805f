# SPDX-License-Identifier: Apache-2.0
"""Long reads: beside the loop, one of each caller at a time, and paid for."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.api_server import ApiServer
from tests.support.fake_director import FakeDirector
from tests.support.stage import story, until
from xdpdirector.api.http.loop_turns import STRETCH
from xdpdirector.api.http.read_queue import (
    BURST,
    SHARE,
    WAITING,
    Reader,
    Reading,
)
from xdpdirector.client import Client
from xdpdirector.errors import TooManyRequestsError
from xdpdirector.model.connection_query import ConnectionQuery
from xdpdirector.model.status import ConnectionPage

DEADLINE = 20.0


class Clocks:
    """Time, and the processor time that each read takes: written down by the test."""

    def __init__(self, cost: float) -> None:
        self.now = self.used = 0.0
        self.cost, self.slept = cost, 0.0

    def reading(self) -> Reading:
        return Reading(lambda: self.now, lambda: self.used, self.sleep)

    def work(self) -> None:
        self.used += self.cost

    def pieces(self, count: int) -> Iterator[int]:
        for number in range(count):
            self.work()
            yield number

    async def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.now += seconds


@story
async def test_who_has_used_up_the_share_waits_until_it_is_earned_again() -> None:
    clocks = Clocks(cost=BURST)
    reading = clocks.reading()

    for _ in range(5):
        await reading.run("reader", clocks.work)

    assert clocks.slept == pytest.approx(3 * BURST / SHARE)


@story
async def test_who_reads_now_and_then_waits_for_nothing() -> None:
    clocks = Clocks(cost=BURST / 10)
    reading = clocks.reading()

    for _ in range(50):
        await reading.run("reader", clocks.work)
        clocks.now += BURST / 10 / SHARE

    assert clocks.slept == 0


@story
async def test_one_caller_pays_for_no_other() -> None:
    clocks = Clocks(cost=10 * BURST)
    reading = clocks.reading()
    await reading.run("greedy", clocks.work)

    await reading.run("modest", clocks.work)

    assert clocks.slept == 0


@story
async def test_who_owes_nothing_is_forgotten() -> None:
    clocks = Clocks(cost=0)
    reading = clocks.reading()

    for number in range(100):
        await reading.run(f"reader {number}", clocks.work)
        clocks.now += 1

    assert len(reading) <= 1


@story
async def test_one_read_of_each_caller_at_a_time() -> None:
    """So that who asks much does not keep others waiting."""
    reading, order, gate = Reading(), list[str](), threading.Event()

    def work(name: str) -> Callable[[], None]:
        def read() -> None:
            assert gate.wait(DEADLINE)
            order.append(name)

        return read

    greedy = [asyncio.create_task(reading.run("greedy", work(f"greedy {number}"))) for number in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    modest = asyncio.create_task(reading.run("modest", work("modest")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*greedy, modest)

    assert order.index("modest") == 1


@story
async def test_one_caller_has_a_bounded_number_of_reads_waiting() -> None:
    reading, gate = Reading(), threading.Event()
    waiting = [
        asyncio.create_task(reading.run("reader", lambda: gate.wait(DEADLINE))) for _ in range(WAITING)
    ]
    await asyncio.sleep(0)

    with pytest.raises(TooManyRequestsError):
        await reading.run("reader", lambda: None)

    gate.set()
    await asyncio.gather(*waiting)


@story
async def test_what_is_read_on_the_loop_is_paid_for_as_well() -> None:
    clocks = Clocks(cost=BURST)
    reading = clocks.reading()

    assert await reading.in_turns("reader", clocks.pieces(3)) == [0, 1, 2]
    await reading.run("reader", lambda: None)

    assert clocks.slept == pytest.approx(2 * BURST / SHARE)


@story
async def test_others_get_their_turn_while_something_is_read_on_the_loop() -> None:
    clocks = Clocks(cost=2 * STRETCH)
    turns = 0

    async def turn(_seconds: float) -> None:
        nonlocal turns
        turns += 1

    await Reading(lambda: clocks.now, lambda: clocks.used, turn).in_turns("reader", clocks.pieces(10))

    assert turns >= 10


@story
async def test_a_stream_that_has_begun_is_refused_nothing() -> None:
    reading, gate = Reading(), threading.Event()
    waiting = [
        asyncio.create_task(reading.run("reader", lambda: gate.wait(DEADLINE))) for _ in range(WAITING)
    ]
    await asyncio.sleep(0)
    stream = asyncio.create_task(Reader(reading, "reader").in_a_stream([b"a", b"b"]))
    latest = asyncio.create_task(Reader(reading, "reader").in_a_stream([b"a", b"", b"b", b"c"], 2))
    await asyncio.sleep(0)
    gate.set()

    assert await stream == b"ab"
    assert await latest == b"bc"
    await asyncio.gather(*waiting)


@story
async def test_no_garbage_is_collected_while_something_long_is_read() -> None:
    during = await Reading().run("reader", gc.isenabled)

    assert not during
    assert gc.isenabled()


@story
async def test_who_leaves_pays_all_the_same() -> None:
    clocks, begun, gate = Clocks(cost=10 * BURST), threading.Event(), threading.Event()
    reading = clocks.reading()

    def work() -> None:
        begun.set()
        assert gate.wait(DEADLINE)
        clocks.work()

    reader = asyncio.create_task(reading.run("reader", work))
    await until(begun.is_set)
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    gate.set()
    await reading.run("other", lambda: None)  # behind it, in the same thread
    await reading.run("reader", lambda: None)

    assert clocks.slept > 0


class Slow(FakeDirector):
    """Its table of connections takes as long to read as the test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.gate = threading.Event(), threading.Event()

    def connections(self, query: ConnectionQuery) -> Callable[[], ConnectionPage]:
        def read() -> ConnectionPage:
            self.begun.set()
            assert self.gate.wait(DEADLINE)
            return ConnectionPage((), None)

        return read


def test_the_loop_turns_while_connections_are_read(tmp_path: Path) -> None:
    director, answers = Slow(), list[object]()
    with ApiServer(director, tmp_path / "api.sock") as server:
        reader = threading.Thread(target=lambda: answers.append(Client(server.path).get("/v1/connections")))
        reader.start()
        assert director.begun.wait(DEADLINE)

        alive = server.client.get("/healthz")

        director.gate.set()
        reader.join()
    assert alive == {"status": "ok"}
    assert answers == [{"items": [], "next": None}]


def test_lists_come_page_by_page(tmp_path: Path) -> None:
    director = FakeDirector()
    names = [f"s{number}" for number in range(5)]
    with ApiServer(director, tmp_path / "api.sock") as server:
        for number, name in enumerate(names):
            web = {"name": name, "listeners": [f"192.0.2.{number + 1}:80/tcp"]}
            web["backends"] = {f"b{each}": {"address": f"192.0.2.{each + 100}"} for each in range(3)}
            server.client.post("/v1/services", web)

        first = server.client.get("/v1/services", {"limit": 2})
        rest = server.client.get("/v1/services", {"limit": 3, "cursor": first["next"]})
        backends = server.client.get("/v1/services/s1/backends", {"limit": 2})
        last = server.client.get("/v1/services/s1/backends", {"limit": 2, "cursor": backends["next"]})
        whole = server.client.pages("/v1/services", most=4)

    assert [each["name"] for each in first["items"] + rest["items"]] == names
    assert rest["next"] is None
    assert [each["name"] for each in backends["items"] + last["items"]] == ["b0", "b1", "b2"]
    assert last["next"] is None
    assert [each["name"] for each in whole["items"]] == names[:4]
    assert whole["next"]
