# SPDX-License-Identifier: Apache-2.0
"""Packets that belong to a connection without saying so by their ports: fragments and ICMP errors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    fragment6,
)
from scapy.packet import Packet, Raw

import tests.support.world as w
from xdpdirector.dataplane.service_plan import ServicePlan
from xdpdirector.model import Listener, Scheduler
from xdpdirector.model.listener import WITHOUT_PORTS

BIG = bytes(range(256)) * 12
TWO = (w.backend("web1"), w.backend("web2"))
ROUTER, ROUTER6 = "198.51.100.1", "2001:db8:1::1"


def ring(**changes: object) -> ServicePlan:
    return w.service(scheduler=Scheduler.MH, ring_slots=1021, members=TWO, **changes)


def cut4(sport: int) -> list[Packet]:
    return fragment(
        w.ethernet() / IP(src=w.CLIENT, dst=w.VIP, id=sport) / UDP(sport=sport, dport=53) / BIG, 1000
    )


def cut6(sport: int) -> list[Packet]:
    whole = IPv6(src=w.CLIENT6, dst=w.VIP6) / IPv6ExtHdrFragment(id=sport) / UDP(sport=sport, dport=53) / BIG
    return [w.ethernet() / piece for piece in fragment6(whole, 1280)]


@pytest.mark.parametrize("cut", [cut4, cut6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("plan", [w.service(members=TWO), ring()], ids=["wlc", "mh"])
def test_fragments_follow_the_first(world: w.World, plan: ServicePlan, cut: object) -> None:
    world.apply(plan)
    for sport in range(1, 20):
        first, *others = cut(sport)  # type: ignore[operator]
        name = w.owner(world.send(first))

        outcomes = [world.send(piece) for piece in others]

        assert len(outcomes) >= 2
        assert outcomes == [w.Outcome(w.TX, "forward_fragment", w.to(name, piece)) for piece in others]


def test_a_fragment_that_overtakes_its_first_is_dropped(world: w.World) -> None:
    world.apply(w.service())
    first, second, *_ = cut4(1)

    assert world.send(second).reason == "drop_fragment"
    world.send(first)
    assert world.send(second).reason == "forward_fragment"


def test_fragments_of_another_packet_do_not_follow(world: w.World) -> None:
    world.apply(w.service())
    world.send(cut4(1)[0])

    assert world.send(cut4(2)[1]).reason == "drop_fragment"


def pieces(whole: Packet, size: int = 1000) -> list[Packet]:
    return [w.ethernet() / piece for piece in fragment(whole, size)]


def pieces6(layers: Packet, size: int = 1280) -> list[Packet]:
    whole = IPv6(src=w.CLIENT6, dst=w.VIP6) / IPv6ExtHdrFragment(id=9) / layers
    return [w.ethernet() / piece for piece in fragment6(whole, size)]


TO_THE_HOST = {
    "ping": (pieces(IP(src=w.CLIENT, dst=w.VIP, id=9) / ICMP() / BIG), "pass_no_listener"),
    "ping over IPv6": (pieces6(ICMPv6EchoRequest(data=BIG)), "pass_no_listener"),
    "no listener": (
        pieces(IP(src=w.CLIENT, dst=w.VIP, id=9) / UDP(sport=500, dport=500) / BIG),
        "pass_no_listener",
    ),
    "no listener over IPv6": (pieces6(UDP(sport=500, dport=500) / BIG), "pass_no_listener"),
    "another protocol": (pieces(IP(src=w.CLIENT, dst=w.VIP, id=9, proto=50) / BIG), "pass_no_listener"),
    "an error about no connection": (
        pieces(
            IP(src=w.CLIENT, dst=w.VIP, id=9)
            / ICMP(type=3)
            / IP(src=w.VIP, dst=w.CLIENT)
            / UDP(sport=53, dport=7)
            / BIG
        ),
        "pass_no_connection",
    ),
}


@pytest.mark.parametrize("name", list(TO_THE_HOST))
def test_fragments_follow_a_first_one_that_the_host_gets(world: w.World, name: str) -> None:
    world.apply(w.service())
    fragments, reason = TO_THE_HOST[name]

    outcomes = [world.send(piece) for piece in fragments]

    assert len(outcomes) >= 3
    assert outcomes == [w.Outcome(w.PASS, reason, bytes(piece)) for piece in fragments]


@pytest.mark.parametrize("name", list(TO_THE_HOST))
def test_a_fragment_for_the_host_that_overtakes_its_first_is_dropped(world: w.World, name: str) -> None:
    world.apply(w.service())

    assert world.send(TO_THE_HOST[name][0][1]).reason == "drop_fragment"


def test_an_identification_that_is_used_again_leads_where_the_last_packet_went(world: w.World) -> None:
    """Identifications of 16 bits come again soon; the packet before may have gone elsewhere."""
    world.apply(w.service())
    to_backend, to_host = cut4(9), TO_THE_HOST["no listener"][0]
    rounds = [to_backend[:2], to_host[:2], to_backend[:2]]

    reasons = [world.send(piece).reason for pair in rounds for piece in pair]

    assert reasons == [
        "forward_new", "forward_fragment", "pass_no_listener", "pass_no_listener",
        "forward_connection", "forward_fragment",
    ]  # fmt: skip


def test_memory_for_fragments_is_bounded(world: w.World) -> None:
    """First fragments whose others never come push out the oldest, and the program goes on."""
    world.apply(w.service())
    first, second, *_ = TO_THE_HOST["ping"][0]
    frame, room = bytearray(bytes(first)), world.tables.entries("fragments")

    for number in range(room + room // 2):
        frame[18:20] = number.to_bytes(2, "big")
        assert world.run(bytes(frame)) == w.PASS
    world.recount()
    remembered = sum(len(keys) for keys, _ in world.tables.read("fragments"))

    assert remembered <= room
    assert world.send(first).reason == world.send(second).reason == "pass_no_listener"


def test_fragments_do_not_follow_to_a_backend_that_went(world: w.World) -> None:
    world.apply(w.service())
    first, second, *_ = cut4(1)
    world.send(first)

    world.apply(w.service(members=(w.backend("web2"),)))

    assert world.send(second).reason == "drop_fragment"


def test_fragments_follow_a_first_one_that_has_more_extension_headers(world: w.World) -> None:
    """RFC 8200, 4.5: the fragments of a packet have addresses and identification in common, not the next header."""
    world.apply(w.service())
    whole = IPv6(src=w.CLIENT6, dst=w.VIP6)
    options, datagram = IPv6ExtHdrDestOpt(nh=17), UDP(sport=1, dport=53, len=64, chksum=7) / bytes(8)
    first = w.ethernet() / whole / IPv6ExtHdrFragment(id=7, m=1, nh=60) / options / datagram
    second = w.ethernet() / whole / IPv6ExtHdrFragment(id=7, offset=3, nh=60) / bytes(40)

    assert world.send(first) == w.Outcome(w.TX, "forward_new", w.to("web1", first))
    assert world.send(second) == w.Outcome(w.TX, "forward_fragment", w.to("web1", second))


def test_an_atomic_fragment_is_a_whole_packet(world: w.World) -> None:
    world.apply(w.service())
    frame = (
        w.ethernet() / IPv6(src=w.CLIENT6, dst=w.VIP6) / IPv6ExtHdrFragment(id=7) / TCP(dport=80, flags="S")
    )

    assert world.send(frame) == w.Outcome(w.TX, "forward_new", w.to("web1", frame))


def quoted(sport: int, protocol: str, *, length: int = 8) -> bytes:
    """What a router quotes of the backend's answer: its IPv4 header and `length` bytes."""
    transport = TCP(sport=80, dport=sport, flags="PA") if protocol == "tcp" else UDP(sport=53, dport=sport)
    return bytes(IP(src=w.VIP, dst=w.CLIENT) / transport / b"answer")[: 20 + length]


def quoted6(sport: int, protocol: str) -> bytes:
    transport = TCP(sport=80, dport=sport, flags="PA") if protocol == "tcp" else UDP(sport=53, dport=sport)
    return bytes(IPv6(src=w.VIP6, dst=w.CLIENT6) / transport / b"answer")[:48]


def error4(sport: int, protocol: str, kind: ICMP) -> Packet:
    return w.ethernet() / IP(src=ROUTER, dst=w.VIP) / kind / Raw(quoted(sport, protocol))


def error6(sport: int, protocol: str, kind: Packet) -> Packet:
    return w.ethernet() / IPv6(src=ROUTER6, dst=w.VIP6) / kind / Raw(quoted6(sport, protocol))


KINDS4 = {
    "too big": ICMP(type=3, code=4, nexthopmtu=1280),
    "unreachable": ICMP(type=3, code=1),
    "time exceeded": ICMP(type=11),
    "parameter problem": ICMP(type=12),
}
KINDS6 = {
    "too big": ICMPv6PacketTooBig(mtu=1280),
    "unreachable": ICMPv6DestUnreach(code=0),
    "time exceeded": ICMPv6TimeExceeded(),
}


@pytest.mark.parametrize("kind", list(KINDS4))
@pytest.mark.parametrize("plan", [w.service(members=TWO), ring()], ids=["wlc", "mh"])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_an_icmp_error_goes_to_the_connections_backend(
    world: w.World, protocol: str, plan: ServicePlan, kind: str
) -> None:
    world.apply(plan)
    for sport in range(1, 10):
        name = w.owner(world.send(w.tcp("S", sport=sport) if protocol == "tcp" else w.udp(sport=sport)))
        frame = error4(sport, protocol, KINDS4[kind])

        assert world.send(frame) == w.Outcome(w.TX, "forward_error", w.to(name, frame))


@pytest.mark.parametrize("kind", list(KINDS6))
@pytest.mark.parametrize("plan", [w.service(members=TWO), ring()], ids=["wlc", "mh"])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_an_icmpv6_error_goes_to_the_connections_backend(
    world: w.World, protocol: str, plan: ServicePlan, kind: str
) -> None:
    world.apply(plan)
    for sport in range(1, 10):
        name = w.owner(world.send(w.tcp6("S", sport=sport) if protocol == "tcp" else w.udp6(sport=sport)))
        frame = error6(sport, protocol, KINDS6[kind])

        assert world.send(frame) == w.Outcome(w.TX, "forward_error", w.to(name, frame))


QUOTED_LAYERS = {
    "options": [IPv6ExtHdrDestOpt()],
    "a routing header": [IPv6ExtHdrRouting(addresses=[w.CLIENT6])],
    "an atomic fragment": [IPv6ExtHdrFragment(id=7)],
    "the first fragment": [IPv6ExtHdrFragment(id=7, m=1)],
    "six headers": [IPv6ExtHdrHopByHop(), *[IPv6ExtHdrDestOpt() for _ in range(4)], IPv6ExtHdrFragment(id=7)],
}
UNTOLD_LAYERS = {
    "a later fragment": [IPv6ExtHdrFragment(id=7, offset=100)],
    "seven headers": [IPv6ExtHdrHopByHop(), *[IPv6ExtHdrDestOpt() for _ in range(6)]],
}


def error6_about(layers: list[Packet]) -> Packet:
    """Too big was what a backend sent to port 1 of the client, with these headers before the datagram's."""
    answer: Packet = IPv6(src=w.VIP6, dst=w.CLIENT6)
    for layer in layers:
        answer = answer / layer
    answer = answer / UDP(sport=53, dport=1) / bytes(900)
    return w.ethernet() / IPv6(src=ROUTER6, dst=w.VIP6) / ICMPv6PacketTooBig(mtu=1280) / Raw(bytes(answer))


@pytest.mark.parametrize("layers", list(QUOTED_LAYERS))
def test_an_icmpv6_error_is_followed_past_the_extension_headers_that_it_quotes(
    world: w.World, layers: str
) -> None:
    world.apply(w.service(members=TWO))
    name = w.owner(world.send(w.udp6(sport=1)))
    frame = error6_about(QUOTED_LAYERS[layers])

    assert world.send(frame) == w.Outcome(w.TX, "forward_error", w.to(name, frame))


@pytest.mark.parametrize("layers", list(UNTOLD_LAYERS))
def test_an_icmpv6_error_that_quotes_no_ports_is_the_hosts(world: w.World, layers: str) -> None:
    world.apply(w.service(members=TWO))
    world.send(w.udp6(sport=1))
    frame = error6_about(UNTOLD_LAYERS[layers])

    assert world.send(frame) == w.Outcome(w.PASS, "pass_no_listener", bytes(frame))


def test_an_icmpv6_error_cut_within_the_headers_that_it_quotes_is_the_hosts(world: w.World) -> None:
    """Whatever its length; only with the ports can it be followed."""
    world.apply(w.service())
    world.send(w.udp6(sport=1))
    whole = bytes(error6_about(QUOTED_LAYERS["six headers"]))
    start, ports = 14 + 40 + 8, 14 + 40 + 8 + 40 + 6 * 8 + 4

    reasons = {}
    for length in range(start, ports + 1):
        frame = whole[:18] + (length - 14 - 40).to_bytes(2, "big") + whole[20:length]
        reasons[length] = world.send(frame).reason

    assert reasons.pop(ports) == "forward_error"
    assert set(reasons.values()) == {"pass_no_listener"}


def without_ports(protocol: str) -> ServicePlan:
    listeners = (
        *w.LISTENERS,
        Listener.parse(f"{w.VIP}:*/{protocol}"),
        Listener.parse(f"[{w.VIP6}]:*/{protocol}"),
    )
    return w.service(members=TWO, listeners=listeners)


def portless(protocol: str, vip: str, client: str) -> Packet:
    number = WITHOUT_PORTS[protocol]
    if ":" in vip:
        return w.ethernet() / IPv6(src=client, dst=vip, nh=number) / Raw(bytes(64))
    return w.ethernet() / IP(src=client, dst=vip, proto=number) / Raw(bytes(64))


def error_about(protocol: str, vip: str, client: str, *, octets: int = 8, later: bool = False) -> Packet:
    """Too big was what a backend sent to the client in a protocol without ports: so much of it is quoted."""
    number = WITHOUT_PORTS[protocol]
    if ":" in vip:
        answer: Packet = IPv6(src=vip, dst=client, nh=44 if later else number, plen=1400)
        if later:
            answer = answer / IPv6ExtHdrFragment(id=7, offset=100, nh=number)
        link = w.ethernet() / IPv6(src=ROUTER6, dst=vip) / ICMPv6PacketTooBig(mtu=1280)
    else:
        answer = IP(src=vip, dst=client, proto=number, len=1400, frag=100 if later else 0)
        link = w.ethernet() / IP(src=ROUTER, dst=vip) / ICMP(type=3, code=4, nexthopmtu=1280)
    return link / Raw(bytes(answer) + bytes(octets))


@pytest.mark.parametrize("protocol", list(WITHOUT_PORTS))
@pytest.mark.parametrize("scheduler", [Scheduler.WLC, Scheduler.MH], ids=str)
@pytest.mark.parametrize("vip", [w.VIP, w.VIP6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(
    "shape", [{}, {"octets": 0}, {"later": True}], ids=["8 octets", "the header alone", "a later fragment"]
)
def test_an_icmp_error_about_a_protocol_without_ports_goes_to_the_connections_backend(
    world: w.World, protocol: str, scheduler: Scheduler, vip: str, shape: dict[str, Any]
) -> None:
    world.apply(replace(without_ports(protocol), scheduler=scheduler, ring_slots=1021))
    owners = set()
    for number in range(1, 10):
        client = f"2001:db8:5::{number}" if ":" in vip else f"198.51.100.{number}"
        name = w.owner(world.send(portless(protocol, vip, client)))
        frame = error_about(protocol, vip, client, **shape)
        owners.add(name)

        assert world.send(frame) == w.Outcome(w.TX, "forward_error", w.to(name, frame))
    assert owners == {"web1", "web2"}


@pytest.mark.parametrize("protocol", list(WITHOUT_PORTS))
@pytest.mark.parametrize("vip", [w.VIP, w.VIP6], ids=["IPv4", "IPv6"])
def test_an_icmp_error_about_another_protocol_is_the_hosts(world: w.World, protocol: str, vip: str) -> None:
    """Also where its client has a connection of a protocol that the service knows."""
    world.apply(w.service(members=TWO))
    client = w.CLIENT6 if ":" in vip else w.CLIENT
    world.send(w.udp6() if ":" in vip else w.udp())
    frame = error_about(protocol, vip, client)

    assert world.send(frame) == w.Outcome(w.PASS, "pass_no_connection", bytes(frame))


@pytest.mark.parametrize("vip", [w.VIP, w.VIP6], ids=["IPv4", "IPv6"])
def test_an_icmp_error_that_quotes_no_whole_header_is_the_hosts(world: w.World, vip: str) -> None:
    world.apply(without_ports("esp"))
    client = w.CLIENT6 if ":" in vip else w.CLIENT
    world.send(portless("esp", vip, client))
    short = bytearray(bytes(error_about("esp", vip, client, octets=0))[:-1])
    if ":" in vip:
        short[18:20] = (len(short) - 14 - 40).to_bytes(2, "big")
    else:
        short[16:18] = (len(short) - 14).to_bytes(2, "big")

    assert world.send(bytes(short)).reason == "pass_no_listener"


def test_an_icmp_error_changes_no_connection(world: w.World) -> None:
    world.apply(w.service())
    world.send(w.tcp("S", sport=1))
    world.send(error4(1, "tcp", KINDS4["too big"]))

    assert world.plane.counters.load(("web", "web1")) == (1, 0)
    assert world.send(w.tcp("S", sport=1)).reason == "forward_connection"


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (error4(9, "tcp", KINDS4["too big"]), "pass_no_connection"),
        (error6(9, "udp", KINDS6["too big"]), "pass_no_connection"),
        (w.ethernet() / IP(src=ROUTER, dst=w.VIP) / ICMP(type=3, code=4) / Raw(b"short"), "pass_no_listener"),
        (
            w.ethernet() / IP(src=ROUTER, dst=w.VIP) / ICMP(type=3) / Raw(quoted(1, "tcp", length=3)),
            "pass_no_listener",
        ),
        (
            w.ethernet()
            / IP(src=ROUTER, dst=w.VIP)
            / ICMP(type=3)
            / IP(src=w.STRANGER, dst=w.CLIENT)
            / UDP(),
            "pass_no_listener",
        ),
        (
            w.ethernet() / IP(src=ROUTER, dst=w.VIP) / ICMP(type=3) / IP(src=w.VIP, dst=w.CLIENT) / ICMP(),
            "pass_no_connection",
        ),
        (w.ethernet() / IP(src=w.CLIENT, dst=w.VIP) / ICMP(type=8), "pass_no_listener"),
    ],
    ids=[
        "unknown",
        "unknown over IPv6",
        "nothing quoted",
        "no ports quoted",
        "not ours",
        "quotes a ping",
        "echo",
    ],
)
def test_other_icmp_is_the_hosts(world: w.World, frame: Packet, reason: str) -> None:
    world.apply(w.service())

    assert world.send(frame) == w.Outcome(w.PASS, reason, bytes(frame))


def test_padding_is_no_quote(world: w.World) -> None:
    world.apply(w.service())
    world.send(w.tcp("S", sport=1))
    frame = bytearray(bytes(error4(1, "tcp", ICMP(type=3, code=1))))
    frame[16:18] = (20 + 8 + 20).to_bytes(2, "big")  # without the quoted ports

    assert world.send(bytes(frame)) == w.Outcome(w.PASS, "pass_no_listener", bytes(frame))
