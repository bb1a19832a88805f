# SPDX-License-Identifier: Apache-2.0
"""Listeners that are told at a glance: by a shortcut, which never says what the exact maps do not."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrFragment
from scapy.packet import Packet, Raw

import tests.support.world as w
from xdpdirector.dataplane.listener_cache import ListenerCache
from xdpdirector.dataplane.maps import Entry, filter_place
from xdpdirector.dataplane.service_plan import ServicePlan
from xdpdirector.model import Listener

PLAIN = [w.tcp(), w.tcp6(), w.udp(), w.udp6()]
MAIL = (w.backend("web2"),)
TWIN = "193.0.3.10"
"""An address that the filter takes for the VIP."""
TWIN6 = str(IPv6Address(int(IPv6Address(w.VIP6)) ^ (7 << 32 | 7)))
"""Another address with the same sum of words."""


@pytest.fixture
def shortcuts(world: w.World) -> Iterator[ListenerCache]:
    """What the world's plane keeps, once more; leaves the maps as that has them."""
    shortcuts = ListenerCache(world.tables)
    yield shortcuts
    world.empty()
    shortcuts.fill(world.tables.listeners())


def listening(*texts: str, **changes: object) -> ServicePlan:
    return w.service(listeners=tuple(map(Listener.parse, texts)), **changes)


def entries(world: w.World, plan: ServicePlan) -> list[Entry]:
    return [entry for listener in plan.listeners for entry in world.tables.listener_entries(listener)]


def to_port(port: int, vip: str = w.VIP) -> Packet:
    network = IPv6(src=w.CLIENT6, dst=vip) if ":" in vip else IP(src=w.CLIENT, dst=vip)
    return w.ethernet() / network / TCP(sport=1024, dport=port, flags="S")


def neighbours(world: w.World) -> tuple[int, int]:
    """Two TCP ports of the VIP whose listeners have their places in the same word."""
    found: dict[int, int] = {}
    for port in range(1, 65536):
        (entry,) = world.tables.listener_entries(Listener.parse(f"{w.VIP}:{port}/tcp"))
        place = ListenerCache(world.tables).place_of(entry)
        assert place is not None
        if place.word in found:
            return found[place.word], port
        found[place.word] = port
    pytest.fail("no two ports share a place")


# The way of plain packets


def test_plain_packets_need_no_exact_map(world: w.World, shortcuts: ListenerCache) -> None:
    world.apply(w.service())
    for entry in entries(world, w.SERVICE):
        world.tables.delete_listener(entry)

    assert {world.send(frame).reason for frame in PLAIN} == {"forward_new"}

    for entry in entries(world, w.SERVICE):
        world.tables.set_listener(entry, 0, 1)


def test_words_that_nobody_has_filled_leave_it_to_the_exact_maps(
    world: w.World, shortcuts: ListenerCache
) -> None:
    world.apply(w.service())
    world.tables.shortcuts[:] = 0

    assert {world.send(frame).reason for frame in PLAIN} == {"forward_new"}
    assert world.send(to_port(81)).reason == "pass_no_listener"


def test_filling_repairs_what_is_wrong_and_writes_nothing_else(
    world: w.World, shortcuts: ListenerCache
) -> None:
    world.apply(w.service())
    world.tables.shortcuts[[1, 2, 3]] ^= 5

    first, second = (shortcuts.fill(world.tables.listeners()) for _ in range(2))

    assert (first, second) == (3, 0)


@pytest.mark.parametrize("text", [f"{w.VIP}:80/tcp", f"[{w.VIP6}]:80/tcp", f"{w.VIP}:53/udp"])
def test_a_removed_listener_leaves_no_shortcut(world: w.World, text: str) -> None:
    world.apply(w.service())
    kept = tuple(each for each in w.LISTENERS if each != Listener.parse(text))

    world.apply(w.service(listeners=kept))

    reasons = {bytes(frame): world.send(frame).reason for frame in PLAIN}
    assert sorted(reasons.values()) == [*["forward_new"] * 3, "pass_no_listener"]


def test_ports_and_protocols_are_not_mixed_up(world: w.World) -> None:
    world.apply(listening(f"{w.VIP}:80/tcp", f"{w.VIP}:53/udp"))
    wrong = [
        w.udp(dport=80),
        w.tcp(dport=53),
        w.tcp(dport=80 << 8),
        w.ethernet() / IP(src=w.CLIENT, dst=w.VIP) / UDP(sport=53, dport=1024),
    ]

    assert {world.send(frame).reason for frame in wrong} == {"pass_no_listener"}


# Places that are shared


def test_listeners_that_share_a_place_are_both_found(world: w.World) -> None:
    first, second = neighbours(world)
    world.apply(
        listening(f"{w.VIP}:{first}/tcp"), listening(f"{w.VIP}:{second}/tcp", name="mail", members=MAIL)
    )

    assert [w.owner(world.send(to_port(port))) for port in (first, second)] == ["web1", "web2"]


@pytest.mark.parametrize("gone", [0, 1])
def test_the_one_that_stays_is_found_and_the_other_is_not(world: w.World, gone: int) -> None:
    ports = neighbours(world)
    world.apply(listening(*(f"{w.VIP}:{port}/tcp" for port in ports)))

    world.apply(listening(f"{w.VIP}:{ports[1 - gone]}/tcp"))

    assert world.send(to_port(ports[1 - gone])).reason == "forward_new"
    assert world.send(to_port(ports[gone])).reason == "pass_no_listener"


def test_a_stranger_at_a_listeners_place_is_told_from_it(world: w.World) -> None:
    listener, stranger = neighbours(world)
    world.apply(listening(f"{w.VIP}:{listener}/tcp"))

    assert world.send(to_port(stranger)).reason == "pass_no_listener"


@pytest.mark.parametrize("both", [True, False])
def test_ipv6_addresses_of_the_same_sum_are_told_apart(world: w.World, *, both: bool) -> None:
    world.apply(listening(f"[{w.VIP6}]:80/tcp"))
    if both:
        world.apply(listening(f"[{TWIN6}]:80/tcp", name="mail", members=MAIL))

    assert w.owner(world.send(to_port(80, w.VIP6))) == "web1"
    other = world.send(to_port(80, TWIN6))
    assert w.owner(other) == "web2" if both else other.reason == "pass_not_vip"


def test_a_range_beside_exact_listeners_is_found(world: w.World) -> None:
    world.apply(listening(f"{w.VIP}:80/tcp"), listening(f"{w.VIP}:1000-1999/tcp", name="mail", members=MAIL))

    assert [w.owner(world.send(to_port(port))) for port in (80, 1000, 1999)] == ["web1", "web2", "web2"]
    assert {world.send(to_port(port)).reason for port in (999, 2000)} == {"pass_no_listener"}


# What nobody listens to is not looked at any further


@pytest.mark.parametrize("how", ["a glance", "a shared place", "a range beside it"])
def test_malformed_or_flooded_packets_to_no_listener_are_the_hosts(world: w.World, how: str) -> None:
    first, second = neighbours(world)
    world.apply(listening(f"{w.VIP}:{first}/tcp"))
    port = {"a glance": 1, "a shared place": second, "a range beside it": 1}[how]
    if how == "a range beside it":
        world.apply(listening(f"{w.VIP}:50000-50001/tcp", name="mail", members=MAIL))
    network = IP(src=w.CLIENT, dst=w.VIP)
    frames = [
        w.ethernet() / network / TCP(sport=1, dport=port, dataofs=1),
        w.ethernet() / IP(src=w.CLIENT, dst=w.VIP, len=4000) / TCP(sport=1, dport=port),
        bytes(w.ethernet() / network / TCP(sport=1, dport=port))[: 14 + 20 + 4],
        w.ethernet(destination="02:00:00:00:00:02") / network / TCP(sport=1, dport=port),
    ]

    assert [world.send(frame).reason for frame in frames] == ["pass_no_listener"] * len(frames)


STRANGERS = {
    "a port that has a listener": lambda vip: to_port(80, vip),
    "another port": lambda vip: to_port(9, vip),
    "a datagram": lambda vip: w.ethernet() / network_to(vip) / UDP(sport=1, dport=9),
    "another protocol": lambda vip: w.ethernet() / network_to(vip, 50) / Raw(bytes(20)),
    "ping": lambda vip: (
        w.ethernet() / network_to(vip) / (ICMPv6EchoRequest() if ":" in vip else ICMP(type=8))
    ),
    "malformed": lambda vip: w.ethernet() / network_to(vip) / TCP(sport=1, dport=80, dataofs=1),
    "for another machine": lambda vip: (
        w.ethernet(destination="02:00:00:00:00:02") / network_to(vip) / TCP(sport=1, dport=80)
    ),
    "the first fragment": lambda vip: (
        w.ethernet() / fragment_of(vip, 0) / UDP(sport=1, dport=9, len=64, chksum=1)
    ),
    "a later fragment": lambda vip: w.ethernet() / fragment_of(vip, 8) / Raw(bytes(16)),
}


def network_to(vip: str, protocol: int | None = None) -> Packet:
    if ":" in vip:
        return IPv6(src=w.CLIENT6, dst=vip, **({"nh": protocol} if protocol else {}))
    return IP(src=w.CLIENT, dst=vip, **({"proto": protocol} if protocol else {}))


def fragment_of(vip: str, offset: int) -> Packet:
    if ":" in vip:
        return IPv6(src=w.CLIENT6, dst=vip) / IPv6ExtHdrFragment(id=7, nh=17, m=1, offset=offset)
    return IP(src=w.CLIENT, dst=vip, id=7, proto=17, flags="MF", frag=offset)


@pytest.mark.parametrize("name", STRANGERS)
@pytest.mark.parametrize("vip", [TWIN, TWIN6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("ranges", [False, True], ids=["plain", "with ranges"])
def test_who_is_taken_for_a_vip_at_a_glance_is_not_counted_as_one(
    world: w.World, ranges: bool, vip: str, name: str
) -> None:
    plan = w.service()
    if ranges:
        more = tuple(Listener.parse(f"{each}:50000-50001/tcp") for each in (w.VIP, f"[{w.VIP6}]"))
        plan = w.service(listeners=(*plan.listeners, *more))
    world.apply(plan)
    frame = STRANGERS[name](vip)

    assert world.send(frame) == w.Outcome(w.PASS, "pass_not_vip", bytes(frame))
    assert sum(len(keys) for keys, _ in world.tables.read("fragments")) == 0


def test_the_twins_are_taken_for_vips() -> None:
    """Otherwise the test above would show nothing."""
    for vip, twin in ((w.VIP, TWIN), (w.VIP6, TWIN6)):
        assert filter_place(ip_address(vip)) == filter_place(ip_address(twin))


def test_sums_of_words() -> None:
    """The twin is none but in its sum."""
    one, other = (int(ip_address(text)) for text in (w.VIP6, TWIN6))
    words = [[value >> shift & 0xFFFFFFFF for shift in (0, 32, 64, 96)] for value in (one, other)]

    assert one != other
    assert words[0][0] ^ words[0][1] ^ words[0][2] ^ words[0][3] == (
        words[1][0] ^ words[1][1] ^ words[1][2] ^ words[1][3]
    )
