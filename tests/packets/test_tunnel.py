# SPDX-License-Identifier: Apache-2.0
"""Backends in other networks: what the frames to them look like, and who is told that a packet is too long."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPerror6, IPv6, IPv6ExtHdrFragment, fragment6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from tests.support.world import (
    CLIENT,
    CLIENT6,
    DIRECTOR_MAC,
    DROP,
    MACS,
    ROUTER_MAC,
    TX,
    VIP,
    VIP6,
    World,
    backend,
    ethernet,
    hop,
    mac,
    service,
    tcp,
    tcp6,
    to,
    udp,
    udp6,
)
from xdpdirector.dataplane.service_plan import MemberPlan
from xdpdirector.model import Scheduler
from xdpdirector.net.tunnel import Tunnel

DIRECTOR, DIRECTOR6 = "192.0.2.1", "2001:db8::1"
FAR, FAR6 = "203.0.113.21", "2001:db8:f::21"
GUE_PORT = 6080
MTU = 1500
IPIP4 = Tunnel("ipip", ip_address(DIRECTOR), ip_address(FAR), MTU)
IPIP6 = Tunnel("ipip", ip_address(DIRECTOR6), ip_address(FAR6), MTU)
GUE4, GUE6 = (replace(each, kind="gue", port=GUE_PORT) for each in (IPIP4, IPIP6))
TUNNELS = {"ipip over IPv4": IPIP4, "ipip over IPv6": IPIP6, "gue over IPv4": GUE4, "gue over IPv6": GUE6}
FRAMES = {"TCP": tcp(), "TCP over IPv6": tcp6(), "UDP": udp(), "UDP over IPv6": udp6()}
LARGEST = {"ipip over IPv4": 1480, "ipip over IPv6": 1460, "gue over IPv4": 1472, "gue over IPv6": 1452}


def far(tunnel: Tunnel, **changes: object) -> MemberPlan:
    """web1 behind the tunnel; its next hop has web1's MAC."""
    return backend("web1", tunnel=tunnel, **changes)


def outer(frame: bytes) -> tuple[Packet, bytes]:
    """The outer IP header with a UDP header if there is one, and the bytes behind them."""
    packet = Ether(frame).payload
    if isinstance(packet, Dot1Q):
        packet = packet.payload
    length = packet.len if isinstance(packet, IP) else packet.plen + 40
    header = 20 if isinstance(packet, IP) else 40
    is_udp = (packet.proto if isinstance(packet, IP) else packet.nh) == 17
    return packet, bytes(packet)[header + (8 if is_udp else 0) : length]


def inner(frame: Packet | bytes) -> bytes:
    return bytes(Ether(bytes(frame)).payload)


def of_size(size: int, ipv6: bool = False, **fields: object) -> Packet:
    """A datagram of that many bytes, with its IP header."""
    data = b"x" * (size - (48 if ipv6 else 28))
    frame = udp6(data=data) if ipv6 else udp(data=data)
    for name, value in fields.items():
        setattr(frame[IP], name, value)
    return frame


@pytest.mark.parametrize("tunnel", TUNNELS.values(), ids=TUNNELS)
@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_a_packet_of_either_version_is_sent_through_a_tunnel_of_either_version(
    world: World, tunnel: Tunnel, frame: Packet
) -> None:
    world.apply(service(members=(far(tunnel),)))

    outcome = world.send(frame)

    packet, inside = outer(outcome.frame)
    assert (outcome.verdict, outcome.reason) == (TX, "forward_new")
    assert outcome.frame[:12] == mac(MACS["web1"]) + mac(DIRECTOR_MAC)
    assert inside == inner(frame)
    is_ipv6, next_header = tunnel.destination.version == 6, 41 if IPv6 in frame else 4
    if is_ipv6:
        assert (packet.src, packet.dst, packet.hlim) == (DIRECTOR6, FAR6, 64)
        assert packet.fl
    else:
        assert (packet.src, packet.dst, packet.ttl) == (DIRECTOR, FAR, 64)
        rebuilt = packet.copy()
        del rebuilt.chksum
        assert IP(bytes(rebuilt)).chksum == packet.chksum
    if tunnel.kind == "gue":
        udp_header = packet[UDP]
        assert (udp_header.dport, udp_header.len, udp_header.chksum) == (GUE_PORT, 8 + len(inner(frame)), 0)
        assert udp_header.sport >= 0xC000
    else:
        assert (packet.nh if is_ipv6 else packet.proto) == next_header


@pytest.mark.parametrize("scheduler", [Scheduler.WLC, Scheduler.MH])
def test_packets_of_a_running_connection_go_through_the_tunnel_and_are_counted(
    world: World, scheduler: Scheduler
) -> None:
    world.apply(service(scheduler=scheduler, members=(far(IPIP4),)))

    outcomes = [world.send(tcp(flags)) for flags in ("S", "A", "PA", "A")]

    assert {inner(frame) for frame in (tcp("S"), tcp("A"), tcp("PA"))} == {
        outer(outcome.frame)[1] for outcome in outcomes
    }
    counted = world.plane.counters.traffic([("web", "web1")])["web", "web1"]
    assert counted.packets == 4
    assert counted.bytes == 4 * len(inner(tcp()))


@pytest.mark.parametrize("scheduler", [Scheduler.WLC, Scheduler.MH])
def test_what_clients_show_of_a_backend_behind_a_tunnel_is_counted(
    world: World, scheduler: Scheduler
) -> None:
    world.apply(service(scheduler=scheduler, members=(far(IPIP4, watched=True),), passive=True))

    outcomes = [world.send(tcp(flags)) for flags in ("S", "S", "A", "R")]

    assert {inner(frame) for frame in (tcp("S"), tcp("A"), tcp("R"))} == {
        outer(outcome.frame)[1] for outcome in outcomes
    }
    found = world.plane.counters.passive([("web", "web1")])["web", "web1"]
    assert (found.syns, found.retransmissions) == (1, 1)
    assert (found.handshakes, found.resets) == ((None, None) if scheduler.is_ring else (1, 1))
    opened = world.plane.counters.traffic([("web", "web1")])["web", "web1"].connections
    assert opened == (2 if scheduler.is_ring else 1)


@pytest.mark.parametrize("tos", [0, 0x2E << 2, 0b01, 0b10, 0b11])
def test_dscp_and_ecn_are_copied_to_the_outer_header(world: World, tos: int) -> None:
    world.apply(service(members=(far(IPIP4),)))
    four, six = tcp(), tcp6()
    four[IP].tos, six[IPv6].tc = tos, tos

    assert outer(world.send(four).frame)[0].tos == tos
    assert outer(world.send(six).frame)[0].tos == tos

    world.apply(service(members=(far(IPIP6),)))

    assert outer(world.send(four).frame)[0].tc == tos
    assert outer(world.send(six).frame)[0].tc == tos


def test_df_is_copied_and_a_packet_that_routers_may_fragment_has_an_id(world: World) -> None:
    world.apply(service(members=(far(IPIP4),)))
    whole, may_be_cut = tcp(), tcp()
    whole[IP].flags = "DF"

    assert (outer(world.send(whole).frame)[0].flags, outer(world.send(whole).frame)[0].id) == ("DF", 0)
    assert not outer(world.send(tcp6()).frame)[0].flags.DF
    ids = {outer(world.send(may_be_cut).frame)[0].id for _ in range(8)}
    assert len(ids) > 1


@pytest.mark.parametrize("ttl", [1, 2, 255])
def test_the_ttl_of_the_inner_packet_is_neither_changed_nor_copied(world: World, ttl: int) -> None:
    world.apply(service(members=(far(IPIP4),)))
    frame = tcp()
    frame[IP].ttl = ttl

    packet, inside = outer(world.send(frame).frame)

    assert (packet.ttl, inside) == (64, inner(frame))


@pytest.mark.parametrize("tunnel", TUNNELS.values(), ids=TUNNELS)
def test_flows_differ_in_what_receive_queues_hash_and_packets_of_a_flow_do_not(
    world: World, tunnel: Tunnel
) -> None:
    sources = ip_network("10.64.0.0/16" if tunnel.destination.version == 4 else "100::/112")
    world.apply(service(members=(far(replace(tunnel, source=sources[-1], spread=16)),)))

    def seen(frame: Packet) -> tuple[object, ...]:
        packet = outer(world.send(frame).frame)[0]
        return packet.src, packet[UDP].sport if tunnel.kind == "gue" else 0

    flows = {seen(tcp(sport=port)) for port in range(1024, 1056)}
    of_one = {seen(tcp(flags, sport=2000)) for flags in ("S", "A", "PA")}

    assert len(flows) > 24
    assert len(of_one) == 1
    assert all(ip_address(source) in sources for source, _ in flows)


@pytest.mark.parametrize("name", TUNNELS)
@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("df", [False, True], ids=["may be fragmented", "DF"])
def test_the_longest_packet_goes_through_and_the_sender_of_a_longer_one_is_told(
    world: World, name: str, ipv6: bool, df: bool
) -> None:
    world.apply(service(members=(far(TUNNELS[name]),)))
    fields = {} if ipv6 else {"flags": "DF" if df else 0}

    fits = world.send(of_size(LARGEST[name], ipv6, **fields))
    too_long = of_size(LARGEST[name] + 1, ipv6, **fields)
    refused = world.send(too_long)

    assert (fits.verdict, len(outer(fits.frame)[1])) == (TX, LARGEST[name])
    answer = Ether(refused.frame)
    assert (refused.verdict, refused.reason) == (TX, "reject_too_big")
    assert (answer.dst, answer.src) == (ROUTER_MAC, DIRECTOR_MAC)
    if ipv6:
        told = answer[ICMPv6PacketTooBig]
        assert (answer[IPv6].src, answer[IPv6].dst, told.mtu) == (VIP6, CLIENT6, LARGEST[name])
        assert bytes(told[IPerror6])[:40] == inner(too_long)[:40]
    else:
        told = answer[ICMP]
        assert (answer[IP].src, answer[IP].dst) == (VIP, CLIENT)
        assert (told.type, told.code, told.nexthopmtu) == (3, 4, LARGEST[name])
        assert bytes(told.payload)[:28] == inner(too_long)[:28]
    _assert_checksums(answer)
    assert world.plane.counters.drops(["web"])["web"]["reject_too_big"] == 1


def _assert_checksums(answer: Packet) -> None:
    rebuilt = answer.copy()
    for layer, field in ((IP, "chksum"), (ICMP, "chksum"), (ICMPv6PacketTooBig, "cksum")):
        if layer in rebuilt:
            delattr(rebuilt[layer], field)
    assert bytes(rebuilt) == bytes(answer)


def test_who_gets_too_many_such_errors_gets_no_more(world: World) -> None:
    world.apply(service(members=(far(IPIP4),)))

    reasons = [world.send(of_size(1481)).reason for _ in range(200)]

    assert {"reject_too_big", "drop_answer"} == set(reasons)


def test_an_icmp_error_and_a_later_fragment_that_are_too_long_are_not_answered(world: World) -> None:
    world.apply(service(members=(far(IPIP4),)))
    world.send(tcp())
    quoted = IP(src=VIP, dst=CLIENT) / TCP(sport=80, dport=1024)
    error = ethernet() / IP(src="198.51.100.1", dst=VIP) / ICMP(type=3, code=4) / quoted
    first, later, *_ = _fragments(1496)

    assert world.send(error).reason == "forward_error"
    assert world.send(error / Raw(bytes(1472))).reason == "drop_unanswerable"
    assert world.send(first).reason == "reject_too_big"
    assert world.send(later).verdict == DROP
    assert world.plane.counters.drops(["web"])["web"]["drop_unanswerable"] == 2


def _fragments(size: int) -> list[Packet]:
    packet = IP(src=CLIENT, dst=VIP, id=7) / UDP(sport=1024, dport=53) / bytes(2 * size - 48)
    return [ethernet() / each for each in fragment(packet, fragsize=size - 20 - (size - 20) % 8)]


def test_all_fragments_of_a_packet_go_through_the_tunnel(world: World) -> None:
    world.apply(service(members=(far(replace(IPIP4, source=ip_address("10.64.0.0"), spread=16)),)))
    packet = IPv6(src=CLIENT6, dst=VIP6) / IPv6ExtHdrFragment(id=9) / UDP(sport=1024, dport=53) / bytes(1400)
    families = [
        _fragments(700),
        [ethernet() / each for each in fragment6(packet, 700)],
    ]

    for frames in families:
        outcomes = [world.send(frame) for frame in frames]
        assert [outer(outcome.frame)[1] for outcome in outcomes] == [inner(frame) for frame in frames]
        assert [outcome.reason for outcome in outcomes][1:] == ["forward_fragment"] * (len(frames) - 1)
        assert len({outer(outcome.frame)[0].src for outcome in outcomes}) == 1


@pytest.mark.parametrize("tags", [(), (10,), (10, 20)], ids=["untagged", "tagged", "tagged twice"])
@pytest.mark.parametrize("vlan", [None, 0, 30], ids=["as it came", "untagged", "in a VLAN"])
@pytest.mark.parametrize("tunnel", [IPIP4, GUE6], ids=["IPv4", "IPv6"])
def test_vlan_tags_are_kept_or_replaced(
    world: World, tags: tuple[int, ...], vlan: int | None, tunnel: Tunnel
) -> None:
    world.apply(service(members=(far(tunnel, hop=replace(hop("web1"), vlan=vlan)),)))
    link = ethernet()
    for tag in tags:
        link = link / Dot1Q(vlan=tag)
    frame = link / IP(src=CLIENT, dst=VIP) / TCP(sport=1024, dport=80, flags="S")

    outcome = world.send(frame)

    sent, wanted = Ether(outcome.frame), tags if vlan is None else (vlan,) if vlan else ()
    found = []
    layer = sent.payload
    while isinstance(layer, Dot1Q):
        found.append(layer.vlan)
        layer = layer.payload
    assert (outcome.verdict, tuple(found)) == (TX, wanted)
    assert isinstance(layer, IPv6 if tunnel.destination.version == 6 else IP)
    assert bytes(layer).endswith(inner(ethernet() / frame[IP]))


def test_a_client_behind_the_gateway_to_the_backend_is_served(world: World) -> None:
    """Its frames come from the MAC that the backend's frames go to. In direct routing that is a loop."""
    world.apply(service(members=(far(IPIP4),)))
    frame = tcp()
    frame.src = MACS["web1"]

    assert world.send(frame).reason == "forward_new"

    world.apply(service(members=(backend("web1"),)))

    assert world.send(frame).reason == "pass_directed"


def test_a_backend_without_a_next_hop_is_unresolved(world: World) -> None:
    world.apply(service(members=(far(IPIP4, hop=None),)))

    assert world.send(tcp()).reason == "drop_unresolved"


def test_a_backend_that_is_the_director_itself_needs_no_tunnel(world: World) -> None:
    world.apply(service(members=(far(IPIP4, hop=replace(hop("web1"), local=True)),)))

    outcome = world.send(tcp())

    assert (outcome.reason, outcome.frame) == ("pass_local", bytes(tcp()))


def test_a_tunnel_can_change_and_end(world: World) -> None:
    world.apply(service(members=(far(IPIP4),)))
    first = world.send(tcp())
    world.apply(service(members=(far(GUE6),)))
    second = world.send(tcp("A"))
    world.apply(service(members=(backend("web1"),)))
    third = world.send(tcp("A"))

    assert outer(first.frame)[0].dst == FAR
    assert outer(second.frame)[0].dst == FAR6
    assert third.frame == to("web1", tcp("A"))


def test_applying_a_tunnel_again_writes_nothing_and_a_damaged_one_is_repaired(world: World) -> None:
    plan = service(members=(far(GUE4),))
    world.apply(plan)
    index = world.plane.indices.backends["web", "web1"]

    assert world.plane.apply(plan, 0.0) == 0

    world.tables.tunnels[index]["mtu"] = 9000
    assert world.plane.apply(plan, 0.0) > 0
    assert world.tables.tunnels[index]["mtu"] == MTU
    assert world.send(tcp()).reason == "forward_new"
