# SPDX-License-Identifier: Apache-2.0
"""The table of connections: who makes room for whom, whose record a flow finds, and what the sweep leaves alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import ip_address

import numpy as np
import pytest
from scapy.layers.inet import IP

import tests.support.world as w
from xdpdirector.dataplane.vip_ids import Front, Fronts
from xdpdirector.model import Listener

OTHER_VIP = "192.0.2.11"
_CLIENT = slice(26, 30)  # in an IPv4 frame
_FIRST = int(ip_address("10.0.0.0"))


def frames(flags: str, numbers: Iterable[int], vip: str = w.VIP) -> Iterable[bytes]:
    """One frame for each number, each from another client."""
    packet = w.tcp(flags)
    packet[IP].dst = vip
    plain = bytearray(bytes(packet))
    for number in numbers:
        plain[_CLIENT] = (_FIRST + number).to_bytes(4, "big")
        yield bytes(plain)


def opened(world: w.World, numbers: Iterable[int]) -> list[int]:
    """Those of the flows that the table took, running."""
    taken = []
    for number, syn, ack in zip(numbers, frames("S", numbers), frames("A", numbers), strict=True):
        if world.run(syn) == w.TX:
            taken.append(number)
            world.run(ack)
    world.recount()
    return taken


def held(world: w.World, numbers: Iterable[int], state: str = "") -> list[int]:
    """Those that stand in the table now, in that state if one is said."""
    states = world.tables.enums["connection_state"]
    clients = {
        int(row["client"]).to_bytes(4, "little")
        for rows in world.connections()
        for row in (rows[rows["state"] == states[state]] if state else rows)
    }
    return [number for number in numbers if (_FIRST + number).to_bytes(4, "big") in clients]


def assured(world: w.World, numbers: Iterable[int]) -> list[int]:
    """Those of the flows that are seen again some seconds later, and are assured then."""
    taken = opened(world, numbers)
    world.shift_connections(by=-3.0)
    for frame in frames("A", taken):
        world.run(frame)
    world.recount()
    return held(world, taken, "CONNECTION_ASSURED_ESTABLISHED")


def used(world: w.World, numbers: Iterable[int]) -> list[int]:
    """Those that the table took; they have sent a request at once, and nothing since."""
    taken = opened(world, numbers)
    for frame in frames("PA", taken):
        world.run(frame)
    world.recount()
    return taken


def flood(world: w.World, numbers: Iterable[int], vip: str = w.VIP) -> None:
    """Two packets of each flow, which nobody will hear of again."""
    for syn, ack in zip(frames("S", numbers, vip), frames("A", numbers, vip), strict=True):
        world.run(syn)
        world.run(ack)
    world.recount()


def running(world: w.World, numbers: Iterable[int]) -> list[int]:
    """Those whose next packet is forwarded."""
    found = []
    for number, frame in zip(numbers, frames("A", numbers), strict=True):
        if world.send(frame).reason == "forward_connection":  # a RST is sent, too
            found.append(number)
    return found


@pytest.fixture
def places(world: w.World) -> int:
    """Entries in the table. Whose record is lost is dropped: a RST would be sent as a forwarded packet is."""
    world.apply(w.service(on_unknown="drop"))
    return 4 * world.tables.entries("connections4")


def test_nobody_is_turned_away_while_a_third_of_the_table_is_used(world: w.World, places: int) -> None:
    numbers = range(places // 3)

    assert len(opened(world, numbers)) == len(numbers)
    assert len(running(world, numbers)) == len(numbers)


def test_nobody_is_turned_away_after_a_flood_either(world: w.World, places: int) -> None:
    for frame in frames("S", range(places, 3 * places)):
        world.run(frame)
    numbers = range(places // 3)

    assert len(opened(world, numbers)) == len(numbers)
    assert len(running(world, numbers)) > 0.99 * len(numbers)  # newcomers may meet four of their like, twice


@pytest.mark.parametrize("idle", [0.0, 600.0])
def test_a_flood_of_two_packets_each_loses_no_flow_that_has_shown_three(
    world: w.World, places: int, idle: float
) -> None:
    """Also when it has been silent since its first second."""
    taken = used(world, range(places // 3))
    world.shift_connections(by=-idle)

    flood(world, range(places, 3 * places))
    late = {world.send(frame).reason for frame in frames("S", range(4 * places, 4 * places + 50))}

    assert running(world, taken) == taken
    assert late == {"forward_new"}


def test_neither_does_one_that_meets_as_many_of_them_as_the_table_is_made_for(
    world: w.World, places: int
) -> None:
    """In some pairs of buckets all eight flows have shown three packets: one of them moves."""
    taken = used(world, range(places // 2))
    states = ("CONNECTION_USED_ESTABLISHED", "CONNECTION_ASSURED_ESTABLISHED")  # assured: on a slow machine
    third_shown = sorted(number for state in states for number in held(world, taken, state))
    world.shift_connections(by=-60.0)

    flood(world, range(places, 3 * places))

    assert len(third_shown) > 0.98 * len(taken)
    assert running(world, third_shown) == third_shown


def test_a_table_full_of_them_turns_nobody_away(world: w.World, places: int) -> None:
    """A flood of three packets each may evict its own kind."""
    used(world, range(3 * places))

    late = {world.send(frame).reason for frame in frames("S", range(4 * places, 4 * places + 50))}

    assert late == {"forward_new"}


def test_a_flow_that_moves_is_counted_once(world: w.World, places: int) -> None:
    used(world, range(places // 2))
    flood(world, range(places, 3 * places))

    counted = world.plane.counters.load(("web", "web1"))

    assert counted == (sum(len(rows) for rows in world.connections()), 0)


def test_a_flood_on_one_service_and_then_on_another_lose_none_either(world: w.World, places: int) -> None:
    """The first one fills the buckets that its flows are in with flows of their own service."""
    world.apply(w.service(name="other", listeners=(Listener.parse(f"{OTHER_VIP}:80/tcp"),)))
    taken = used(world, range(places // 16))
    world.shift_connections(by=-60.0)
    flood(world, range(places, 3 * places))
    world.shift_connections(by=-5.0)

    flood(world, range(4 * places, 6 * places), OTHER_VIP)

    assert running(world, taken) == taken


@pytest.mark.parametrize("ended", ["FA", "R"])
@pytest.mark.parametrize("opening", [used, assured])
def test_a_spray_of_ends_and_syns_in_a_flood_loses_none_either(
    world: w.World, places: int, opening: Callable[[w.World, Iterable[int]], list[int]], ended: str
) -> None:
    """Also while their backend drains; whose record is lost would be opened at the other one."""
    taken = opening(world, range(places // 16))
    world.apply(w.service(on_unknown="drop", members=(w.backend("web1", accepts=False), w.backend("web2"))))
    world.shift_connections(by=-300.0)

    for frame in frames(ended, taken):
        world.run(frame)
    flood(world, range(places, 2 * places))
    for frame in frames("S", taken):
        world.run(frame)
    world.shift_connections(by=-600.0)
    flood(world, range(3 * places, 6 * places))

    assert [w.owner(world.send(frame)) for frame in frames("A", taken)] == ["web1"] * len(taken)


def test_a_third_datagram_counts_like_a_third_packet(world: w.World, places: int) -> None:
    datagrams = {sport: bytes(w.udp(sport=sport)) for sport in range(1, 101)}
    owners = {sport: [world.send(frame) for _ in range(3)][-1] for sport, frame in datagrams.items()}
    world.shift_connections(by=-200.0)

    flood(world, range(places, 4 * places))

    assert {sport: world.send(frame) for sport, frame in datagrams.items()} == owners


def test_the_fourth_packet_changes_nothing(world: w.World) -> None:
    world.apply(w.service())
    for flags in ("S", "A", "PA"):
        world.send(w.tcp(flags))
    before = [rows["word"].tolist() for rows in world.connections()]

    for flags in ("A", "PA", "A"):
        world.send(w.tcp(flags))

    assert [rows["word"].tolist() for rows in world.connections()] == before


@pytest.mark.parametrize("idle", [0.0, 600.0])
def test_a_flood_of_two_packets_each_loses_no_assured_flow_and_turns_nobody_away(
    world: w.World, places: int, idle: float
) -> None:
    taken = assured(world, range(places // 3))
    world.shift_connections(by=-idle)

    flood(world, range(places, 3 * places))
    late = {world.send(frame).reason for frame in frames("S", range(4 * places, 4 * places + 50))}

    assert len(taken) > 0.99 * (places // 3)
    assert running(world, taken) == taken
    assert late == {"forward_new"}


def test_three_of_four_places_are_assured_flows_at_most(world: w.World, places: int) -> None:
    taken = assured(world, range(2 * places))

    late = {world.send(frame).reason for frame in frames("S", range(2 * places, 2 * places + 50))}

    assert 0.6 * places < len(taken) <= 0.75 * places
    assert running(world, taken) == taken
    assert late == {"forward_new"}


def test_a_service_that_has_all_assured_places_gives_one_to_another(world: w.World, places: int) -> None:
    other = w.service(name="other", listeners=(Listener.parse(f"{OTHER_VIP}:80/tcp"),))
    world.apply(other)
    assured(world, range(2 * places))
    theirs = range(places // 20)
    there = w.tcp("S"), w.tcp("A"), w.tcp("A")
    for packet in there:
        packet[IP].dst = OTHER_VIP
    for number in theirs:
        for packet in there[:2]:
            packet[IP].src = str(ip_address(_FIRST + number))
            world.run(bytes(packet))
    world.shift_connections(by=-3.0)
    for number in theirs:
        there[2][IP].src = str(ip_address(_FIRST + number))
        world.run(bytes(there[2]))

    flood(world, range(3 * places, 5 * places))

    lost = 0
    for number in theirs:
        there[2][IP].src = str(ip_address(_FIRST + number))
        lost += world.send(there[2]).reason != "forward_connection"
    assert lost < len(theirs) / 8  # those that are two in a bucket: some 5 %, by the hash of each load


def test_a_syn_is_waited_with_while_a_flood_of_two_packets_each_goes_on(world: w.World, places: int) -> None:
    flood(world, range(places, 3 * places))
    world.shift_connections(by=-20.0)
    numbers = range(50)
    for frame in frames("S", numbers):
        world.run(frame)

    flood(world, range(3 * places, 3 * places + places // 8))

    assert running(world, numbers) == list(numbers)


def test_flows_that_cannot_be_assured_yet_keep_their_backends(world: w.World, places: int) -> None:
    """Each packet makes them younger again."""
    taken = running(world, opened(world, range(2 * places))[-places // 2 :])
    for _ in range(4):
        world.shift_connections(by=-600.0)
        assert running(world, taken) == taken


def test_ended_connections_make_room_first(world: w.World, places: int) -> None:
    taken = held(world, opened(world, range(2 * places)))
    ended, others = taken[::2], taken[1::2]
    for frame in frames("R", ended):
        world.run(frame)
    world.shift_connections(by=-3.0)

    flood(world, range(2 * places, 2 * places + places // 8))

    assert len(running(world, others)) > 0.98 * len(others)  # of some, both buckets have no ended one


def test_a_record_that_makes_room_is_not_counted_any_more(world: w.World, places: int) -> None:
    for frame in frames("S", range(3 * places)):
        world.run(frame)
    world.recount()

    counted = world.plane.counters.load(("web", "web1"))

    assert counted == (sum(len(rows) for rows in world.connections()), 0)


def test_a_client_has_a_connection_at_each_vip(world: w.World) -> None:
    one = w.service(listeners=(Listener.parse(f"{w.VIP}:80/tcp"),))
    other = w.service(
        name="other", listeners=(Listener.parse(f"{OTHER_VIP}:80/tcp"),), members=(w.backend("web2"),)
    )
    world.apply(one, other)
    there = w.tcp("A")
    there[IP].dst = OTHER_VIP
    world.send(w.tcp("S"))

    assert world.send(there).reason == "reject_unknown"
    assert world.send(w.tcp("A")).reason == "forward_connection"


def test_what_has_changed_since_it_was_read_is_not_forgotten(world: w.World) -> None:
    world.apply(w.service())
    for sport in (1, 2):
        world.send(w.tcp("S", sport=sport))
    rows = np.concatenate(world.connections())

    world.send(w.tcp("A", sport=1))
    world.records.forget(rows)

    assert world.send(w.tcp("A", sport=1)).reason == "forward_connection"
    assert world.send(w.tcp("A", sport=2)).reason == "reject_unknown"


def test_more_records_than_one_run_forgets(world: w.World) -> None:
    world.apply(w.service())
    opened(world, range(1000))

    world.forget_connections()

    assert world.connections() == []


def test_a_number_that_rests_is_nobodys_until_its_records_are_gone(world: w.World) -> None:
    world.apply(w.service())
    fronts = world.plane.fronts
    service = world.plane.indices.services["web"]
    number = fronts.number(Front(service, ip_address(w.VIP), 6))
    world.send(w.tcp("S"))
    world.send(w.tcp("A"))

    world.apply(w.service(listeners=w.LISTENERS[1:]))
    resting = fronts.resting()
    swept = world.sweep()
    fronts.release(resting)

    assert number in resting
    assert (swept.total, swept.deleted) == (0, 1)
    assert fronts.resting() == frozenset()


def test_a_listener_that_comes_back_soon_finds_its_connections(world: w.World) -> None:
    world.apply(w.service())
    world.send(w.tcp("S"))
    world.send(w.tcp("A"))
    world.apply(w.service(listeners=w.LISTENERS[1:]))

    world.apply(w.service())

    assert world.send(w.tcp("A")).reason == "forward_connection"


def test_a_new_daemon_knows_the_numbers_again(world: w.World) -> None:
    world.apply(w.service())
    before = {front: world.plane.fronts.number(front) for front in _fronts(world)}

    adopted = Fronts(world.tables)

    assert {front: adopted.number(front) for front in before} == before
    assert len(before) == len(w.LISTENERS)


def _fronts(world: w.World) -> list[Front]:
    service = world.plane.indices.services["web"]
    protocols = {"tcp": 6, "udp": 17}
    return [Front(service, listener.address, protocols[listener.protocol]) for listener in w.LISTENERS]


def test_a_front_that_somebody_overwrote_is_put_right(world: w.World) -> None:
    world.apply(w.service())
    world.send(w.tcp("S"))
    world.tables.fronts[:]["use"] = 0
    world.tables.fronts[:]["service"] = 9

    world.plane.read_again()

    assert world.sweep().total == 1


def test_two_services_do_not_hash_alike(world: w.World) -> None:
    world.apply(
        w.service(), replace(w.service(), name="other", listeners=(Listener.parse(f"{OTHER_VIP}:80/tcp"),))
    )
    indices = list(world.plane.indices.services.values())

    multipliers = world.tables.services["multipliers"][indices].ravel()

    assert len(set(multipliers.tolist())) == 4
    assert all(multipliers % 2 == 1)
