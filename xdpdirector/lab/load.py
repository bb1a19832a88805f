# SPDX-License-Identifier: Apache-2.0
"""`python -m xdpdirector.lab.load TARGET... --rate N`: HTTP clients at a steady rate, a JSON line a request.

The schedule is open: a request starts when it is due, whether or not earlier ones have ended, so that
slowness is seen and not waited out. Fresh requests open a connection each, targets in turn; kept clients ask
again and again on one connection and open another after some requests. SIGTERM, `--duration` or a closed
output ends it. Knows nothing of directors and namespaces: it asks GET /who and takes the body for a name.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, cycle
from typing import Literal, TextIO

from xdpdirector.lab.http_client import Connection, outcome
from xdpdirector.lab.sample import OK, Request

PATH = "/who"
_LIMIT = 2000  # requests under way at once: beyond, the schedule waits and the latency shows it


@dataclass(frozen=True)
class Target:
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Target:
        """From `192.0.2.10:80` or `[2001:db8::10]:80`."""
        host, _, port = text.rpartition(":")
        return cls(host.strip("[]"), int(port))

    @property
    def family(self) -> Literal[4, 6]:
        return 6 if ":" in self.host else 4


@dataclass(frozen=True)
class Plan:
    """`rate`: fresh requests a second. `kept`: clients that keep connections, each with a request every
    `pause` seconds and `reuse` requests a connection. `timeout`: seconds for a whole request."""

    targets: tuple[Target, ...]
    rate: float
    kept: int
    pause: float
    reuse: int
    timeout: float
    duration: float


class Load:
    """A plan while it runs."""

    def __init__(self, plan: Plan, output: TextIO) -> None:
        self._plan = plan
        self._output = output
        self._stop = asyncio.Event()
        self._room = asyncio.Semaphore(_LIMIT)
        self._under_way: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> None:
        """Until stopped; requests under way are then waited for."""
        targets = cycle(self._plan.targets)
        keepers = [asyncio.create_task(self._keep(next(targets), n)) for n in range(self._plan.kept)]
        begin = time.monotonic()
        end = begin + self._plan.duration
        for number in count():
            due = begin + number / self._plan.rate
            if await self._stopped_before(min(due, end)) or due >= end:
                break
            await self._room.acquire()
            task = asyncio.create_task(self._fresh(next(targets), due))
            self._under_way.add(task)
            task.add_done_callback(self._ended)
        self.stop()
        await asyncio.gather(*self._under_way, *keepers)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._room.release()

    async def _stopped_before(self, moment: float) -> bool:
        wait = moment - time.monotonic()
        if wait <= 0:
            await asyncio.sleep(0)
            return self._stop.is_set()
        try:
            async with asyncio.timeout(wait):
                await self._stop.wait()
        except TimeoutError:
            return False
        return True

    async def _fresh(self, target: Target, due: float) -> None:
        await self._ask(Connection(target.host, target.port), target, "fresh", due, last=True)

    async def _keep(self, target: Target, number: int) -> None:
        """One client with a kept connection; clients begin one after the other so as not to march in step."""
        due = time.monotonic() + self._plan.pause * number / max(1, self._plan.kept)
        while not await self._stopped_before(due):
            connection = Connection(target.host, target.port)
            for turn in range(self._plan.reuse):
                last = turn == self._plan.reuse - 1 or self._stop.is_set()
                good = await self._ask(connection, target, "kept", due, last=last)
                due = max(due + self._plan.pause, time.monotonic())
                if not good or last or await self._stopped_before(due):
                    break
            connection.close()

    async def _ask(
        self,
        connection: Connection,
        target: Target,
        kind: Literal["fresh", "kept"],
        due: float,
        *,
        last: bool,
    ) -> bool:
        """One request, the first of its connection opens it; writes its line. Whether it went well."""
        start, resent = time.monotonic(), connection.resent
        try:
            async with asyncio.timeout(self._plan.timeout):
                if connection.opened is None:
                    await connection.open()
                await connection.ask(PATH, last=last)
                result = OK
        except Exception as error:
            result = outcome(error)
        end = time.monotonic()
        request = Request(
            kind=kind,
            family=target.family,
            due=due,
            start=start,
            opened=connection.opened or start,
            end=end,
            backend=connection.server,
            outcome=result,
            resent=connection.resent - resent,
            connected=connection.connected,
        )
        if last or result != OK:
            connection.close()
        self._write(request)
        return result == OK

    def _write(self, request: Request) -> None:
        try:
            self._output.write(request.to_line() + "\n")
            self._output.flush()
        except BrokenPipeError:
            self.stop()


def plan(arguments: Sequence[str]) -> Plan:
    parser = argparse.ArgumentParser(prog="load", description="HTTP clients at a steady rate")
    parser.add_argument("targets", nargs="+", type=Target.parse, help="ADDRESS:PORT or [ADDRESS]:PORT")
    parser.add_argument("--rate", type=float, default=200.0, help="fresh requests a second")
    parser.add_argument("--kept", type=int, default=0, help="clients with a kept connection")
    parser.add_argument("--pause", type=float, default=0.1, help="seconds between requests of a kept client")
    parser.add_argument("--reuse", type=int, default=20, help="requests on a kept connection")
    parser.add_argument("--timeout", type=float, default=3.0, help="seconds for a whole request")
    parser.add_argument("--duration", type=float, default=300.0, help="seconds, at most")
    values = vars(parser.parse_args(arguments))
    return Plan(**{**values, "targets": tuple(values["targets"])})


async def main(arguments: Sequence[str]) -> None:
    load = Load(plan(arguments), sys.stdout)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, load.stop)
    await load.run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
