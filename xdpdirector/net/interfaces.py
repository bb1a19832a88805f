# SPDX-License-Identifier: Apache-2.0
"""The network interfaces of this network namespace, as rtnetlink reports them.

Never reads /sys/class/net: a process that entered a namespace through setns or `nsenter --net` still sees
another namespace's interfaces there. Reads only, and does not know what the interfaces are used for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
from socket import AF_UNSPEC
from typing import NamedTuple, TypeAlias

from pyroute2.netlink.rtnl import RTM_GETADDR, RTM_GETLINK
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from xdpdirector.errors import InvalidRequestError
from xdpdirector.model import Address
from xdpdirector.net.netlink import Message, Requests

IFF_UP, IFF_LOWER_UP = 1 << 0, 1 << 16
SKIP_STATISTICS = 1 << 3  # RTEXT_FILTER_SKIP_STATS
ARPHRD_ETHER = 1
PORTS_OF = ("bridge", "bond", "team")  # kinds of interfaces that receive what arrives at their ports
IFA_F_DADFAILED, IFA_F_TENTATIVE = 0x08, 0x40
ETH_P_8021Q = 0x8100


Network: TypeAlias = IPv4Interface | IPv6Interface
"""An interface address with its prefix length."""


class Tag(NamedTuple):
    """A VLAN tag: id and EtherType, 0x8100 (802.1Q) or 0x88a8 (802.1ad)."""

    id: int
    ethertype: int = ETH_P_8021Q


class Arp(NamedTuple):
    """`arp_ignore` and `arp_announce` (Documentation/networking/ip-sysctl.rst)."""

    ignore: int = 0
    announce: int = 0


DEFAULT_ARP = Arp()


@dataclass(frozen=True)
class Interface:
    """`mac` is empty for interfaces that are not Ethernet. `up`: administratively up and with a carrier.

    `networks`: its addresses with prefix lengths. `lower`: index of the interface below it; `master`: of the
    bond or bridge that it is a port of; 0 for none in this namespace. `vlan`: the tag of its frames on
    `lower`, None if it is no VLAN device. `program`: id of its XDP program, 0 for none. `kind`: veth, bridge,
    bond ...; empty for hardware. `arp`: its own settings. `mtu`: in bytes, 0 if unknown.
    """

    name: str
    index: int
    mac: bytes
    up: bool
    networks: tuple[Network, ...] = ()
    lower: int = 0
    master: int = 0
    vlan: Tag | None = None
    program: int = 0
    kind: str = ""
    arp: Arp = DEFAULT_ARP
    mtu: int = 0

    def same_link(self, other: Interface) -> bool:
        """True if equal except for addresses."""
        return replace(self, networks=()) == replace(other, networks=())

    def reaches(self, address: Address) -> bool:
        """True if one of its networks contains the address."""
        return any(address in network.network for network in self.networks)


@dataclass(frozen=True)
class Held:
    """One address on one interface. `protocol`: IFA_PROTO, who added it; 0 if unknown. `tentative`: duplicate
    address detection is not finished, or has failed (RFC 4862)."""

    address: Address
    prefix: int
    index: int
    protocol: int
    tentative: bool = False


def find(names: Sequence[str]) -> tuple[Interface, ...]:
    """The interfaces of these names, in this order. InvalidRequestError for an interface that does not exist
    or cannot have a VIP."""
    with Requests() as requests:
        present = {interface.name: interface for interface in everything(requests)}
    for position, name in enumerate(names):
        if name not in present:
            raise InvalidRequestError(
                f"interface '{name}' does not exist here; there are: {', '.join(sorted(present))}",
                pointer=f"/interfaces/{position}",
            )
        if fault := port_fault(present[name], present.values()):
            raise InvalidRequestError(fault, pointer=f"/interfaces/{position}")
    return tuple(present[name] for name in names)


def port_fault(link: Interface, links: Iterable[Interface]) -> str:
    """Why an interface cannot attract packets to this host: it is a port of another interface. Empty if it is
    not."""
    master = next((each for each in links if each.index == link.master and each.kind in PORTS_OF), None)
    if master is None:
        return ""
    return (
        f"interface '{link.name}' is a port of the {master.kind} '{master.name}': nobody finds a VIP on a port. "
        f"Name '{master.name}' in `interfaces` instead, or take the port out of it with "
        f"`ip link set {link.name} nomaster`"
    )


def everything(requests: Requests) -> list[Interface]:
    """All interfaces with their addresses."""
    networks: dict[int, list[Network]] = defaultdict(list)
    for held in addresses(requests):
        networks[held.index].append(ip_interface((held.address, held.prefix)))
    links = requests.dump(RTM_GETLINK, _link_request(0))
    return [interface_of(link, networks[link["index"]]) for link in links]


def one(requests: Requests, index: int) -> Interface | None:
    """The interface of this index, without its addresses; None if there is none."""
    try:
        return interface_of(requests.get(RTM_GETLINK, _link_request(index)))
    except OSError:
        return None


def addresses(requests: Requests) -> list[Held]:
    """All addresses of all interfaces."""
    return [held_by(message) for message in requests.dump(RTM_GETADDR, ifaddrmsg())]


def _link_request(index: int) -> Message:
    request = ifinfmsg()
    request["index"] = index
    request["attrs"] = [("IFLA_EXT_MASK", SKIP_STATISTICS)]
    return request


def interface_of(link: Message, networks: Iterable[Network] = ()) -> Interface:
    """Decode an RTM_NEWLINK message."""
    up = IFF_UP | IFF_LOWER_UP
    return Interface(
        name=link.get_attr("IFLA_IFNAME"),
        index=link["index"],
        mac=mac_bytes(link.get_attr("IFLA_ADDRESS")) if link["ifi_type"] == ARPHRD_ETHER else b"",
        up=link["flags"] & up == up,
        networks=tuple(networks),
        lower=0 if link.get_attr("IFLA_LINK_NETNSID") is not None else link.get_attr("IFLA_LINK") or 0,
        master=link.get_attr("IFLA_MASTER") or 0,
        vlan=_tag(link),
        program=_program(link),
        kind=_kind(link),
        arp=_arp(link),
        mtu=link.get_attr("IFLA_MTU") or 0,
    )


def _kind(link: Message) -> str:
    about = link.get_attr("IFLA_LINKINFO")
    return (about.get_attr("IFLA_INFO_KIND") or "") if about else ""


def _arp(link: Message) -> Arp:
    about = link.get_attr("IFLA_AF_SPEC")
    found = about.get_attr("AF_INET") if about and link["family"] == AF_UNSPEC else None
    return Arp(found["arp_ignore"], found["arp_announce"]) if found else Arp()


def _program(link: Message) -> int:
    about = link.get_attr("IFLA_XDP")
    return (about.get_attr("IFLA_XDP_PROG_ID") or 0) if about else 0


def _tag(link: Message) -> Tag | None:
    about = link.get_attr("IFLA_LINKINFO")
    if _kind(link) != "vlan":
        return None
    data = about.get_attr("IFLA_INFO_DATA")
    return Tag(data.get_attr("IFLA_VLAN_ID"), data.get_attr("IFLA_VLAN_PROTOCOL") or ETH_P_8021Q)


def held_by(message: Message) -> Held:
    """Decode an RTM_NEWADDR or RTM_DELADDR message."""
    # On a point-to-point link IFA_ADDRESS is the peer's; IPv6 has IFA_LOCAL only there.
    text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    return Held(
        ip_address(text),
        message["prefixlen"],
        message["index"],
        message.get_attr("IFA_PROTO") or 0,
        bool(message["flags"] & (IFA_F_TENTATIVE | IFA_F_DADFAILED)),
    )


def mac_bytes(text: str | None) -> bytes:
    """Decode pyroute2's `02:00:00:00:00:01`; empty for anything else."""
    try:
        return bytes.fromhex((text or "").replace(":", ""))
    except ValueError:
        return b""
