# SPDX-License-Identifier: Apache-2.0
"""Long reads, beside the loop and bounded in cost: the health checks wait for no reader.

One thread serves all readers, one read of each caller at a time, so that no caller waits for more than one read of
each of the others: a second thread would only keep the loop from the interpreter for longer. What can be read on
the loop alone is read there in pieces. The processor time of a caller's reads is counted, and who has used up its
share waits. Knows neither what is read nor who asks.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel

from xdpdirector.api.http.loop_turns import STRETCH
from xdpdirector.errors import TooManyRequestsError

SHARE = 0.25  # of a processor: what one caller's reads may use for long
BURST = 1.0  # seconds of a processor that may be used at once
WAITING = 16  # reads of one caller that are not done yet
STREAMS = 32  # that may run at once

Found = TypeVar("Found")


@dataclass
class _Account:
    """`free_at`: when all that was used is earned again."""

    free_at: float = 0.0
    reads: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def charge(self, seconds: float, now: float) -> None:
        self.free_at = max(self.free_at, now) + seconds / SHARE

    def wait(self, now: float) -> float:
        """Seconds until it may read again."""
        return max(0.0, self.free_at - now - BURST / SHARE)

    def leave(self) -> None:
        self.turn.release()
        self.reads -= 1


class Reading:
    """`now`: monotonic seconds; `used`: the processor time of the present thread."""

    def __init__(
        self,
        now: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.thread_time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._now, self._used, self._sleep = now, used, sleep
        self._thread = ThreadPoolExecutor(1, "reading")
        self._accounts: dict[str, _Account] = {}

    def __len__(self) -> int:
        """Callers that are remembered."""
        return len(self._accounts)

    async def run(self, caller: str, work: Callable[[], Found], *, most: int = WAITING) -> Found:
        """What `work` gives, done in the thread. TooManyRequestsError: `most` reads of the caller wait."""
        account = await self._enter(caller, most)
        try:
            reading = asyncio.get_running_loop().run_in_executor(self._thread, self._charged, account, work)
        except BaseException:
            account.leave()
            raise
        reading.add_done_callback(lambda done: _end(account, done))
        return await asyncio.shield(reading)  # who leaves keeps his turn until the thread has done with it

    async def in_turns(
        self, caller: str, pieces: Iterable[Found | None], *, most: int = WAITING
    ) -> list[Found]:
        """All that is made, on the loop; None is a piece of work with nothing to show yet. TooManyRequestsError:
        `most` reads of the caller wait."""
        account = await self._enter(caller, most)
        made, begun = list[Found](), self._used()
        try:
            for piece in pieces:
                if piece is not None:
                    made.append(piece)
                used = self._used() - begun
                if used > STRETCH:
                    account.charge(used, self._now())
                    await self._sleep(0)
                    begun = self._used()
        finally:
            account.charge(self._used() - begun, self._now())
            account.leave()
        return made

    async def _enter(self, caller: str, most: int = WAITING) -> _Account:
        """When it is the caller's turn, and its share is earned. It has to leave."""
        self._forget_idle()
        account = self._accounts.setdefault(caller, _Account())
        if account.reads >= most:
            raise TooManyRequestsError(
                f"{most} long reads of yours are under way: wait for their answers, and ask less often."
            )
        account.reads += 1
        try:
            await account.turn.acquire()
        except BaseException:
            account.reads -= 1
            raise
        try:
            await self._sleep(account.wait(self._now()))
        except BaseException:
            account.leave()
            raise
        return account

    def _charged(self, account: _Account, work: Callable[[], Found]) -> Found:
        """In the thread: also who has left meanwhile pays."""
        begun = self._used()
        try:
            with _uncollected():
                return work()
        finally:
            account.charge(self._used() - begun, self._now())

    def _forget_idle(self) -> None:
        now = self._now()
        idle = [key for key, each in self._accounts.items() if not each.reads and each.free_at <= now]
        for key in idle:
            del self._accounts[key]


@contextmanager
def _uncollected() -> Iterator[None]:
    """What a long read makes is gone when it is written. The collector of garbage would look through all of it
    again and again meanwhile, and keep the loop from running for as long."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def _end(account: _Account, read: asyncio.Future[Any]) -> None:
    """Of a read whose caller may have gone."""
    account.leave()
    if not read.cancelled():
        read.exception()


class Reader:
    """The reads of one caller."""

    def __init__(self, reading: Reading, caller: str) -> None:
        self._reading, self._caller = reading, caller

    async def read(self, work: Callable[[], Found]) -> Found:
        """See `Reading.run`."""
        return await self._reading.run(self._caller, work)

    async def read_at_last(self, work: Callable[[], Found]) -> Found:
        """The same for what is the end of something: it is not refused."""
        return await self._reading.run(self._caller, work, most=WAITING + STREAMS)

    async def in_turns(self, pieces: Iterable[Found | None]) -> list[Found]:
        """See `Reading.in_turns`."""
        return await self._reading.in_turns(self._caller, pieces)

    async def in_a_stream(self, pieces: Iterable[bytes], last: int | None = None) -> bytes:
        """All of them, or the last so many that are not empty. A stream that has begun is refused nothing: it
        waits, and is told what it missed."""
        made = await self._reading.in_turns(self._caller, pieces, most=WAITING + STREAMS)
        return b"".join(deque(filter(None, made), maxlen=last))


def reader_of(request: Request) -> Reader:
    identity = getattr(request.state, "identity", None)
    return Reader(request.app.state.reading, identity.name if identity else "")


async def _reader(request: Request) -> Reader:
    return reader_of(request)


ReaderDep = Annotated[Reader, Depends(_reader)]


def as_json(
    items: Sequence[BaseModel],
    following: str | None,
    last_event_id: int | None = None,
    fields: Set[str] | None = None,
) -> bytes:
    """A `Page`, of whose items only `fields` are shown. Item by item: no other thread gets its turn inside of one,
    and there may be thousands of them."""
    included = None if fields is None else set(fields)
    texts = b",".join(
        item.__pydantic_serializer__.to_json(item, by_alias=True, include=included) for item in items
    )
    behind = b"" if last_event_id is None else b',"last_event_id":%d' % last_event_id
    return b'{"items":[%b],"next":%b%b}' % (texts, json.dumps(following).encode(), behind)
