# SPDX-License-Identifier: Apache-2.0
"""Connections of LVS directors in our table, and ours as an LVS director gets them, by the programs of packets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from ipaddress import ip_address

import pytest
from scapy.layers.inet import IP
from scapy.layers.sctp import (
    SCTP,
    SCTPChunkAbort,
    SCTPChunkCookieEcho,
    SCTPChunkData,
    SCTPChunkInit,
    SCTPChunkShutdown,
)
from scapy.packet import Packet

import tests.support.world as w
from xdpdirector.model import Persistence, Scheduler, ServiceSpec, Sizes
from xdpdirector.model.listener import Listener
from xdpdirector.model.lvs import LvsSyncSpec
from xdpdirector.sync.ipvs import message
from xdpdirector.sync.ipvs.exchange import Exchange, Taken
from xdpdirector.sync.ipvs.message import Entry, Flags
from xdpdirector.sync.merged import Merged

SIZES = Sizes(services=4, backends=16, listeners=16, connections=1024, connections6=1024, ring_slots=4096,
              clients=1024, fragments=1024, denied=16, sources=1024)  # fmt: skip
TWO = (w.backend("web1"), w.backend("web2"))
ADDRESSES = {"web1": "192.0.2.21", "web2": "192.0.2.22"}
SPEC = ServiceSpec.model_validate(
    {
        "listeners": [str(each) for each in w.LISTENERS],
        "backends": {name: {"address": address} for name, address in ADDRESSES.items()},
    }
)
PERSISTENT = SPEC.model_copy(update={"persistence": Persistence(timeout=600)})
RUNS = 0x83
SYNCID = 5


def packed(text: str) -> bytes:
    return ip_address(text).packed


def connection(sport: int = 1024, server: str = "192.0.2.21", **changes: object) -> Entry:
    """Of a client of `w.tcp`, as an LVS director says it."""
    entry = Entry(6, packed(w.CLIENT), sport, packed(w.VIP), 80, packed(server), 80, RUNS, 1, 900)
    return entry._replace(**changes)  # type: ignore[arg-type]


def template(client: str, server: str, **changes: object) -> Entry:
    flags = RUNS | Flags.TEMPLATE
    entry = Entry(6, packed(client), 0, packed(w.VIP), 80, packed(server), 80, flags, 1, 600)
    return entry._replace(**changes)  # type: ignore[arg-type]


class Director:
    """A world with the IPVS sync."""

    def __init__(self, world: w.World) -> None:
        self.world = world
        self.services: dict[str, ServiceSpec] = {"web": SPEC}
        spec = LvsSyncSpec(role="both", interface="lo", syncid=SYNCID)
        marks = {"1": (Listener.parse(f"{w.VIP}:80/tcp"),)}
        program = world.tables.loaded.program.with_name("merge")
        plane = (world.tables, world.clock, program, world.plane.rings)
        self.exchange = Exchange(spec, marks, lambda: self.services, plane)

    def take(self, *entries: Entry, syncid: int = SYNCID, version: int = 1) -> Taken:
        return self.take_datagrams(list(message.written(entries, syncid, version)))

    def take_datagrams(self, datagrams: Sequence[bytes]) -> Taken:
        return asyncio.run(self.exchange.take(datagrams))

    def sent(self) -> list[Entry]:
        return _entries(asyncio.run(self.exchange.changed()))

    def all(self) -> list[Entry]:
        async def gather() -> list[bytes]:
            return [each async for some in self.exchange.all() for each in some]

        return _entries(asyncio.run(gather()))


def _entries(datagrams: list[bytes]) -> list[Entry]:
    return [entry for each in datagrams for entry in message.parse(each).entries]


@pytest.fixture(scope="module")
def world() -> Iterator[w.World]:
    with w.worlds("ipvs-sync", 1, SIZES) as [made]:
        yield made


@pytest.fixture
def director(world: w.World) -> Iterator[Director]:
    world.empty()
    world.apply(w.service(members=TWO))
    made = Director(world)
    yield made
    made.exchange.close()


def owner(director: Director, sport: int = 1024) -> str:
    return w.owner(director.world.send(w.tcp("PA", sport=sport)))


@pytest.mark.parametrize("version", [0, 1])
def test_connections_of_lvs_go_on_here(director: Director, version: int) -> None:
    flows = {sport: f"web{1 + sport % 2}" for sport in range(1, 101)}
    taken = director.take(
        *(connection(sport, ADDRESSES[name]) for sport, name in flows.items()), version=version
    )

    assert taken.connections == Merged(inserted=len(flows))
    assert not taken.rejected.counts
    assert {sport: owner(director, sport) for sport in flows} == flows


def test_ipv6_and_udp(director: Director) -> None:
    six = Entry(
        6, packed(w.CLIENT6), 1024, packed(w.VIP6), 80, packed("192.0.2.22") + bytes(12), 80, RUNS, 1, 900
    )
    udp = connection(server="192.0.2.22", protocol=17, port=53, backend_port=53, state=0)
    taken = director.take(udp, six)

    assert taken.connections == Merged(inserted=1)
    assert taken.rejected.counts == {"no_backend": 1}  # IPVS has no real server of the other family, either
    assert w.owner(director.world.send(w.udp())) == "web2"


SCTP_PORT = 3868


@pytest.fixture
def sctp_director(director: Director) -> Director:
    """Its service listens on SCTP, too."""
    listeners = (*w.LISTENERS, Listener.parse(f"{w.VIP}:{SCTP_PORT}/sctp"))
    director.world.apply(w.service(members=TWO, listeners=listeners))
    director.services = {"web": SPEC.model_copy(update={"listeners": listeners})}
    return director


def sctp(chunk: Packet, sport: int) -> Packet:
    head = SCTP(sport=sport, dport=SCTP_PORT)
    return w.ethernet() / IP(src=w.CLIENT, dst=w.VIP) / head / chunk


def test_associations_of_lvs_go_on_here(sctp_director: Director) -> None:
    to = {"protocol": 132, "port": SCTP_PORT, "backend_port": SCTP_PORT}
    flows = {sport: f"web{1 + sport % 2}" for sport in range(1, 15)}
    taken = sctp_director.take(
        *(
            connection(sport, ADDRESSES[name], state=sport if sport < 14 else 0, **to)
            for sport, name in flows.items()
        )
    )

    assert taken.connections == Merged(inserted=13)
    assert taken.rejected.counts == {"state": 1}
    outcomes = {
        sport: sctp_director.world.send(sctp(SCTPChunkData(data=b"x"), sport)) for sport in range(1, 14)
    }
    assert {w.owner(each) == flows[sport] for sport, each in outcomes.items()} == {True}


def test_associations_go_out_as_lvs_has_them(sctp_director: Director) -> None:
    for sport in (1, 2, 3):
        for chunk in (SCTPChunkInit(), SCTPChunkCookieEcho(cookie=b"x")):
            sctp_director.world.send(sctp(chunk, sport))
    sctp_director.world.send(sctp(SCTPChunkShutdown(), 2))
    sctp_director.world.send(sctp(SCTPChunkAbort(), 3))
    sctp_director.world.send(sctp(SCTPChunkInit(), 4))  # of a single packet
    found = {entry.client_port: entry for entry in sctp_director.sent()}

    assert {port: (each.protocol, each.port, each.state, each.flags) for port, each in found.items()} == {
        1: (132, SCTP_PORT, 8, 0x83), 2: (132, SCTP_PORT, 10, 0x183), 3: (132, SCTP_PORT, 13, 0x183),
    }  # fmt: skip


def test_the_end_of_a_connection(director: Director) -> None:
    director.take(connection())
    assert director.world.plane.counters.load(("web", "web1")) == (1, 0)

    taken = director.take(connection(state=4, flags=RUNS | Flags.INACTIVE))

    assert taken.connections == Merged(updated=1)
    assert director.world.plane.counters.load(("web", "web1")) == (0, 1)


def test_what_packets_decided_here_stays(director: Director) -> None:
    """Nothing proves who sends a datagram: it moves no connection that runs through this director."""
    for flags in ("S", "A", "PA"):
        director.world.send(w.tcp(flags))
    director.sent()
    mine = owner(director)
    other = {"web1": "192.0.2.22", "web2": "192.0.2.21"}[mine]

    assert director.take(connection(server=other)).connections == Merged(conflicts=1)
    assert owner(director) == mine


def test_of_two_datagrams_the_later_one_says_who_has_it(director: Director) -> None:
    director.take(connection(server="192.0.2.21"))

    director.take(connection(server="192.0.2.22"))

    assert owner(director) == "web2"


def test_a_late_end_moves_nothing(director: Director) -> None:
    director.take(connection(server="192.0.2.21"))

    taken = director.take(connection(server="192.0.2.22", state=4, flags=RUNS | Flags.INACTIVE))

    assert taken.connections == Merged(conflicts=1)
    assert owner(director) == "web1"


@pytest.mark.parametrize(
    ("entry", "reason", "text"),
    [
        (connection(port=81), "no_service", "no service listens on 192.0.2.10:81/tcp"),
        (connection(vip=packed("192.0.2.99")), "no_service", "no service listens on 192.0.2.99:80/tcp"),
        (connection(server="192.0.2.99"), "no_backend", "service 'web' has no backend 192.0.2.99"),
        (connection(flags=0x80), "method", "192.0.2.21:80 is not reached by direct routing, but by masq"),
        (connection(flags=0x82), "method", "192.0.2.21:80 is not reached by direct routing, but by tunnel"),
        (connection(flags=0x87), "method", "192.0.2.21:80 is not reached by direct routing, but by 7"),
        (connection(backend_port=8080), "port",
         "192.0.2.21:8080 has another port than 192.0.2.10:80/tcp: direct routing keeps it"),
        (connection(flags=RUNS | Flags.NO_CPORT), "port",
         "a connection to 192.0.2.10:80/tcp without the client's port"),
        (connection(flags=RUNS | Flags.ONE_PACKET), "one_packet",
         "a connection of a single packet to 192.0.2.10:80/tcp"),
        (connection(state=0), "state",
         "a connection to 192.0.2.10:80/tcp in the state 0, which says nothing here"),
        (connection(state=99), "state",
         "a connection to 192.0.2.10:80/tcp in the state 99, which says nothing here"),
        (template(w.CLIENT, "192.0.2.21"), "no_persistence", "service 'web' has no persistence"),
        (template(w.CLIENT, "192.0.2.21", protocol=0, vip=bytes(3) + b"\2", port=0, fwmark=2), "no_fwmark",
         "firewall mark 2 stands for no listener of a service: see lvs.fwmarks"),
        (template(w.CLIENT, "192.0.2.21", engine=b"sip\x1b", engine_data=b"x"), "engine",
         "a template of the persistence engine 'sip?'"),
    ],
)  # fmt: skip
def test_what_nothing_here_fits_is_counted_and_said(
    director: Director, entry: Entry, reason: str, text: str
) -> None:
    taken = director.take(entry)

    assert taken.rejected.counts == {reason: 1}
    assert list(taken.rejected.examples.values()) == [text]
    assert taken.connections == taken.templates == Merged()


def test_another_syncid_is_ignored(director: Director) -> None:
    taken = director.take(connection(), syncid=SYNCID + 1)

    assert (taken.datagrams, taken.foreign, taken.connections) == (1, 1, Merged())


def test_a_malformed_datagram_is_counted(director: Director) -> None:
    [datagram] = message.written([connection()], SYNCID)

    taken = director.take_datagrams([datagram[:-1], b"", datagram])

    assert (taken.malformed, taken.why) == (2, "it is shorter than a header")
    assert taken.connections == Merged(inserted=1)


@pytest.mark.parametrize(
    "changes",
    [{}, {"protocol": 0, "vip": bytes(3) + b"\1", "port": 0, "backend_port": 0, "fwmark": 1}],
)
def test_persistent_clients_of_lvs_keep_their_server(director: Director, changes: dict[str, object]) -> None:
    """By VIP and port, or by firewall mark."""
    director.world.apply(w.service(members=TWO, persistence=Persistence(timeout=600)))
    director.services = {"web": PERSISTENT}
    wanted = {f"198.51.100.{number}": f"web{1 + number % 2}" for number in range(1, 21)}
    taken = director.take(*(template(each, ADDRESSES[name], **changes) for each, name in wanted.items()))

    assert taken.templates == Merged(updated=len(wanted))
    assert {client: w.owner(director.world.send(w.tcp("S", client=client))) for client in wanted} == wanted


def test_a_service_that_is_new_is_known_at_once(director: Director) -> None:
    director.services = {}
    assert director.take(connection()).rejected.counts == {"no_service": 1}

    director.services = {"web": SPEC}

    assert director.take(connection()).connections == Merged(inserted=1)


def test_a_connection_that_disagrees_with_its_slot(director: Director) -> None:
    director.world.apply(w.service(members=TWO, scheduler=Scheduler.MH))
    director.services = {"web": SPEC.model_copy(update={"scheduler": Scheduler.MH})}
    flows = range(1, 51)
    by_ring = {sport: w.owner(director.world.send(w.tcp("S", sport=sport))) for sport in flows}
    other = {"web1": "web2", "web2": "web1"}

    director.take(*(connection(sport, ADDRESSES[other[by_ring[sport]]]) for sport in flows))

    assert {sport: owner(director, sport) for sport in flows} == {
        sport: other[by_ring[sport]] for sport in flows
    }


def test_connections_go_out_as_lvs_has_them(director: Director) -> None:
    for sport in (1, 2, 3):
        for flags in ("S", "A"):
            director.world.send(w.tcp(flags, sport=sport))
    director.world.send(w.tcp("FA", sport=2))
    director.world.send(w.tcp("S", sport=4))  # of a single packet: LVS does not tell of those, either
    director.world.send(w.udp(sport=5))
    director.world.send(w.udp(sport=5))
    backend = owner(director, 1)  # by a packet, which changes the record
    found = {entry.client_port: entry for entry in director.sent()}

    assert {port: (each.protocol, each.state, each.flags) for port, each in found.items()} == {
        1: (6, 1, 0x83), 2: (6, 4, 0x183), 3: (6, 1, 0x83), 5: (17, 0, 0x183),
    }  # fmt: skip
    names = {packed(address): name for name, address in ADDRESSES.items()}
    assert names[found[1].backend] == backend
    assert (found[1].client, found[1].vip, found[1].port) == (packed(w.CLIENT), packed(w.VIP), 80)
    assert 800 < found[1].timeout <= 905  # records keep time in ticks
    assert 0 < found[2].timeout <= 125
    assert director.sent() == []
    assert {entry.client_port for entry in director.all()} == {1, 2, 3, 5}


def test_what_came_goes_out_by_the_bulk_only(director: Director) -> None:
    director.take(connection())

    assert director.sent() == []
    assert [entry.client_port for entry in director.all()] == [1024]


@pytest.mark.parametrize("marked", [True, False])
def test_persistent_clients_go_out_as_templates(director: Director, marked: bool) -> None:
    vips = w.LISTENERS[:1] if marked else w.LISTENERS[2:3]
    director.world.apply(w.service(members=TWO, persistence=Persistence(timeout=600), listeners=vips))
    director.services = {"web": PERSISTENT.model_copy(update={"listeners": vips})}
    frames = [w.tcp("S"), w.tcp("A")] if marked else [w.udp(), w.udp()]
    name, _ = (w.owner(director.world.send(each)) for each in frames)
    found = [entry for entry in director.sent() if entry.is_template]

    key = (0, bytes(3) + b"\1", 0, 1) if marked else (17, packed(w.VIP), 53, 0)
    assert [(each.protocol, each.vip, each.port, each.fwmark) for each in found] == [key]
    assert found[0].client == packed(w.CLIENT)
    assert found[0].backend == packed(ADDRESSES[name])
    assert found[0].flags == 0x1083
    assert 500 < found[0].timeout <= 605
