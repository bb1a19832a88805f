# SPDX-License-Identifier: Apache-2.0
"""The longest callbacks of the loop, by their own processor time, while a large director is asked for all of it."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.stage import CHECK, service, story
from tests.support.staged_daemon import StagedDaemon
from xdpdirector.system import slow_callbacks

LONGEST = 0.05
"""Seconds. The goal is 5 ms; a processor that is shared with others takes some times as long for the same."""

SERVICES = 400
READS = (
    "/metrics",
    "/v1/services?limit=1000",
    "/v1/services/s1/backends",
    "/v1/connections?limit=10000",
    "/v1/stats",
    "/v1/config",
    "/v1/guard/deny",
    "/v1/revisions",
    "/v1/revisions/1",
    "/v1/audit",
    "/readyz",
    "/healthz",
)


@contextmanager
def listened() -> Iterator[list[tuple[float, str]]]:
    told: list[tuple[float, str]] = []
    with slow_callbacks.telling(LONGEST, lambda used, what: told.append((round(used * 1e3, 1), what))):
        yield told


@story
async def test_a_long_callback_is_told_with_its_name() -> None:
    async def spin() -> None:
        until = time.thread_time() + 0.2
        while time.thread_time() < until:
            pass

    with listened() as told:
        await asyncio.create_task(spin())
        await asyncio.sleep(0)

    assert [what.rpartition(".")[2] for _, what in told] == ["spin"]


@story
async def test_what_others_do_is_put_down_to_no_callback() -> None:
    worker = threading.Thread(target=lambda: sum(range(3_000_000)))
    with listened() as told:
        worker.start()
        while worker.is_alive():
            await asyncio.sleep(0)
        worker.join()

    assert told == []


@story
async def test_nothing_is_told_of_later() -> None:
    run = asyncio.Handle._run
    collecting = list(gc.callbacks)
    with listened():
        pass

    assert asyncio.Handle._run is run
    assert gc.callbacks == collecting


@story
async def test_a_collection_of_garbage_is_told_of_where_that_is_wanted() -> None:
    kept = [[number] for number in range(100_000)]
    told: list[str] = []
    with slow_callbacks.telling(0.0001, lambda _, what: told.append(what), collections=True):
        await asyncio.to_thread(gc.collect)

    assert kept
    assert "a collection of garbage, generation 2," in told


def test_a_collection_is_put_down_to_no_callback_in_whichever_thread_the_loop_runs() -> None:
    """In a process that holds much a collection takes far longer than any callback."""
    kept = [[number] for number in range(1_500_000)]

    async def collect() -> None:
        begun = time.thread_time()
        while time.thread_time() - begun < 2 * LONGEST:
            gc.collect()

    with listened() as told:
        elsewhere = threading.Thread(target=lambda: asyncio.run(collect()))
        elsewhere.start()
        elsewhere.join()

    assert kept
    assert told == []


@pytest.fixture(scope="module")
def daemon() -> Iterator[StagedDaemon]:
    with StagedDaemon() as daemon:
        services: dict[str, Any] = {}
        for number in range(SERVICES):
            spec = service("web1", "web2", listener=f"10.0.{number >> 8}.{number & 255}:80/tcp", check=CHECK)
            services[f"s{number}"] = spec.model_dump(mode="json", exclude_unset=True)
        document = daemon.client.get("/v1/config") | {"services": services}
        daemon.client.put("/v1/config", document)
        for path in READS:  # what is made once, schemas above all, is made by now
            daemon.client.get(path)
        yield daemon


@pytest.mark.parametrize("path", READS)
def test_no_read_holds_the_loop(daemon: StagedDaemon, path: str) -> None:
    with listened() as told:
        daemon.client.get(path)

    assert told == []
