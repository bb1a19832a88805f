# SPDX-License-Identifier: Apache-2.0
"""Derives the route to a backend's address from the kernel's tables.

Pure: no sockets, no clock. The caller reads the tables (route, neighbour, links) and passes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from math import inf
from typing import Literal

from xdpdirector.model import Address
from xdpdirector.net.interfaces import ETH_P_8021Q, Interface

# linux/neighbour.h
NUD_INCOMPLETE, NUD_REACHABLE, NUD_STALE, NUD_DELAY = 0x01, 0x02, 0x04, 0x08
NUD_PROBE, NUD_FAILED, NUD_NOARP, NUD_PERMANENT = 0x10, 0x20, 0x40, 0x80
USABLE = NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_NOARP | NUD_PERMANENT
STATIC = NUD_NOARP | NUD_PERMANENT

# linux/rtnetlink.h
RTN_UNICAST, RTN_LOCAL = 1, 2

MAC_LENGTH = 6


@dataclass(frozen=True)
class Route:
    """Where frames for an address go. Both MACs are set exactly when `kind` is `neighbour`.

    `local`: an address of this machine. `off-link`: not in an Ethernet network of this machine, so direct
    routing cannot reach it. `unresolved`: on-link, but its MAC is not known now. `why`: a sentence, for all
    kinds but `neighbour`. `ifindex` is 0 and `interface` empty when no interface leads there.

    Over a VLAN device, frames leave through the interface below it: `wire` is its index (0: the same
    interface), and `vlan` their tag there, 0 for none, None for that of the incoming frame.

    `fault`: a sentence on a fault of the director's own network, which says nothing about the backend. A
    `neighbour` with a fault is the last known one. `is_cut`: no frame gets there now. `is_held`: the fault is
    recent or just ended, so new connections should wait. `is_asked`: never resolved before, and the kernel
    still waits for the first answer. `disturbed`: when a fault was last seen, by the caller's clock.

    Of routed addresses (see `judge`): `gateway`: whose MAC it is, None for the address's own. `source`: the source
    address that this machine uses. `mtu`: of the route, in bytes.
    """

    kind: Literal["neighbour", "local", "unresolved", "off-link"]
    mac: bytes | None = None
    source_mac: bytes | None = None
    ifindex: int = 0
    interface: str = ""
    why: str = ""
    wire: int = 0
    vlan: int | None = None
    fault: str = ""
    is_cut: bool = False
    is_held: bool = False
    is_asked: bool = False
    disturbed: float = field(default=-inf, compare=False)
    gateway: Address | None = None
    source: Address | None = None
    mtu: int = 0


@dataclass(frozen=True)
class Hop:
    """The answer to `ip route get`: route type (RTN_*), outgoing interface, gateway and source address if any, and
    the route's own MTU in bytes, 0 for none."""

    type: int
    ifindex: int
    gateway: str = ""
    source: str = ""
    mtu: int = 0

    def target(self, address: Address) -> Address:
        """Whose MAC frames for the address need."""
        return ip_address(self.gateway) if self.gateway else address


@dataclass(frozen=True)
class Neighbour:
    """An entry of the neighbour table: state (NUD_*), MAC if any, and whether the kernel keeps it resolved."""

    state: int
    mac: bytes = b""
    managed: bool = False


def judge(
    address: Address,
    hop: Hop | None,
    neighbour: Neighbour | None,
    links: Mapping[int, Interface],
    *,
    routed: bool = False,
) -> Route:
    """`hop`: None without a route. `neighbour`: of the hop's target; None without an entry. `links`: all interfaces
    by index. `routed`: the address may be behind a gateway, as that of a tunnel's end may."""
    if hop is None:
        return _without_route(address, links, routed=routed)
    link = links.get(hop.ifindex)
    if hop.type == RTN_LOCAL:
        return _at(link, Route("local", why=f"{address} is an address of this machine"))
    if hop.type != RTN_UNICAST or link is None:
        return _at(link, _ours("off-link", f"no route leads to {address}"))
    if hop.gateway and not routed:
        why = (
            f"{address} is behind the gateway {hop.gateway} on {link.name}: direct routing reaches only backends "
            "on a network of the director's own, others need `forward: ipip` or `gue`"
        )
        return _at(link, _ours("off-link", why))
    route = _at(link, _over(link, address, hop, neighbour, links))
    return _measured(route, hop, link) if routed else route


def _over(
    link: Interface, address: Address, hop: Hop, neighbour: Neighbour | None, links: Mapping[int, Interface]
) -> Route:
    if not link.mac:
        return _ours("off-link", f"{address} is reached over {link.name}, which is not an Ethernet interface")
    fault = tag_fault(link, links)
    if fault:
        return _ours("off-link", f"{address} is reached over {link.name}, {fault}")
    if not link.up:
        return _ours("unresolved", f"interface {link.name} is down or has no carrier")
    if neighbour is None or not neighbour.state & USABLE:
        target = hop.target(address)
        to = f"{target}, the gateway to {address}," if hop.gateway else str(address)
        return Route("unresolved", why=f"{to} does not answer {_question(target)} on {link.name}")
    fault = mac_fault(neighbour.mac, {other.mac for other in links.values()})
    if fault:
        return Route(
            "unresolved",
            why=f"{hop.target(address)} on {link.name} answers with the MAC {neighbour.mac.hex(':')}: {fault}",
        )
    route = Route("neighbour", mac=neighbour.mac, source_mac=link.mac)
    if link.vlan:
        return replace(route, wire=link.lower, vlan=link.vlan.id)
    is_trunk = any(other.vlan and other.lower == link.index for other in links.values())
    return replace(route, vlan=0) if is_trunk else route


def _measured(route: Route, hop: Hop, link: Interface) -> Route:
    """With what a tunnel's outer header needs."""
    return replace(
        route,
        gateway=ip_address(hop.gateway) if hop.gateway else None,
        source=ip_address(hop.source) if hop.source else None,
        mtu=hop.mtu or link.mtu,
    )


def asking(address: Address, route: Route) -> Route:
    """An unresolved route whose first request has not failed yet."""
    why = f"asking for its MAC address ({_question(address)} on {route.interface})"
    return replace(route, why=why, is_asked=True)


def tag_fault(link: Interface, links: Mapping[int, Interface]) -> str:
    """Why frames cannot be sent into this VLAN; empty if they can, or if it is not a VLAN device."""
    lower = links.get(link.lower)
    if link.vlan is None:
        return ""
    if lower is None:
        return "a VLAN of an interface in another network namespace"
    if lower.vlan:
        return f"a VLAN within the VLAN {lower.name} (QinQ), which is not supported"
    if link.vlan.ethertype != ETH_P_8021Q:
        return f"a VLAN with the tag {link.vlan.ethertype:#06x}: only 802.1Q (0x8100) is supported"
    return ""


def mac_fault(mac: bytes, own: set[bytes]) -> str:
    """Why frames must not be sent to this MAC; empty if they may."""
    if len(mac) != MAC_LENGTH or not any(mac):
        return "not the address of a network card"
    if mac[0] & 1:
        return "a multicast address"
    if mac in own:
        return "the director's own"
    return ""


def _without_route(address: Address, links: Mapping[int, Interface], *, routed: bool) -> Route:
    """Without a route. A link that went down removes its routes: that is a fault, not another network."""
    for link in links.values():
        if not link.up and link.reaches(address):
            return _at(link, _ours("unresolved", f"interface {link.name} is down or has no carrier"))
    if routed:
        return _ours("off-link", f"no route leads to {address}")
    return _ours(
        "off-link", f"no route leads to {address}: a backend must be on a network of the director's own"
    )


def without_room(found: Route, address: Address, most: int) -> Route:
    """The kernel's neighbour table is full, so the MAC cannot be resolved. `most`: the table's limit, 0 if
    unknown."""
    family = "ipv4" if address.version == 4 else "ipv6"
    limit = f", and gc_thresh3 is {most:,}" if most else ""
    why = (
        f"the kernel's {family} neighbour table is full{limit}: raise net.{family}.neigh.default.gc_thresh3 "
        "(of the host; all its network namespaces share it)"
    )
    return replace(found, why=why, fault=why)


def _ours(kind: Literal["unresolved", "off-link"], why: str) -> Route:
    """A route with a fault of the director's own interfaces, addresses or routes."""
    return Route(kind, why=why, fault=why)


def _at(link: Interface | None, route: Route) -> Route:
    return replace(route, ifindex=link.index, interface=link.name) if link else route


def _question(address: Address) -> str:
    return "ARP" if address.version == 4 else "neighbour discovery"
