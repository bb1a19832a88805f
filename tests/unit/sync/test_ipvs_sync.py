# SPDX-License-Identifier: Apache-2.0
"""The IPVS sync beside the event loop: sockets of the loopback interface, tables that a test writes down."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest
from pydantic import ValidationError

from xdpdirector.cli import fleet
from xdpdirector.model.lvs import LvsSpec, LvsSyncSpec
from xdpdirector.sync.combined import CombinedSync
from xdpdirector.sync.ipvs import message, sockets
from xdpdirector.sync.ipvs.exchange import Taken
from xdpdirector.sync.ipvs.incoming import Rejected, Unmapped
from xdpdirector.sync.ipvs.ipvs_sync import IpvsSync
from xdpdirector.sync.ipvs.message import Entry
from xdpdirector.sync.merged import Merged
from xdpdirector.sync.status import NoSync

ENTRY = Entry(
    6,
    ip_address("192.0.2.100").packed,
    1024,
    ip_address("192.0.2.10").packed,
    80,
    ip_address("192.0.2.21").packed,
    80,
    0x83,
    1,
    900,
)


class FakeTables:
    """Takes each datagram as one connection; `news` are sent once, `whole` in each round of all."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.news: list[bytes] = []
        self.whole: list[bytes] = []
        self.sent = 0
        self.rounds = 0

    async def take(self, datagrams: Sequence[bytes]) -> Taken:
        self.taken += datagrams
        rejected = Rejected()
        rejected.count(Unmapped.SERVICE, "no service listens there", len(datagrams))
        return Taken(datagrams=len(datagrams), connections=Merged(inserted=len(datagrams)), rejected=rejected)

    async def changed(self) -> list[bytes]:
        news, self.news = self.news, []
        self.sent += len(news)
        return news

    async def noted(self) -> None: ...

    async def all(self) -> AsyncIterator[list[bytes]]:
        self.rounds += 1
        yield self.whole


def spec(role: str = "backup") -> LvsSyncSpec:
    return LvsSyncSpec.model_validate({"role": role, "interface": "lo"})


def run(test: Awaitable[None]) -> None:
    asyncio.run(test)  # type: ignore[arg-type]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(tables: FakeTables, role: str = "backup") -> AsyncIterator[IpvsSync]:
    sync = IpvsSync(spec(role), tables)
    await sync.start()
    try:
        yield sync
    finally:
        await sync.close()


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The other end of what the sync reads and writes."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        for each in (ours, theirs):
            each.setblocking(False)
        monkeypatch.setattr(sockets, "receiving", lambda spec: ours.dup())
        monkeypatch.setattr(sockets, "sending", lambda spec: ours.dup())
        monkeypatch.setattr(sockets, "is_bound", lambda opened, spec: True)
        yield theirs


def test_what_comes_is_taken_and_shown(pair: socket.socket) -> None:
    async def test() -> None:
        tables = FakeTables()
        async with running(tables) as sync:
            [datagram] = message.written([ENTRY], 0)
            await until(lambda: not sync.warnings())
            pair.send(datagram)
            pair.send(b"x")
            await until(lambda: len(tables.taken) == 2)
            await until(lambda: (incoming := sync.view().incoming) and incoming.datagrams == 2)

            view = CombinedSync(NoSync(), sync).view().model_dump(mode="json")
            text = "\n".join(str(each) for each in fleet.show(view) if isinstance(each, str))

            assert view["lvs"]["incoming"]["connections"]["inserted"] == 2
            assert view["lvs"]["outgoing"] is None
            assert "not taken, no_service: 2; the last one: no service listens there" in text
            assert "LVS directors: backup on lo, group 224.0.0.81:8848, syncid 0" in text

    run(test())


def test_a_flood_costs_half_of_a_processor_at_most(pair: socket.socket) -> None:
    """After each burst the sync rests as long as that took."""
    clock = iter(range(0, 1 << 20, 7))
    rests: list[float] = []

    async def rest(seconds: float) -> None:
        rests.append(seconds)
        await asyncio.sleep(0)

    async def test() -> None:
        tables = FakeTables()
        sync = IpvsSync(spec("backup"), tables, clock=lambda: next(clock), sleep=rest)
        for _ in range(3):
            pair.send(b"x")
        await sync.start()
        await until(lambda: len(tables.taken) == 3 and 7.0 in rests)
        await sync.close()

    run(test())


def test_an_interface_that_was_removed_is_said(pair: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with running(FakeTables()) as sync:
            await until(lambda: not sync.warnings())
            monkeypatch.setattr(sockets, "is_bound", lambda opened, spec: False)
            pair.send(b"x")
            await until(
                lambda: sync.warnings()[:1] and sync.warnings()[0].endswith("there is no interface lo")
            )

    run(test())


def test_a_socket_is_bound_to_its_interface() -> None:
    """That of the loopback interface is there for everybody."""
    with sockets.receiving(spec()) as opened:
        assert sockets.is_bound(opened, spec())
        assert not sockets.is_bound(opened, spec().model_copy(update={"interface": "eth0"}))


def test_a_burst_is_bounded(pair: socket.socket) -> None:
    for number in range(5):
        pair.send(bytes([number]))
    with sockets.receiving(spec()) as opened:
        assert sockets.burst(opened, 3) == ([b"\0", b"\1", b"\2"], 0)
        assert sockets.burst(opened, 3) == ([b"\3", b"\4"], 0)
        assert sockets.burst(opened, 3) == ([], 0)


def test_a_master_sends_news_and_all(pair: socket.socket) -> None:
    async def test() -> None:
        tables = FakeTables()
        tables.news, tables.whole = [b"new"], [b"all 1", b"all 2"]
        async with running(tables, "master") as sync:
            await until(lambda: (outgoing := sync.view().outgoing) and outgoing.datagrams == 3)
            assert sync.warnings() == []
            assert sync.view().incoming is None
        assert {pair.recv(100) for _ in range(3)} == {b"new", b"all 1", b"all 2"}

    run(test())


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (errno.ENODEV, "there is no interface lo"),
        (errno.ENETUNREACH, "lo has no address and no route that a datagram could leave by"),
        (errno.EACCES, "Permission denied"),
    ],
)
def test_a_socket_that_cannot_be_opened_is_said(
    monkeypatch: pytest.MonkeyPatch, number: int, why: str
) -> None:
    def refuse(_: LvsSyncSpec) -> socket.socket:
        raise OSError(number, "no")

    monkeypatch.setattr(sockets, "receiving", refuse)
    monkeypatch.setattr(sockets, "sending", refuse)

    async def test() -> None:
        async with running(FakeTables(), "both") as sync:
            await until(lambda: all(each.endswith(why) for each in sync.warnings()))
            assert len(sync.warnings()) == 2

    run(test())


def test_what_the_interface_does_not_take_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def send(self, _: bytes) -> int:
            raise BlockingIOError

        def close(self) -> None: ...

    monkeypatch.setattr(sockets, "sending", lambda spec: Full())

    async def test() -> None:
        tables = FakeTables()
        tables.news = [b"1", b"2"]
        async with running(tables, "master") as sync:
            await until(lambda: (outgoing := sync.view().outgoing) and outgoing.unsent == 2)

    run(test())


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({"role": "slave", "interface": "eth0"}, "role"),
        ({"role": "backup"}, "interface"),
        ({"role": "backup", "interface": "eth0", "syncid": 256}, "syncid"),
        ({"role": "backup", "interface": "eth0", "group": "192.0.2.1"}, "is no multicast address"),
        ({"role": "backup", "interface": "eth0", "version": 2}, "version"),
    ],
)
def test_what_may_not_be_said(said: dict[str, object], wrong: str) -> None:
    with pytest.raises(ValidationError, match=wrong):
        LvsSpec.model_validate({"sync": said})
