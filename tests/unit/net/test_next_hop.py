# SPDX-License-Identifier: Apache-2.0
"""The verdict on an address, row by row: what the kernel's tables say, and what follows."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface

import pytest

from xdpdirector.model import Address
from xdpdirector.net.interfaces import Interface, Tag
from xdpdirector.net.next_hop import (
    NUD_DELAY,
    NUD_FAILED,
    NUD_INCOMPLETE,
    NUD_NOARP,
    NUD_PERMANENT,
    NUD_PROBE,
    NUD_REACHABLE,
    NUD_STALE,
    RTN_LOCAL,
    RTN_UNICAST,
    Hop,
    Neighbour,
    Route,
    judge,
    mac_fault,
)

BACKEND, OWN, FAR = ip_address("192.0.2.21"), ip_address("192.0.2.2"), ip_address("198.51.100.7")
BACKEND6 = ip_address("2001:db8::21")
GATEWAY = "192.0.2.1"
BACKEND_MAC, ETH0_MAC, ETH1_MAC = (bytes.fromhex(f"0200000000{last}") for last in ("21", "02", "03"))

NETWORKS = (ip_interface("192.0.2.2/24"), ip_interface("2001:db8::2/64"))
LO = Interface("lo", 1, b"", True)
ETH0 = Interface("eth0", 2, ETH0_MAC, True, NETWORKS)
ETH1 = Interface("eth1", 3, ETH1_MAC, True)
TUN0 = Interface("tun0", 4, b"", True)
FALLEN = Interface("eth2", 5, bytes.fromhex("020000000004"), False, (ip_interface("203.0.113.2/24"),))
LINKS = {link.index: link for link in (LO, ETH0, ETH1, TUN0, FALLEN)}
ON_FALLEN = ip_address("203.0.113.21")

ON_ETH0 = Hop(RTN_UNICAST, ETH0.index)
BLACKHOLE = 6  # RTN_BLACKHOLE
FORWARDS = Route("neighbour", BACKEND_MAC, ETH0_MAC, ETH0.index, "eth0")


def row(
    address: Address,
    hop: Hop | None,
    neighbour: Neighbour | None,
    kind: str,
    why: str,
    id: str,  # noqa: A002
) -> object:
    return pytest.param(address, hop, neighbour, kind, why, id=id)


@pytest.mark.parametrize("state", [NUD_REACHABLE, NUD_STALE, NUD_DELAY, NUD_PROBE, NUD_NOARP, NUD_PERMANENT])
def test_usable_states_forward(state: int) -> None:
    route = judge(BACKEND, ON_ETH0, Neighbour(state, BACKEND_MAC), LINKS)

    assert route == FORWARDS


@pytest.mark.parametrize(
    ("address", "hop", "neighbour", "kind", "why"),
    [
        row(BACKEND, ON_ETH0, None, "unresolved", "does not answer ARP on eth0", "no entry"),
        row(BACKEND, ON_ETH0, Neighbour(0), "unresolved", "does not answer ARP", "entry just made"),
        row(BACKEND, ON_ETH0, Neighbour(NUD_INCOMPLETE), "unresolved", "does not answer ARP", "asking"),
        row(BACKEND, ON_ETH0, Neighbour(NUD_FAILED, BACKEND_MAC), "unresolved", "does not answer", "failed"),
        row(BACKEND6, ON_ETH0, None, "unresolved", "neighbour discovery on eth0", "IPv6 without entry"),
        row(BACKEND, ON_ETH0, Neighbour(NUD_STALE, bytes(6)), "unresolved", "network card", "MAC of zeros"),
        row(BACKEND, ON_ETH0, Neighbour(NUD_STALE, b""), "unresolved", "network card", "no MAC"),
        row(BACKEND, ON_ETH0, Neighbour(NUD_STALE, b"\xff" * 6), "unresolved", "multicast", "broadcast MAC"),
        row(BACKEND, ON_ETH0, Neighbour(NUD_STALE, ETH0_MAC), "unresolved", "the director's own", "own MAC"),
        row(BACKEND, ON_ETH0, Neighbour(NUD_STALE, ETH1_MAC), "unresolved", "the director's own", "other own MAC"),
        row(OWN, Hop(RTN_LOCAL, LO.index), None, "local", "an address of this machine", "own address"),
        row(FAR, Hop(RTN_UNICAST, 2, GATEWAY), None, "off-link", f"gateway {GATEWAY} on eth0", "gateway"),
        row(FAR, Hop(RTN_UNICAST, TUN0.index), None, "off-link", "tun0, which is not an Ethernet", "tunnel"),
        row(FAR, Hop(BLACKHOLE, LO.index), None, "off-link", "no route leads to", "black hole"),
        row(FAR, Hop(RTN_UNICAST, 77), None, "off-link", "no route leads to", "interface that just went"),
        row(FAR, None, None, "off-link", "no route leads to", "no route"),
        row(ON_FALLEN, None, None, "unresolved", "eth2 is down or has no carrier", "route went with its link"),
        row(ON_FALLEN, Hop(RTN_UNICAST, 5), Neighbour(NUD_STALE, BACKEND_MAC), "unresolved", "eth2", "link down"),
    ],
)  # fmt: skip
def test_everything_else_says_why(
    address: Address, hop: Hop | None, neighbour: Neighbour | None, kind: str, why: str
) -> None:
    route = judge(address, hop, neighbour, LINKS)

    assert (route.kind, route.mac, route.source_mac) == (kind, None, None)
    assert why in route.why
    is_the_neighbours = kind == "local" or address in (BACKEND, BACKEND6)
    assert route.fault == ("" if is_the_neighbours else route.why)


@pytest.mark.parametrize(
    ("hop", "place"),
    [
        (ON_ETH0, (2, "eth0")),
        (Hop(RTN_LOCAL, 1), (1, "lo")),
        (Hop(RTN_UNICAST, 77), (0, "")),
        (None, (0, "")),
    ],
    ids=["neighbour", "local", "unknown interface", "no route"],
)
def test_interface_is_named_where_one_leads_there(hop: Hop | None, place: tuple[int, str]) -> None:
    route = judge(FAR, hop, None, LINKS)

    assert (route.ifindex, route.interface) == place


VLAN_MAC = bytes.fromhex("020000000007")
VLAN7 = Interface("eth0.7", 7, VLAN_MAC, True, lower=ETH0.index, vlan=Tag(7))
INNER = Interface("eth0.7.8", 8, VLAN_MAC, True, lower=VLAN7.index, vlan=Tag(8))
SERVICE_TAG = Interface("eth0.9", 9, VLAN_MAC, True, lower=ETH0.index, vlan=Tag(9, 0x88A8))
ELSEWHERE = Interface("vlan10", 10, VLAN_MAC, True, vlan=Tag(10))
TRUNK = LINKS | {link.index: link for link in (VLAN7, INNER, SERVICE_TAG, ELSEWHERE)}
RESOLVED = Neighbour(NUD_REACHABLE, BACKEND_MAC)


def test_a_backend_in_a_vlan_gets_its_tag_through_the_interface_below() -> None:
    route = judge(BACKEND, Hop(RTN_UNICAST, VLAN7.index), RESOLVED, TRUNK)

    expected = Route("neighbour", BACKEND_MAC, VLAN_MAC, VLAN7.index, "eth0.7", wire=ETH0.index, vlan=7)
    assert route == expected


def test_a_backend_beside_vlans_gets_no_tag() -> None:
    assert judge(BACKEND, ON_ETH0, RESOLVED, TRUNK) == replace(FORWARDS, vlan=0)


def test_another_interfaces_vlans_do_not_count() -> None:
    route = judge(BACKEND, Hop(RTN_UNICAST, ETH1.index), RESOLVED, TRUNK)

    assert (route.kind, route.vlan) == ("neighbour", None)


@pytest.mark.parametrize(
    ("link", "why"),
    [
        (INNER, "eth0.7.8, a VLAN within the VLAN eth0.7 (QinQ), which is not supported"),
        (SERVICE_TAG, "eth0.9, a VLAN with the tag 0x88a8: only 802.1Q (0x8100) is supported"),
        (ELSEWHERE, "vlan10, a VLAN of an interface in another network namespace"),
    ],
    ids=["QinQ", "802.1ad", "in another namespace"],
)  # fmt: skip
def test_a_vlan_that_frames_cannot_be_sent_into_is_another_network(link: Interface, why: str) -> None:
    route = judge(BACKEND, Hop(RTN_UNICAST, link.index), RESOLVED, TRUNK)

    assert (route.kind, route.interface) == ("off-link", link.name)
    assert route.why == f"{BACKEND} is reached over {why}"


def test_a_vlan_without_its_backend_says_so() -> None:
    route = judge(BACKEND, Hop(RTN_UNICAST, VLAN7.index), None, TRUNK)

    assert (route.kind, route.why) == ("unresolved", f"{BACKEND} does not answer ARP on eth0.7")


def test_mac_of_a_unicast_card_is_without_fault() -> None:
    assert mac_fault(BACKEND_MAC, {ETH0_MAC, b""}) == ""


GATEWAY_MAC = bytes.fromhex("0200000000fe")
BEHIND = Hop(RTN_UNICAST, ETH0.index, GATEWAY, "192.0.2.2")


def test_the_end_of_a_tunnel_may_be_behind_a_gateway_whose_mac_is_used() -> None:
    links = LINKS | {ETH0.index: replace(ETH0, mtu=9000)}

    route = judge(FAR, BEHIND, Neighbour(NUD_REACHABLE, GATEWAY_MAC), links, routed=True)

    assert (route.kind, route.mac, route.source_mac) == ("neighbour", GATEWAY_MAC, ETH0_MAC)
    assert (route.gateway, route.source, route.mtu) == (ip_address(GATEWAY), ip_address("192.0.2.2"), 9000)


def test_the_mtu_of_a_route_comes_before_that_of_its_interface() -> None:
    hop = replace(BEHIND, mtu=1400)

    assert judge(FAR, hop, Neighbour(NUD_REACHABLE, GATEWAY_MAC), LINKS, routed=True).mtu == 1400


def test_the_end_of_a_tunnel_on_the_same_network_needs_no_gateway() -> None:
    route = judge(BACKEND, ON_ETH0, Neighbour(NUD_REACHABLE, BACKEND_MAC), LINKS, routed=True)

    assert (route.kind, route.mac, route.gateway) == ("neighbour", BACKEND_MAC, None)


@pytest.mark.parametrize(
    ("hop", "neighbour", "kind", "why"),
    [
        (None, None, "off-link", f"no route leads to {FAR}"),
        (BEHIND, None, "unresolved", f"{GATEWAY}, the gateway to {FAR}, does not answer ARP on eth0"),
        (Hop(RTN_UNICAST, TUN0.index), None, "off-link", "not an Ethernet interface"),
        (Hop(BLACKHOLE, 0), None, "off-link", "no route leads"),
        (BEHIND, Neighbour(NUD_STALE, ETH1_MAC), "unresolved", "the director's own"),
    ],
    ids=["no route", "silent gateway", "no Ethernet", "blackhole", "gateway with an own MAC"],
)
def test_why_no_tunnel_leads_there(hop: Hop | None, neighbour: Neighbour | None, kind: str, why: str) -> None:
    route = judge(FAR, hop, neighbour, LINKS, routed=True)

    assert route.kind == kind
    assert why in route.why
    assert route.mac is None


def test_this_machine_can_be_the_end_of_a_tunnel() -> None:
    assert judge(OWN, Hop(RTN_LOCAL, LO.index), None, LINKS, routed=True).kind == "local"
