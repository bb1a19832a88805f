# SPDX-License-Identifier: Apache-2.0
"""Connection sync between two directors on this machine: all connections at once, and new ones as they come."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dev.bench import frames
from dev.bench.baselines import Baselines
from dev.bench.director_target import PORTS, WLC, Ours
from dev.bench.driver import Driver, Flows
from dev.bench.figure import PERCENT, SECONDS, Figure, Key
from dev.bench.frames import ACK, SYN
from dev.bench.samples import Series
from xdpdirector.lab.waiting import wait_until
from xdpdirector.model import Sizes

SYNC = "connection sync"
BULK = Key("1,000,000 records in bulk, processor's time of both", SYNC)
BULK_WALL = Key("1,000,000 records in bulk, until the peer has them", SYNC)
LAG = Key("20,000 new connections a second, median lag", SYNC)
SENDING, TAKING = (Key(f"20,000 new connections a second, {side}", SYNC) for side in ("sender", "receiver"))
OWED = {BULK: 5.0, LAG: 0.25, SENDING: 40.0, TAKING: 40.0}
"""Seconds, and shares of a processor."""
ROOM = Sizes(connections=1 << 21, connections6=1 << 16)
RECORDS = 1 << 20
BULK_OF = 1_000_000
RATE, TICK = 20_000, 0.05  # connections a second, opened so many seconds apart
SETTLING = 3.0  # seconds between bulk and measuring
CHUNK = 1 << 14
PATIENCE = 300.0
PORT = 8651


@dataclass
class Side:
    """One director's sync, in a process of its own."""

    process: subprocess.Popen[str]
    output: Path

    def lines(self) -> list[dict[str, Any]]:
        text = self.output.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def last(self) -> dict[str, Any]:
        lines = self.lines()
        return (
            lines[-1] if lines else {"incoming": "", "outgoing": "", "merged": 0, "inserted": 0, "used": 0.0}
        )


@contextmanager
def _side(directory: Path, instance: str, listen: str, peer: str) -> Iterator[Side]:
    output = directory / instance
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "dev.bench.sync_side", instance, listen, peer],
            stdin=subprocess.PIPE, stdout=file, text=True,
        )  # fmt: skip
    try:
        yield Side(process, output)
    finally:
        assert process.stdin
        process.stdin.close()
        process.wait(timeout=30)


def sync(baselines: Baselines, prefix: str, seconds: float) -> Iterator[Figure]:
    """`seconds`: for which new connections are opened."""
    with ExitStack() as stack:
        one = stack.enter_context(Ours(f"{prefix}1", ROOM, (WLC,)))
        two = stack.enter_context(Ours(f"{prefix}2", ROOM, (WLC,)))
        driver = Driver(baselines)
        for start in range(0, RECORDS, CHUNK):
            _open(driver, one, start, CHUNK)
        directory = Path(stack.enter_context(TemporaryDirectory()))
        ends = [f"127.0.0.1:{PORT + number}" for number in (0, 1)]
        taker = stack.enter_context(_side(directory, two.paths.name, ends[1], ends[0]))
        wait_until(taker.lines, "the receiver runs", PATIENCE)
        idle = taker.last()
        sender = stack.enter_context(_side(directory, one.paths.name, ends[0], ends[1]))
        wait_until(lambda: taker.last()["incoming"] == "synced", "the bulk has arrived", PATIENCE)
        yield from _bulk(sender, taker, idle)
        time.sleep(SETTLING)
        yield from _news(driver, one, sender, taker, seconds)


def _open(driver: Driver, ours: Ours, first: int, count: int) -> None:
    """Flows by their first two packets."""
    for flags in (SYN, ACK):
        driver.run(ours.function(), frames.tcp(flags, PORTS[WLC]), Flows(1 << 24, random=False), count, first)


def _bulk(sender: Side, taker: Side, idle: dict[str, Any]) -> Iterator[Figure]:
    sent, taken = sender.lines(), taker.lines()
    done = next(line for line in taken if line["incoming"] == "synced")
    records = done["merged"]
    begun = next(line for line in sent if line["outgoing"] != "connecting")
    until = next(line for line in reversed(sent) if line["at"] <= done["at"])
    share = BULK_OF / records
    used = (done["used"] - idle["used"] + until["used"] - begun["used"]) * share
    how = f"{records:,} records of running connections over loopback, by both sides' own clocks, for {BULK_OF:,}."
    yield Figure(BULK, Series.of([used]), f"{how} Both processes' time.", unit=SECONDS)
    wall = (done["at"] - begun["at"]) * share
    yield Figure(BULK_WALL, Series.of([wall]), f"{how} By the clock, other work included.", unit=SECONDS)


def _news(driver: Driver, ours: Ours, sender: Side, taker: Side, seconds: float) -> Iterator[Figure]:
    before, first, opened = taker.last()["inserted"], 2 * RECORDS, 0
    begin, marks = time.monotonic(), []
    while (now := time.monotonic()) - begin < seconds:
        due = int((now - begin) * RATE)
        if due > opened:
            _open(driver, ours, first + opened, due - opened)
            opened = due
            marks.append((time.monotonic(), opened))
        time.sleep(TICK)
    end = time.monotonic()
    wait_until(lambda: taker.last()["inserted"] >= before + opened, "all have arrived", PATIENCE)
    lags = lags_of(marks, taker.lines(), before)
    how = (
        f"{opened:,} connections opened at {RATE:,} a second for {seconds:g} s by their first two packets, among "
        f"{RECORDS:,} that run, in tables with room for {ROOM.connections:,}."
    )
    lag = Series.of(lags)
    yield Figure(
        LAG,
        Series.of([lag.median]),
        f"{how} Until the peer had merged it; the longest {lag.most:.2f} s.",
        unit=SECONDS,
    )
    for key, side in ((SENDING, sender), (TAKING, taker)):
        yield Figure(
            key, Series.of([_share(side, begin, end)]), f"{how} Share of a processor's time.", unit=PERCENT
        )


def lags_of(
    marks: Sequence[tuple[float, int]], lines: Sequence[Mapping[str, Any]], before: int
) -> list[float]:
    """Seconds from each mark, when so many connections had been opened, until the receiver had inserted as many.
    `lines`: what it said; `before`: inserted before the first mark. A record is inserted once, and merged as often
    as it changes or is seen again, so those merged say nothing of new ones."""
    inserted = [line["inserted"] for line in lines]
    return [lines[bisect_left(inserted, before + count)]["at"] - at for at, count in marks]


def _share(side: Side, begin: float, end: float) -> float:
    inside = [line for line in side.lines() if begin <= line["at"] <= end]
    first, last = inside[0], inside[-1]
    return 100 * float((last["used"] - first["used"]) / (last["at"] - first["at"]))
