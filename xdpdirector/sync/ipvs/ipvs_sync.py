# SPDX-License-Identifier: Apache-2.0
"""The IPVS sync as a whole: as backup it takes datagrams in, as master it sends what has changed each second, and
all there is once a minute. A backup of LVS cannot ask for what it missed.

However many datagrams come, taking them uses at most half of a processor: what is beyond that the kernel drops, and
counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Protocol

from xdpdirector.model.lvs import LvsSyncSpec
from xdpdirector.sync.ipvs import sockets
from xdpdirector.sync.ipvs.exchange import Taken
from xdpdirector.sync.ipvs.status import LvsIncoming, LvsOutgoing, LvsRejected, LvsSyncView, LvsTaken
from xdpdirector.sync.merged import Merged
from xdpdirector.system.background_tasks import BackgroundTasks

BURST = 64  # datagrams taken at a time
SCAN_APART = 1.0  # seconds; at least SHARE times as long as a scan takes
SHARE = 4
ALL_APART = 60.0  # seconds between two rounds of all there is
PACE = 0.02  # seconds between some datagrams of a round and the next
RETRY = 5.0  # seconds until a socket is opened anew


class Tables(Protocol):
    """`xdpdirector.sync.ipvs.exchange.Exchange` is one."""

    sent: int

    async def take(self, datagrams: Sequence[bytes]) -> Taken: ...

    async def changed(self) -> list[bytes]: ...

    async def noted(self) -> None: ...

    def all(self) -> AsyncIterator[list[bytes]]: ...


class IpvsSync:
    """Of one director. `clock` gives seconds, monotonic; `sleep` waits for so many."""

    def __init__(
        self,
        spec: LvsSyncSpec,
        tables: Tables,
        tasks: BackgroundTasks | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep,
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._spec, self._tables, self._tasks = spec, tables, tasks or BackgroundTasks()
        self._taken, self._lost, self._heard_at = Taken(), 0, 0.0
        self._in_why, self._out_why = "not open yet", "not open yet"
        self._datagrams_sent = self._unsent = 0
        self._running: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        works = {"the IPVS sync": self._scan}
        if self._spec.receives:
            works["the IPVS sync's backup"] = self._receive
        if self._spec.sends:
            works["the IPVS sync's master"] = self._send_all
        self._running = [self._tasks.start(name, work) for name, work in works.items()]

    async def close(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def warnings(self) -> list[str]:
        """A sentence for each direction that has no socket."""
        found = []
        if self._spec.receives and self._in_why:
            found.append(f"no connections come from LVS directors (lvs.sync): {self._in_why}")
        if self._spec.sends and self._out_why:
            found.append(f"no connections are sent to LVS directors (lvs.sync): {self._out_why}")
        return found

    def view(self) -> LvsSyncView:
        spec = self._spec
        return LvsSyncView(
            role=spec.role,
            interface=spec.interface,
            syncid=spec.syncid,
            group=f"[{spec.group}]:{spec.port}" if spec.group.version == 6 else f"{spec.group}:{spec.port}",
            incoming=self._incoming() if spec.receives else None,
            outgoing=LvsOutgoing(
                why=self._out_why,
                datagrams=self._datagrams_sent,
                entries=self._tables.sent,
                unsent=self._unsent,
            )
            if spec.sends
            else None,
        )

    def _incoming(self) -> LvsIncoming:
        taken = self._taken
        return LvsIncoming(
            why=self._in_why,
            datagrams=taken.datagrams,
            foreign=taken.foreign,
            malformed=taken.malformed,
            malformed_example=taken.why,
            lost=self._lost,
            heard=round(self._clock() - self._heard_at, 3) if self._heard_at else None,
            connections=_view(taken.connections),
            templates=_view(taken.templates),
            rejected=tuple(
                LvsRejected(reason=reason, entries=count, example=taken.rejected.examples[reason])
                for reason, count in sorted(taken.rejected.counts.items())
            ),
        )

    async def _receive(self) -> None:
        while True:
            try:
                with sockets.receiving(self._spec) as opened:
                    self._in_why = ""
                    await self._take_from(opened, self._lost)
            except OSError as error:
                self._in_why = sockets.reason(error, self._spec.interface)
            await self._sleep(RETRY)

    async def _take_from(self, opened: socket.socket, lost_before: int) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY):
                    await _readable(opened)
            if not sockets.is_bound(opened, self._spec):
                raise OSError(errno.ENODEV, "the interface was removed")
            begun = self._clock()
            datagrams, lost = sockets.burst(opened, BURST)
            if not datagrams:
                continue
            self._heard_at = begun
            self._lost = max(self._lost, lost_before + lost)
            self._taken.add(await self._tables.take(datagrams))
            await self._sleep(self._clock() - begun)

    async def _scan(self) -> None:
        with contextlib.ExitStack() as stack:
            sender = stack.enter_context(_Sender(self))
            while True:
                begun = self._clock()
                if self._spec.sends:
                    sender.send(await self._tables.changed())
                else:
                    await self._tables.noted()
                await self._sleep(max(SCAN_APART, SHARE * (self._clock() - begun)))

    async def _send_all(self) -> None:
        with contextlib.ExitStack() as stack:
            sender = stack.enter_context(_Sender(self))
            while True:
                async for datagrams in self._tables.all():
                    sender.send(datagrams)
                    await self._sleep(PACE)
                await self._sleep(ALL_APART)

    def on_sent(self, why: str, sent: int, unsent: int) -> None:
        self._out_why = why
        self._datagrams_sent += sent
        self._unsent += unsent


class _Sender:
    """A socket that is opened when something is to be sent, and again after an error."""

    def __init__(self, owner: IpvsSync) -> None:
        self._owner, self._spec = owner, owner._spec
        self._socket: socket.socket | None = None

    def __enter__(self) -> _Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def send(self, datagrams: Sequence[bytes]) -> None:
        sent, why = 0, ""
        try:
            self._socket = self._socket or sockets.sending(self._spec)
            for datagram in datagrams:
                self._socket.send(datagram)
                sent += 1
        except BlockingIOError:
            pass  # the rest is unsent: what has not changed goes out with the next round of all
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                why = sockets.reason(error, self._spec.interface)
                self._close()
        self._owner.on_sent(why, sent, len(datagrams) - sent)

    def _close(self) -> None:
        if self._socket:
            self._socket.close()
            self._socket = None


async def _readable(opened: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(opened, _once(ready))
    try:
        await ready
    finally:
        loop.remove_reader(opened)


def _once(ready: asyncio.Future[None]) -> Callable[[], None]:
    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    return tell


def _view(merged: Merged) -> LvsTaken:
    return LvsTaken(**{name: getattr(merged, name) for name in LvsTaken.model_fields})
