# SPDX-License-Identifier: Apache-2.0
"""Routes in the checks' network namespace: a socket's mark (SO_MARK) selects the backend that a VIP is routed
to.

Each mark has a rule to its own routing table. There a VIP has a gateway that stands for the backend, with a
permanent neighbour entry for the backend's MAC. Gateway addresses are arbitrary (169.254.0.0/16, fe80::/64):
no frame contains them. Writes only; OSError where the kernel refuses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET, AF_INET6

from pyroute2.netlink import NLM_F_CREATE, NLM_F_REPLACE
from pyroute2.netlink.rtnl import (
    RTM_DELNEIGH,
    RTM_DELROUTE,
    RTM_DELRULE,
    RTM_NEWNEIGH,
    RTM_NEWROUTE,
    RTM_NEWRULE,
)
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from xdpdirector.model import Address
from xdpdirector.net.netlink import Message, Requests
from xdpdirector.net.next_hop import NUD_PERMANENT

PREFERENCE = 1000
FIRST_TABLE = 1000  # Linux and operators use tables below
MARKS = range(1, 1 << 16)
RTN_UNICAST, RT_SCOPE_UNIVERSE, RTPROT_STATIC, RTNH_F_ONLINK = 1, 0, 4, 4
FR_ACT_TO_TBL = 1
# Hop limit 1: a server that lost the VIP and forwards would send the probe back to the director, which would
# pass it to a healthy server.
HOPS = 1
GATEWAYS = {4: IPv4Address("169.254.0.0"), 6: IPv6Address("fe80::")}


@dataclass
class Path:
    """The path to one backend: device, MAC, and MTU if it has one of its own (0: none). `vips` are routed there."""

    mark: int
    device: int
    mac: bytes
    mtu: int = 0
    versions: set[int] = field(default_factory=set)
    vips: set[Address] = field(default_factory=set)


class Paths:
    """`requests`: a netlink socket in the namespace."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    def lead(self, path: Path, vip: Address, source: Address) -> None:
        """Route the VIP to this backend, for sockets with the path's mark."""
        if vip.version not in path.versions:
            self._neighbour(path, vip.version)
            self._requests.change(RTM_NEWRULE, _rule(path, vip.version), NLM_F_CREATE)
            path.versions.add(vip.version)
        self._requests.change(RTM_NEWROUTE, _route(path, vip, source), NLM_F_CREATE | NLM_F_REPLACE)
        path.vips.add(vip)

    def move(self, path: Path, mac: bytes) -> None:
        """Change the backend's MAC."""
        path.mac = mac
        for version in path.versions:
            self._neighbour(path, version)

    def leave(self, path: Path, vip: Address) -> None:
        """Remove the route of a VIP."""
        path.vips.discard(vip)
        self._requests.change(RTM_DELROUTE, _route(path, vip, None))

    def close(self, path: Path) -> None:
        """Remove everything of the backend."""
        for vip in list(path.vips):
            self.leave(path, vip)
        for version in path.versions:
            self._requests.change(RTM_DELRULE, _rule(path, version))
            self._requests.change(RTM_DELNEIGH, _entry(path, version))
        path.versions.clear()

    def come_back(self, device: int) -> None:
        """Add a default route by the device that replies arrive on, so that a reverse path filter accepts
        them (RFC 3704)."""
        message = rtmsg()
        message["family"], message["type"], message["proto"] = AF_INET, RTN_UNICAST, RTPROT_STATIC
        message["scope"] = RT_SCOPE_UNIVERSE
        message["attrs"] = [("RTA_TABLE", 254), ("RTA_OIF", device), ("RTA_PRIORITY", device)]
        self._requests.change(RTM_NEWROUTE, message, NLM_F_CREATE | NLM_F_REPLACE)

    def _neighbour(self, path: Path, version: int) -> None:
        self._requests.change(RTM_NEWNEIGH, _entry(path, version), NLM_F_CREATE | NLM_F_REPLACE)


def _family(version: int) -> int:
    return AF_INET if version == 4 else AF_INET6


def _gateway(path: Path, version: int) -> str:
    return str(GATEWAYS[version] + path.mark)


def _entry(path: Path, version: int) -> Message:
    message = ndmsg()
    message["family"], message["ifindex"], message["state"] = _family(version), path.device, NUD_PERMANENT
    message["attrs"] = [("NDA_DST", _gateway(path, version)), ("NDA_LLADDR", path.mac.hex(":"))]
    return message


def _rule(path: Path, version: int) -> Message:
    message = fibmsg()
    message["family"], message["action"] = _family(version), FR_ACT_TO_TBL
    table = FIRST_TABLE + path.mark
    message["attrs"] = [("FRA_PRIORITY", PREFERENCE), ("FRA_FWMARK", path.mark), ("FRA_TABLE", table)]
    return message


def _route(path: Path, vip: Address, source: Address | None) -> Message:
    message = rtmsg()
    message["family"], message["dst_len"] = _family(vip.version), vip.max_prefixlen
    message["type"], message["proto"], message["scope"] = RTN_UNICAST, RTPROT_STATIC, RT_SCOPE_UNIVERSE
    message["flags"] = RTNH_F_ONLINK
    message["attrs"] = [
        ("RTA_DST", str(vip)),
        ("RTA_TABLE", FIRST_TABLE + path.mark),
        ("RTA_GATEWAY", _gateway(path, vip.version)),
        ("RTA_OIF", path.device),
    ]
    if source is not None:
        metrics = [("RTAX_HOPLIMIT", HOPS), *([("RTAX_MTU", path.mtu)] if path.mtu else ())]
        message["attrs"] += [("RTA_PREFSRC", str(source)), ("RTA_METRICS", {"attrs": metrics})]
    return message
