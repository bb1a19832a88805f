# SPDX-License-Identifier: Apache-2.0
"""Frames for another machine: flooded by a switch, or overheard by a promiscuous interface."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import world as w
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q
from scapy.packet import Packet

from xdpdirector import stations

OWN = w.mac(w.DIRECTOR_MAC)
VRRP_MAC = "00:00:5e:00:01:07"
PEER_MAC = "02:00:00:00:00:02"
LIKE_OURS = ("02:00:00:00:01:01", "02:00:00:00:00:81", "02:00:01:00:00:01", "00:00:00:00:00:00")
ROOM = 15


@pytest.fixture
def many(world: w.World) -> Iterator[list[bytes]]:
    """As many MACs as there is room for."""
    macs = [OWN, *(bytes((2, 0, 0, 0, 7, number)) for number in range(1, ROOM))]
    stations.tell(world.tables.stations, macs)
    yield macs
    stations.tell(world.tables.stations, [OWN])


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
def test_a_frame_for_another_machine_is_left_alone(world: w.World, name: str) -> None:
    world.apply(w.service())
    world.send(w.tcp("S"))
    frame = at(PEER_MAC, FRAMES[name])

    assert world.send(frame) == w.Outcome(w.PASS, "pass_other_host", bytes(frame))


def test_what_a_director_sends_to_a_backend_is_not_sent_again_by_another(world: w.World) -> None:
    world.apply(w.service())
    sent = world.send(w.tcp("S")).frame

    assert world.send(sent) == w.Outcome(w.PASS, "pass_other_host", sent)


def test_a_frame_for_another_machine_makes_no_connection(world: w.World) -> None:
    world.apply(w.service())

    world.send(at(PEER_MAC, SYN))

    assert world.plane.load(("web", "web1")) == (0, 0)


def test_a_frame_for_another_machine_and_no_vip_is_not_counted_apart(world: w.World) -> None:
    world.apply(w.service())
    frame = at(PEER_MAC, IP(src=w.CLIENT, dst=w.STRANGER) / TCP())

    assert world.send(frame).reason == "pass_not_vip"


@pytest.mark.parametrize("mac", LIKE_OURS)
def test_every_part_of_the_mac_counts(world: w.World, mac: str) -> None:
    world.apply(w.service())

    assert world.send(at(mac, SYN)).reason == "pass_other_host"


def test_frames_for_each_of_many_macs_are_directed(world: w.World, many: list[bytes]) -> None:
    world.apply(w.service())

    reasons = {world.send(at(mac.hex(":"), SYN)).reason for mac in many}

    assert reasons <= {"forward_new", "forward_connection"}
    assert world.send(at(PEER_MAC, SYN)).reason == "pass_other_host"


def test_more_macs_than_there_is_room_for_are_all_taken_for_our_own(
    world: w.World, many: list[bytes]
) -> None:
    world.apply(w.service())

    stations.tell(world.tables.stations, [*many, w.mac(VRRP_MAC)])

    assert world.send(at(PEER_MAC, SYN)).reason == "forward_new"


def test_without_any_mac_known_every_frame_is_taken_for_our_own(world: w.World, many: list[bytes]) -> None:
    world.apply(w.service())

    stations.tell(world.tables.stations, [])

    assert world.send(at(PEER_MAC, SYN)).reason == "forward_new"
