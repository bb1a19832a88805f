# SPDX-License-Identifier: Apache-2.0
"""Frames for another machine: flooded by a switch, or overheard by a promiscuous interface."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q
from scapy.packet import Packet

import tests.support.world as w
from xdpdirector.dataplane import secondary_mac_map
from xdpdirector.net import own_macs

OWN = w.mac(w.DIRECTOR_MAC)
VRRP_MAC = "00:00:5e:00:01:07"
PEER_MAC = "02:00:00:00:00:02"
LIKE_OURS = ("02:00:00:00:01:01", "02:00:00:00:00:81", "02:00:01:00:00:01", "00:00:00:00:00:00")
ROOM = 15
SECONDARY = 4096


@pytest.fixture
def many(world: w.World) -> Iterator[list[bytes]]:
    """As many MACs as there is room for."""
    macs = [OWN, *(bytes((2, 0, 0, 0, 7, number)) for number in range(1, ROOM))]
    own_macs.write(world.tables.stations, macs)
    yield macs
    own_macs.write(world.tables.stations, [OWN])


def at(destination: str, rest: Packet) -> Packet:
    return w.ethernet(destination=destination) / rest


SYN = IP(src=w.CLIENT, dst=w.VIP) / TCP(sport=1, dport=80, flags="S")
FRAMES = {
    "a SYN": SYN,
    "of a running connection": IP(src=w.CLIENT, dst=w.VIP) / TCP(sport=1024, dport=80, flags="A"),
    "over IPv6": IPv6(src=w.CLIENT6, dst=w.VIP6) / TCP(sport=1, dport=80, flags="S"),
    "a datagram": IP(src=w.CLIENT, dst=w.VIP) / UDP(sport=1, dport=53),
    "tagged": Dot1Q(vlan=7) / SYN,
    "malformed": IP(src=w.CLIENT, dst=w.VIP) / TCP(sport=1, dport=80, dataofs=1),
    "a later fragment": IP(src=w.CLIENT, dst=w.VIP, frag=8) / bytes(64),
}


@pytest.mark.parametrize("name", FRAMES)
def test_nobody_here_answers_a_frame_for_another_machine(world: w.World, name: str) -> None:
    """Not the kernel either, which may take it for its own: the interface may have got another MAC while no daemon
    ran."""
    world.apply(w.service())
    world.send(w.tcp("S"))
    frame = at(PEER_MAC, FRAMES[name])

    assert world.send(frame) == w.Outcome(w.DROP, "drop_other_host", bytes(frame))


@pytest.fixture
def container(world: w.World) -> Iterator[str]:
    """The MAC of a container on a macvlan."""
    secondary_mac_map.write(world.tables, {w.mac(PEER_MAC)})
    yield PEER_MAC
    secondary_mac_map.write(world.tables, set())


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_for_a_container_on_the_interface_is_its_own(
    world: w.World, container: str, name: str
) -> None:
    world.apply(w.service())
    world.send(w.tcp("S"))
    frame = at(container, FRAMES[name])

    assert world.send(frame) == w.Outcome(w.PASS, "pass_other_host", bytes(frame))


def test_exactly_the_macs_that_are_told_are_containers(world: w.World, container: str) -> None:
    world.apply(w.service())

    secondary_mac_map.write(world.tables, {w.mac(mac) for mac in LIKE_OURS})

    reasons = {mac: world.send(at(mac, SYN)).reason for mac in (*LIKE_OURS, container)}
    assert reasons == dict.fromkeys(LIKE_OURS, "pass_other_host") | {container: "drop_other_host"}


def test_more_containers_than_there_is_room_for_are_as_many_as_there_is(
    world: w.World, container: str
) -> None:
    many = {bytes((2, 0, 0, 8, *divmod(number, 256))) for number in range(SECONDARY + 2)}

    secondary_mac_map.write(world.tables, many)

    assert sum(len(keys) for keys, _ in world.tables.read(secondary_mac_map.MAP)) == SECONDARY


def test_what_a_director_sends_to_a_backend_is_not_sent_again_by_another(world: w.World) -> None:
    world.apply(w.service())
    sent = world.send(w.tcp("S")).frame

    assert world.send(sent) == w.Outcome(w.DROP, "drop_other_host", sent)


def test_a_frame_for_another_machine_makes_no_connection(world: w.World) -> None:
    world.apply(w.service())

    world.send(at(PEER_MAC, SYN))

    assert world.plane.counters.load(("web", "web1")) == (0, 0)


def test_a_frame_for_another_machine_and_no_vip_is_not_counted_apart(world: w.World) -> None:
    world.apply(w.service())
    frame = at(PEER_MAC, IP(src=w.CLIENT, dst=w.STRANGER) / TCP())

    assert world.send(frame).reason == "pass_not_vip"


@pytest.mark.parametrize("mac", LIKE_OURS)
def test_every_part_of_the_mac_counts(world: w.World, mac: str) -> None:
    world.apply(w.service())

    assert world.send(at(mac, SYN)).reason == "drop_other_host"


def test_frames_for_each_of_many_macs_are_directed(world: w.World, many: list[bytes]) -> None:
    world.apply(w.service())

    reasons = {world.send(at(mac.hex(":"), SYN)).reason for mac in many}

    assert reasons <= {"forward_new", "forward_connection"}
    assert world.send(at(PEER_MAC, SYN)).reason == "drop_other_host"


def test_more_macs_than_there_is_room_for_are_all_taken_for_our_own(
    world: w.World, many: list[bytes]
) -> None:
    world.apply(w.service())

    own_macs.write(world.tables.stations, [*many, w.mac(VRRP_MAC)])

    assert world.send(at(PEER_MAC, SYN)).reason == "forward_new"


def test_without_any_mac_known_every_frame_is_taken_for_our_own(world: w.World, many: list[bytes]) -> None:
    world.apply(w.service())

    own_macs.write(world.tables.stations, [])

    assert world.send(at(PEER_MAC, SYN)).reason == "forward_new"
