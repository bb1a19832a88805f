# SPDX-License-Identifier: Apache-2.0
"""`python -m dev.chaos.clients PLAN`: running connections and new ones.

Of the running ones a third says nothing between its first and its last word, a third says a line now and then (and
is replaced after a while), a third downloads. New ones begin when they are due, say one line and go. A connection
is broken when it ends before its client wants that, when somebody else answers, or when nobody does for PATIENCE.
For each that ends there is a line of JSON, but for new ones that were served.

PLAN is a file of JSON, see `Plan`. SIGTERM ends it: each running connection says its last word before. Knows
nothing of directors.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, cycle
from pathlib import Path
from random import Random
from typing import Any, TextIO

from dev.chaos import client_log
from dev.chaos.client_log import Ended, Second, line
from dev.chaos.echo import DOWNLOAD

PATIENCE = 30.0  # seconds without an answer
CONNECTING = 20.0  # seconds for a new connection and its one line: a SYN may be lost several times
PAUSE = (1.0, 6.0)  # seconds between two lines
LIFE = (20.0, 90.0)  # seconds, of a connection with lines
_LIMIT = 3000  # new connections under way at once


@dataclass(frozen=True)
class Plan:
    """`services`: name, IPv4 and IPv6 address, port. `sources`: where new connections come from, by family."""

    seed: int
    services: list[tuple[str, str, str, int]]
    running: int
    rate: float
    sources: dict[str, list[str]]

    def targets(self, random: Random) -> Iterator[tuple[str, int, str, int]]:
        """Service, family, address, port: IPv4 three times out of four."""
        every = [
            (name, family, address4 if family == 4 else address6, port)
            for name, address4, address6, port in self.services
            for family in (4, 4, 4, 6)
        ]
        random.shuffle(every)
        return cycle(every)


class BrokenError(Exception):
    """A connection that is not as it should be: an outcome of `ended`."""

    def __init__(self, outcome: str, detail: str = "") -> None:
        super().__init__(outcome)
        self.outcome, self.detail = outcome, detail


class Journal:
    """Writes what ended, and once a second what was done."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._clear()

    def _clear(self) -> None:
        self._served = self._late = self._answers = 0
        self._slowest = 0.0

    def write(self, record: Ended | Second) -> None:
        self._output.write(line(record) + "\n")
        self._output.flush()

    def served(self, took: float) -> None:
        self._served += 1
        self._late += took > client_log.LATE
        self._slowest = max(self._slowest, took)

    def answered(self) -> None:
        self._answers += 1

    async def every_second(self) -> None:
        due = time.monotonic()
        while True:
            due += 1
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            now = time.monotonic()
            self.write(
                Second(
                    at=round(now, 3),
                    served=self._served,
                    late=self._late,
                    slowest=round(self._slowest, 3),
                    answers=self._answers,
                    lag=round(max(0.0, now - due), 3),
                )
            )
            self._clear()
            due = max(due, now - 1)


class Connection:
    """One TCP connection that says lines and hears the name of who answers."""

    def __init__(self, kind: str, target: tuple[str, int, str, int], journal: Journal) -> None:
        self._kind, (self._service, self._family, self._address, self._port) = kind, target
        self._journal = journal
        self._opened = time.monotonic()
        self._last: float | None = None
        self._local = 0
        self._rest = b""
        self.backend: str | None = None
        self._socket = socket.socket(
            socket.AF_INET if self._family == 4 else socket.AF_INET6,
            socket.SOCK_STREAM | socket.SOCK_NONBLOCK,
        )

    async def open(self, source: str = "") -> None:
        if source:
            # The port is chosen when it connects: one may be used for several destinations.
            self._socket.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT, ip(7)
            self._socket.bind((source, 0))
        await asyncio.get_running_loop().sock_connect(self._socket, (self._address, self._port))
        self._local = int(self._socket.getsockname()[1])

    async def ask(self, words: bytes = b"x\n", patience: float = PATIENCE) -> None:
        await asyncio.get_running_loop().sock_sendall(self._socket, words)
        await self.hear(patience)

    async def hear(self, patience: float = PATIENCE) -> None:
        """The next line; BrokenError when it does not come, or somebody else says it."""
        try:
            async with asyncio.timeout(patience):
                while b"\n" not in self._rest:
                    data = await asyncio.get_running_loop().sock_recv(self._socket, 65536)
                    if not data:
                        raise BrokenError(client_log.CLOSED)
                    self._rest += data
        except TimeoutError:
            raise BrokenError(client_log.SILENT) from None
        said, _, self._rest = self._rest.partition(b"\n")
        name = said.split()[0].decode()
        if self.backend not in (None, name):
            raise BrokenError(client_log.MOVED, f"to {name}")
        self.backend, self._last = name, time.monotonic()
        if self._kind != client_log.NEW:
            self._journal.answered()

    async def heard_by(self, stop: asyncio.Event, seconds: float) -> None:
        """Until the run's end, or so many seconds. BrokenError when it ends before: nobody speaks unasked."""
        waiting = asyncio.create_task(asyncio.get_running_loop().sock_recv(self._socket, 1))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({waiting, stopping}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                said = waiting.result()
                raise BrokenError(
                    client_log.FAILED if said else client_log.CLOSED, "it spoke unasked" if said else ""
                )
        finally:
            for task in (waiting, stopping):
                task.cancel()
            await asyncio.gather(waiting, stopping, return_exceptions=True)

    def end(self, error: BaseException | None) -> Ended:
        self._socket.close()
        outcome, detail = _outcome(error)
        return Ended(
            kind=self._kind,
            service=self._service,
            family=self._family,
            port=self._local,
            opened=round(self._opened, 3),
            at=round(time.monotonic(), 3),
            backend=self.backend,
            outcome=outcome,
            last=self._last and round(self._last, 3),
            detail=detail,
        )


def _outcome(error: BaseException | None) -> tuple[str, str]:
    match error:
        case None:
            return client_log.OK, ""
        case BrokenError():
            return error.outcome, error.detail
        case ConnectionRefusedError():
            return client_log.REFUSED, ""
        case ConnectionError():
            return client_log.RESET, ""
        case TimeoutError():
            return client_log.SILENT, "no connection" if error.errno is None else str(error)
        case _:
            return client_log.FAILED, f"{type(error).__name__}: {error}"


class Clients:
    def __init__(self, plan: Plan, output: TextIO) -> None:
        self._plan, self._journal = plan, Journal(output)
        self._random = Random(plan.seed)
        self._stop = asyncio.Event()

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> None:
        """Until stopped; then all say their last word."""
        targets = self._plan.targets(self._random)
        kinds = cycle((self._idle, self._lines, self._download))
        ticking = asyncio.create_task(self._journal.every_second())
        running = [asyncio.create_task(next(kinds)(next(targets))) for _ in range(self._plan.running)]
        await self._new_ones(targets)
        await asyncio.gather(*running)
        ticking.cancel()

    async def _new_ones(self, targets: Iterator[tuple[str, int, str, int]]) -> None:
        begun, under_way = time.monotonic(), set[asyncio.Task[None]]()
        room = asyncio.Semaphore(_LIMIT)
        sources = {family: cycle(addresses) for family, addresses in self._plan.sources.items()}
        for number in count() if self._plan.rate else ():
            if await self._stopped_within(begun + number / self._plan.rate - time.monotonic()):
                break
            await room.acquire()
            target = next(targets)
            task = asyncio.create_task(self._new(target, next(sources[str(target[1])])))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            task.add_done_callback(lambda _: room.release())
        await self._stop.wait()
        await asyncio.gather(*under_way)

    async def _stopped_within(self, seconds: float) -> bool:
        if seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self._stop.wait()
            except TimeoutError:
                return False
        return self._stop.is_set()

    async def _new(self, target: tuple[str, int, str, int], source: str) -> None:
        connection, begun = Connection(client_log.NEW, target, self._journal), time.monotonic()
        try:
            async with asyncio.timeout(CONNECTING):
                await connection.open(source)
                await connection.ask(patience=CONNECTING)
            problem: BaseException | None = None
            self._journal.served(time.monotonic() - begun)
        except (OSError, BrokenError) as error:
            problem = error
        record = connection.end(problem)
        if record.broken:
            self._journal.write(record)

    async def _kept(
        self, kind: str, target: tuple[str, int, str, int], live: Callable[[Connection], Any]
    ) -> None:
        """From opening to the end that its client wants, or the one that comes."""
        connection = Connection(kind, target, self._journal)
        try:
            async with asyncio.timeout(CONNECTING):
                await connection.open()
            await connection.ask()
            await live(connection)
            problem: BaseException | None = None
        except (OSError, BrokenError) as error:
            problem = error
        self._journal.write(connection.end(problem))

    async def _idle(self, target: tuple[str, int, str, int]) -> None:
        async def live(connection: Connection) -> None:
            await connection.heard_by(self._stop, float("inf"))
            await connection.ask()

        await self._kept(client_log.IDLE, target, live)

    async def _lines(self, target: tuple[str, int, str, int]) -> None:
        """One after the other."""

        async def live(connection: Connection) -> None:
            until = time.monotonic() + self._random.uniform(*LIFE)
            while not self._stop.is_set() and time.monotonic() < until:
                await connection.heard_by(self._stop, self._random.uniform(*PAUSE))
                await connection.ask()

        while not self._stop.is_set():
            await self._kept(client_log.LINES, target, live)
            await self._stopped_within(0.5)

    async def _download(self, target: tuple[str, int, str, int]) -> None:
        async def live(connection: Connection) -> None:
            await connection.ask(DOWNLOAD)
            while not self._stop.is_set():
                await connection.hear()
            await connection.ask()

        await self._kept(client_log.DOWNLOAD, target, live)


async def main(path: Path) -> None:
    clients = Clients(Plan(**json.loads(path.read_text())), sys.stdout)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, clients.stop)
    await clients.run()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
