# SPDX-License-Identifier: Apache-2.0
"""Who is remembered as a client, and what it takes to be forgotten: persistence under floods and over time."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

import tests.support.world as w
from xdpdirector import libbpf
from xdpdirector.dataplane.service_plan import ServicePlan
from xdpdirector.model import Persistence, Scheduler

THREE = tuple(w.backend(name) for name in ("web1", "web2", "web3"))
FLOOD = 6000  # sources; `clients` has room for 1,024
ROOM = 1024
OURS = [f"198.51.100.{number}" for number in range(1, 41)]


def persistent(**changes: object) -> ServicePlan:
    fields = {"scheduler": Scheduler.RR, "members": THREE, "persistence": Persistence()}
    return w.service(**fields | changes)


def from_sources(flags: str, sources: range) -> Iterator[bytes]:
    """A frame each from 10.0.0.0 on. Scapy would take longer than the packets."""
    frame = bytearray(bytes(w.tcp(flags, sport=4444)))
    for number in sources:
        frame[26:30] = struct.pack("!I", (10 << 24) + number)
        yield bytes(frame)


def flood(world: w.World, *kinds: str, sources: int = FLOOD) -> None:
    """From each source one of each of these."""
    streams = [from_sources(flags, range(sources)) for flags in kinds]
    for frames in zip(*streams, strict=True):
        for frame in frames:
            assert world.run(frame) == w.TX
    world.recount()


def homes(world: w.World, sport: int, *flags: str) -> dict[str, str]:
    """Each of our clients opens a connection from this port: where it goes."""
    found = {}
    for client in OURS:
        first, *_ = [world.send(w.tcp(each, sport=sport, client=client)) for each in flags]
        found[client] = w.owner(first)
    return found


def has_place(world: w.World, client: str) -> bool:
    (word,) = struct.unpack("=I", socket.inet_aton(client))
    return any(int(key["address"][0]) == word for keys, _ in world.tables.read("clients") for key in keys)


def places(world: w.World) -> int:
    return sum(len(keys) for keys, _ in world.tables.read("clients"))


@pytest.mark.parametrize("is_connected", [True, False], ids=["connected", "between connections"])
def test_a_flood_of_syns_takes_nobodys_place(world: w.World, is_connected: bool) -> None:
    world.apply(persistent())
    had = homes(world, 1, "S", "A") if is_connected else homes(world, 1, "S", "A", "FA", "R")

    flood(world, "S")

    assert homes(world, 2, "S") == had
    assert set(had.values()) == {"web1", "web2", "web3"}


def test_a_syn_alone_makes_no_client(world: w.World) -> None:
    world.apply(persistent())

    first = homes(world, 1, "S")

    assert places(world) == 0
    assert homes(world, 2, "S") == first, "while there is no flood it is remembered nevertheless"
    homes(world, 2, "A")
    assert places(world) == len(OURS)


def test_a_datagram_of_a_known_flow_makes_a_client(world: w.World) -> None:
    world.apply(persistent())

    world.send(w.udp())
    assert places(world) == 0
    world.send(w.udp())

    assert places(world) == 1


def test_who_finds_no_room_is_served_and_counted(world: w.World) -> None:
    world.apply(persistent())
    before = world.plane.counters.clients_turned_away()
    flood(world, "S", "A", sources=ROOM + 100)
    assert world.plane.counters.clients_turned_away() == before + 100
    assert places(world) == ROOM

    first = world.send(w.tcp("S", sport=1))
    confirmed = world.send(w.tcp("A", sport=1))

    assert (first.reason, confirmed.reason) == ("forward_new", "forward_connection")
    assert w.owner(world.send(w.tcp("S", sport=2))) == w.owner(first), "it is a newcomer still"


def test_a_client_whose_backend_drains_gets_a_place_elsewhere(world: w.World) -> None:
    world.apply(persistent())
    first = w.owner(world.send(w.tcp("S", sport=1)))
    world.send(w.tcp("A", sport=1))
    world.apply(persistent(members=tuple(w.backend(b.name, accepts=b.name != first) for b in THREE)))

    second = w.owner(world.send(w.tcp("S", sport=2)))
    world.send(w.tcp("A", sport=2))
    world.apply(persistent())

    assert second != first
    assert w.owner(world.send(w.tcp("A", sport=1))) == first
    assert w.owner(world.send(w.tcp("S", sport=3))) == second


def test_a_place_lasts_for_the_services_time(world: w.World) -> None:
    world.apply(persistent())
    homes(world, 1, "S", "A", "FA")
    for rows in world.connections():
        world.records.forget(rows)

    world.age_clients(by=299)
    assert world.sweep().clients == len(OURS)
    world.age_clients(by=2)
    assert world.sweep().clients == 0

    assert places(world) == 0


def test_the_places_of_a_service_that_went_are_freed(world: w.World) -> None:
    world.apply(persistent())
    homes(world, 1, "S", "A")

    world.plane.remove("web")

    assert world.sweep().clients == 0


def test_the_sweep_makes_room_where_nothing_runs(world: w.World) -> None:
    """Kept: who has a connection that was seen twice, some seconds apart."""
    world.apply(persistent())
    had = homes(world, 1, "S", "A")
    world.age_clients(by=60)
    homes(world, 1, "A")
    flood(world, "S", "A", sources=ROOM)
    assert places(world) == ROOM
    world.age_clients(by=60)
    world.shift_connections(by=-60)

    swept = world.sweep()

    assert swept.clients == places(world) == ROOM * 7 // 8
    assert homes(world, 2, "S") == had
    assert all(has_place(world, client) for client in OURS)


def test_a_client_that_goes_meanwhile_stops_no_sweep(world: w.World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked up, goes, and is to be renewed."""
    world.apply(persistent())
    homes(world, 1, "S", "A")
    world.age_clients(by=200)
    looked_up, gone = libbpf.lookup, []

    def lookup(fd: int, key: bytes, size: int) -> bytes | None:
        raw = looked_up(fd, key, size)
        if key[:4] == ip_address(OURS[0]).packed and len(key) == 24:
            assert libbpf.delete(fd, key)
            gone.append(key)
        return raw

    monkeypatch.setattr(libbpf, "lookup", lookup)
    world.sweep()
    monkeypatch.undo()

    assert len(gone) == 1
    assert places(world) == len(OURS) - 1
    world.age_clients(by=200)
    assert world.sweep().clients == len(OURS) - 1, "the others were renewed"
