# SPDX-License-Identifier: Apache-2.0
"""Sessions between two directors over loopback; tables are lists of flows."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from tests.support.certificates import certify, sign
from xdpdirector.model.access import Endpoint
from xdpdirector.model.sync import SyncSpec, SyncTls
from xdpdirector.sync import messages, receiver, sender
from xdpdirector.sync.connection_sync import SILENT, ConnectionSync
from xdpdirector.sync.hello import Hello
from xdpdirector.sync.interface import Theirs
from xdpdirector.sync.merged import Merged
from xdpdirector.sync.messages import Kind
from xdpdirector.sync.names import NOBODY, Names
from xdpdirector.sync.records import wire_type
from xdpdirector.sync.scanner import Batch
from xdpdirector.sync.status import PeerState

NAMES = Names({1: ("web", "192.0.2.10", 6)}, {0: ("web", "web1"), 1: ("web", "web2")})
STATES = {"CONNECTION_ESTABLISHED": 4}


class FakeTables:
    """Flows by number; what a scan finds is what was added since."""

    cost = 0.0

    def __init__(self, names: Names = NAMES) -> None:
        self.names = names
        self.flows: dict[int, int] = {}
        """Flow -> index of its backend."""
        self._new: list[int] = []
        self._told = names
        self.asked_silent: float | None = None

    def open(self, *flows: int, backend: int = 0) -> None:
        self.flows |= dict.fromkeys(flows, backend)
        self._new += flows

    async def scan(self) -> tuple[list[Batch], bool]:
        new, self._new = self._new, []
        renamed, self._told = self.names != self._told, self.names
        return ([self._batch(new)] if new else []), renamed

    async def bulk(self) -> AsyncIterator[Batch]:
        for flow in list(self.flows):
            yield self._batch([flow])

    async def merge(self, batch: Batch, theirs: Theirs) -> Merged:
        translation, result = theirs.translation(self.names), Merged()
        for record in batch.records:
            backend = int(translation.backends[record["backend"]])
            if backend == NOBODY:
                result.unknown += 1
            else:
                self.flows[int.from_bytes(record["flow"].tobytes(), "big")] = backend
                result.inserted += 1
        return result

    async def flows_here(self, silent: float | None) -> int:
        """All of them are silent."""
        self.asked_silent = silent
        return 0 if silent is not None else len(self.flows)

    def states(self) -> dict[str, int]:
        return STATES

    def _batch(self, flows: list[int]) -> Batch:
        records = np.zeros(len(flows), wire_type("connections4"))
        records["flow"] = [list(flow.to_bytes(8, "big")) for flow in flows]
        records["front"], records["backend"] = 1, [self.flows[flow] for flow in flows]
        records["state"] = 4
        return Batch("connections4", records)


def hello(name: str, listen: str, **changes: object) -> Hello:
    return Hello(
        **{
            "name": name,
            "fleet": "default",
            "instance": "default",
            "version": "0.2.0",
            "listen": listen,
            "states": STATES,
        }
        | changes
    )  # type: ignore[arg-type]


@pytest.fixture
def ports(free_port: Callable[[], int]) -> tuple[int, int]:
    return free_port(), free_port()


@pytest.fixture
def free_port() -> Callable[[], int]:
    def find() -> int:
        with socket.create_server(("127.0.0.1", 0)) as server:
            return int(server.getsockname()[1])

    return find


def spec(ports: tuple[int, int], number: int, **changes: object) -> SyncSpec:
    listen, peer = (f"127.0.0.1:{ports[(number + each) % 2]}" for each in (0, 1))
    return SyncSpec.model_validate({"listen": listen, "peers": [peer]} | changes)


@asynccontextmanager
async def running(
    made: SyncSpec, tables: FakeTables, name: str, vips: Callable[[], list[str]] = list, **said: object
) -> AsyncIterator[ConnectionSync]:
    sync = ConnectionSync(made, hello(name, str(made.listen), **said), tables, vips=vips)
    await sync.start()
    try:
        yield sync
    finally:
        await sync.close()


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def run(test: Awaitable[None]) -> None:
    asyncio.run(test)  # type: ignore[arg-type]


def test_a_peer_gets_what_was_there_and_what_comes(ports: tuple[int, int]) -> None:
    async def test() -> None:
        one, two = FakeTables(), FakeTables()
        one.open(1, 2, 3, backend=1)
        async with running(spec(ports, 0), one, "a"), running(spec(ports, 1), two, "b") as second:
            await until(lambda: two.flows.keys() == {1, 2, 3})
            one.open(4)
            two.open(5)
            await until(lambda: 4 in two.flows and 5 in one.flows)
            [status] = second.peers()
            assert (status.name, status.incoming.state, status.outgoing.state) == (
                "a", PeerState.SYNCED, PeerState.SYNCED,
            )  # fmt: skip
            assert set(two.flows.values()) == {0, 1}
            assert second.waiting() == ""
            assert second.warnings() == []

    run(test())


def test_silent_flows_are_nobodys_only_where_a_peer_holds_them(ports: tuple[int, int]) -> None:
    async def test() -> None:
        one = FakeTables()
        one.open(1, 2)
        async with running(spec(ports, 0), one, "a") as first:
            assert (await first.flows_here(), one.asked_silent) == (2, None)
            async with running(spec(ports, 1), FakeTables(), "b"):
                await until(lambda: first.peers()[0].outgoing.state is PeerState.SYNCED)
                assert (await first.flows_here(), one.asked_silent) == (0, SILENT)
            await until(lambda: first.peers()[0].outgoing.state is PeerState.CONNECTING)
            assert await first.flows_here() == 2

    run(test())


def test_a_link_that_was_lost_begins_with_bulk(ports: tuple[int, int]) -> None:
    async def test() -> None:
        one = FakeTables()
        one.open(1)
        async with running(spec(ports, 0), one, "a"):
            for _ in range(2):
                two = FakeTables()
                async with running(spec(ports, 1), two, "b"):
                    await until(lambda two=two: two.flows.keys() == one.flows.keys())
                one.open(2)

    run(test())


def test_a_peer_that_comes_late_is_not_left_to_wait(
    ports: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attempts to reach it had become rare by then: it would take over flows without the connections."""
    monkeypatch.setattr(sender, "FIRST_PAUSE", 3600.0)
    monkeypatch.setattr(sender, "LONGEST_PAUSE", 3600.0)

    async def test() -> None:
        one, two = FakeTables(), FakeTables()
        one.open(1)
        async with running(spec(ports, 0), one, "a") as first:
            await until(lambda: "refused" in first.peers()[0].outgoing.why)
            async with running(spec(ports, 1), two, "b"):
                await until(lambda: two.flows == {1: 0})

    run(test())


def test_numbers_are_the_senders(ports: tuple[int, int]) -> None:
    async def test() -> None:
        one, two = FakeTables(), FakeTables(Names({7: ("web", "192.0.2.10", 6)}, {9: ("web", "web2")}))
        one.open(1, backend=1)
        async with running(spec(ports, 0), one, "a"), running(spec(ports, 1), two, "b"):
            await until(lambda: two.flows == {1: 9})

    run(test())


def test_what_was_unknown_comes_when_it_is_known(ports: tuple[int, int]) -> None:
    async def test() -> None:
        one, two = FakeTables(), FakeTables(Names())
        one.open(1)
        async with running(spec(ports, 0), one, "a"), running(spec(ports, 1), two, "b") as second:
            await until(lambda: second.peers()[0].unknown)
            two.names = NAMES
            await until(lambda: two.flows == {1: 0})

    run(test())


class SlowTables(FakeTables):
    """Knows no names yet; what comes then is merged by these, and that ends when the test says so."""

    def __init__(self) -> None:
        super().__init__(Names())
        self.merging, self.go_on = asyncio.Event(), asyncio.Event()

    async def merge(self, batch: Batch, theirs: Theirs) -> Merged:
        if self.names is NAMES:
            return await super().merge(batch, theirs)
        self.merging.set()
        await self.go_on.wait()
        return Merged(unknown=len(batch.records))

    def has_told(self, names: Names) -> bool:
        """Whether a scan said that these are the names."""
        return self._told is names


def test_what_was_merged_by_the_names_of_before_comes_again(ports: tuple[int, int]) -> None:
    async def test() -> None:
        one, two = FakeTables(), SlowTables()
        one.open(1)
        async with running(spec(ports, 0), one, "a"), running(spec(ports, 1), two, "b"):
            await two.merging.wait()
            two.names = NAMES
            await until(lambda: two.has_told(NAMES))
            two.go_on.set()
            await until(lambda: two.flows == {1: 0}, 5.0)

    run(test())


def test_a_director_waits_for_its_peers_connections_and_not_for_ever(ports: tuple[int, int]) -> None:
    async def test() -> None:
        async with running(spec(ports, 0, patience=600), FakeTables(), "a") as alone:
            peer = f"127.0.0.1:{ports[1]}"
            assert alone.waiting() == f"the connections of {peer} have not arrived yet"
            async with running(spec(ports, 1), FakeTables(), "b"):
                await until(lambda: alone.waiting() == "")
        async with running(spec(ports, 0, patience=0), FakeTables(), "a") as hasty:
            assert hasty.waiting() == ""
            await until(lambda: hasty.warnings()[0].endswith(": Connection refused"))

    run(test())


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"fleet": "other"}, "its fleet is 'other', and this director's is 'default'"),
        ({"protocol": 2, "version": "9.0"}, "it speaks version 2 of the sync protocol (release 9.0), and this "
         "director version 1 (release 0.2.0): upgrade the older one"),
    ],
)  # fmt: skip
def test_a_wrong_peer_is_refused_and_both_say_why(
    ports: tuple[int, int], said: dict[str, object], why: str
) -> None:
    async def test() -> None:
        one, two = FakeTables(), FakeTables()
        one.open(1)
        async with (
            running(spec(ports, 0), one, "a", **said) as first,
            running(spec(ports, 1), two, "b") as second,
        ):
            await until(lambda: first.peers()[0].outgoing.state is PeerState.REFUSED)
            assert first.peers()[0].outgoing.why == f"it refuses this director: {why}"
            assert second.peers()[0].incoming.why == f"it is refused: {why}"
            assert two.flows == {}

    run(test())


def test_each_says_of_itself_what_the_other_shows(ports: tuple[int, int]) -> None:
    async def test() -> None:
        held = ["192.0.2.10"]
        async with (
            running(spec(ports, 0), FakeTables(), "a", vips=lambda: held, version="0.3.0") as first,
            running(spec(ports, 1), FakeTables(), "b") as second,
        ):
            await until(lambda: second.peers()[0].vips == ("192.0.2.10",))
            await until(lambda: first.peers()[0].vips == ())
            assert second.peers()[0].version == "0.3.0"
            assert first.view().vips == ("192.0.2.10",)
            await until(lambda: first.peers()[0].clock is not None)
            held.clear()
            await until(lambda: second.peers()[0].vips == ())

    run(test())


@pytest.mark.parametrize("leaves_out", [["layout"], []])
def test_a_release_that_says_less_or_more_of_itself_is_taken(
    ports: tuple[int, int], leaves_out: list[str]
) -> None:
    said = hello("b", f"127.0.0.1:{ports[1]}").document() | {"of_tomorrow": [1]}
    parsed = Hello.parse({key: value for key, value in said.items() if key not in leaves_out})
    assert parsed.name == "b"
    assert hello("a", f"127.0.0.1:{ports[0]}").why_not(parsed) == ""


def test_two_directors_of_one_name_are_told(ports: tuple[int, int]) -> None:
    async def test() -> None:
        async with (
            running(spec(ports, 0), FakeTables(), "a") as first,
            running(spec(ports, 1), FakeTables(), "a"),
        ):
            await until(lambda: "both directors are called 'a'" in first.peers()[0].outgoing.why)

    run(test())


def framed(kind: int, body: bytes) -> bytes:
    return struct.pack("!IB", len(body), kind) + body


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        struct.pack("!IB", messages.MOST + 1, Kind.RECORDS4),
        framed(Kind.HELLO, b"[1]"),
        framed(Kind.HELLO, b"{"),
        framed(Kind.HELLO, json.dumps({"name": "x"}).encode()),
        framed(Kind.HELLO, json.dumps(hello("x", "127.0.0.1:1").document()).encode()),
        framed(99, b""),
    ],
)
def test_strangers_are_let_go(ports: tuple[int, int], sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        tables = FakeTables()
        async with running(spec(ports, 0), tables, "a"):
            reader, writer = await asyncio.open_connection("127.0.0.1", ports[0])
            writer.write(sent)
            async with asyncio.timeout(10):
                await reader.read()
            writer.close()
        assert tables.flows == {}

    run(test())
    assert "from ('127.0.0.1'" in caplog.text or "a director is refused" in caplog.text


@pytest.mark.parametrize(
    "sent",
    [
        framed(Kind.RECORDS4, b"x"),
        framed(Kind.NAMES, b'{"fronts": [], "backends": [[70000, "web", "web1"]]}'),
        framed(Kind.NAMES, b'{"fronts": [[1, "web", 7, 6]], "backends": []}'),
        framed(Kind.HELLO, b"{}"),
    ],
)
def test_a_peer_that_breaks_the_protocol_is_let_go(ports: tuple[int, int], sent: bytes) -> None:
    async def test() -> None:
        async with running(spec(ports, 0), FakeTables(), "a") as sync:
            reader, writer = await asyncio.open_connection("127.0.0.1", ports[0])
            said = hello("b", f"127.0.0.1:{ports[1]}").document()
            writer.write(messages.document(Kind.HELLO, **said) + sent)
            async with asyncio.timeout(10):
                await reader.read()
            writer.close()
            await until(lambda: sync.peers()[0].incoming.state is PeerState.CONNECTING)
            assert sync.peers()[0].incoming.why

    run(test())


def test_a_peer_that_cannot_keep_up_gets_all_of_it_again(
    ports: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "MOST_UNSENT", -1)

    async def test() -> None:
        one, two = FakeTables(), FakeTables()
        async with running(spec(ports, 0), one, "a"), running(spec(ports, 1), two, "b"):
            one.open(1)
            await until(lambda: two.flows == {1: 0})

    run(test())


def test_a_silent_peer_is_lost(ports: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver, "HEARTBEAT_WITHIN", 0.3)

    async def test() -> None:
        async with running(spec(ports, 0), FakeTables(), "a") as sync:
            _, writer = await asyncio.open_connection("127.0.0.1", ports[0])
            writer.write(messages.document(Kind.HELLO, **hello("b", f"127.0.0.1:{ports[1]}").document()))
            await until(lambda: sync.peers()[0].incoming.why == "it has been silent for too long")
            writer.close()

    run(test())


def certificates(directory: Path, *names: str) -> list[SyncTls]:
    """Of one authority, for each of these."""
    authority = certify(directory, "authority")
    found = [sign(authority, directory, name) for name in names]
    return [SyncTls(certificate=each.certificate, key=each.key, ca=authority.certificate) for each in found]


def test_directors_know_each_other_by_their_certificates(ports: tuple[int, int], tmp_path: Path) -> None:
    ours = certificates(tmp_path, "a", "b")
    strange = tmp_path / "strange"
    strange.mkdir()
    [stranger] = certificates(strange, "c")

    async def test() -> None:
        one, two, three = FakeTables(), FakeTables(), FakeTables()
        one.open(1)
        async with (
            running(spec(ports, 0, tls=ours[0]), one, "a"),
            running(spec(ports, 1, tls=ours[1]), two, "b"),
        ):
            await until(lambda: two.flows == {1: 0})
        async with (
            running(spec(ports, 0, tls=ours[0]), one, "a") as first,
            running(spec(ports, 1, tls=stranger), three, "c") as third,
        ):
            await until(lambda: first.peers()[0].outgoing.why.startswith("TLS: "))
            await until(lambda: third.peers()[0].outgoing.why)
            assert three.flows == {}

    run(test())


def test_without_tls_only_loopback_will_do() -> None:
    with pytest.raises(ValidationError, match=r"192\.0\.2\.1:8651 is no loopback address: say `tls`"):
        SyncSpec.model_validate({"listen": "192.0.2.1:8651", "peers": ["192.0.2.2:8651"]})
    SyncSpec.model_validate({"listen": "192.0.2.1:8651", "peers": ["192.0.2.2:8651"], "insecure": True})


def test_an_endpoint_is_no_peer_of_itself() -> None:
    with pytest.raises(ValidationError, match="is this director itself"):
        SyncSpec.model_validate({"listen": "127.0.0.1:1", "peers": ["127.0.0.1:1"]})
    assert Endpoint.parse("127.0.0.1:1").is_loopback
