# SPDX-License-Identifier: Apache-2.0
"""Traffic control (tc): redirects packets from the ingress of one interface to the egress of another.

u32 filters with the action `mirred` at the ingress hook of clsact, which packets pass after XDP and before
the IP stack. Knows header bytes, not why packets are redirected.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from socket import htons

from pyroute2.netlink import NLM_F_CREATE, NLM_F_EXCL
from pyroute2.netlink.rtnl import RTM_DELQDISC, RTM_DELTFILTER, RTM_GETTFILTER, RTM_NEWQDISC, RTM_NEWTFILTER
from pyroute2.netlink.rtnl.tcmsg import tcmsg
from pyroute2.netlink.rtnl.tcmsg.common_act import get_tca_action

from xdpdirector.model.listener import Address
from xdpdirector.net.netlink import Message, Requests

ETH_P_ALL, ETH_P_IP, ETH_P_IPV6 = 0x0003, 0x0800, 0x86DD
CLSACT_HANDLE, CLSACT_PARENT = 0xFFFF0000, 0xFFFFFFF1
INGRESS = 0xFFFFFFF2
ICMP, TCP, UDP, ICMPV6, SCTP = 1, 6, 17, 58, 132

Match = tuple[int, bytes, bytes]
"""Offset from the IP header, bytes expected there, mask."""


@dataclass(frozen=True)
class Filter:
    """An existing filter. `to`: index of the target interface, 0 if it was removed."""

    priority: int
    protocol: int
    to: int


def add_hook(requests: Requests, ifindex: int) -> bool:
    """Add the qdisc clsact; False if there was one already."""
    message = _message(ifindex, CLSACT_PARENT)
    message["handle"] = CLSACT_HANDLE
    message["attrs"] = [("TCA_KIND", "clsact")]
    try:
        requests.change(RTM_NEWQDISC, message, NLM_F_CREATE | NLM_F_EXCL)
    except FileExistsError:
        return False
    return True


def remove_hook(requests: Requests, ifindex: int) -> None:
    """Remove the qdisc with all its filters."""
    message = _message(ifindex, CLSACT_PARENT)
    message["handle"] = CLSACT_HANDLE
    requests.change(RTM_DELQDISC, message)


def steer(
    requests: Requests,
    ifindex: int,
    to: int,
    *,
    priority: int,
    protocol: int = ETH_P_ALL,
    matches: Iterable[Match] = (),
) -> None:
    """Redirect packets from the ingress of `ifindex` that match to the egress of `to`. One priority has one
    protocol and any number of filters."""
    message = _message(ifindex, INGRESS, priority, protocol)
    keys = [key for match in matches for key in _keys(match)] or ["0x0/0x0+0"]
    action = {"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": to}
    options = [["TCA_U32_ACT", get_tca_action({"action": [action]})], ["TCA_U32_SEL", {"keys": keys}]]
    message["attrs"] = [("TCA_KIND", "u32"), ("TCA_OPTIONS", {"attrs": options})]
    requests.change(RTM_NEWTFILTER, message, NLM_F_CREATE | NLM_F_EXCL)


def remove(requests: Requests, ifindex: int, priority: int, protocol: int) -> None:
    """Remove all filters of this priority."""
    requests.change(RTM_DELTFILTER, _message(ifindex, INGRESS, priority, protocol))


def filters(requests: Requests, ifindex: int, priorities: range) -> set[Filter]:
    """The redirecting filters of these priorities. A single priority is requested by number, otherwise all
    filters are dumped at once."""
    priority = priorities.start if len(priorities) == 1 else 0
    try:
        found = requests.dump(RTM_GETTFILTER, _message(ifindex, INGRESS, priority))
    except OSError:
        return set()
    return {
        Filter(message["info"] >> 16, htons(message["info"] & 0xFFFF), to)
        for message in found
        if message["info"] >> 16 in priorities
        for to in _targets(message)
    }


def is_unused(requests: Requests, ifindex: int) -> bool:
    """True if the qdisc has no filter in either direction."""
    return not any(
        requests.dump(RTM_GETTFILTER, _message(ifindex, parent)) for parent in (INGRESS, INGRESS + 1)
    )


def replies(vip: Address, own: Address, ports: tuple[int, int]) -> tuple[int, list[list[Match]]]:
    """EtherType and matches for a host's replies from the VIP to the local ports of `own`, given as port
    prefixes (value, mask; the ports' high bytes): TCP, UDP, SCTP, echo replies, and ICMP errors that quote such
    a packet.

    Offsets assume headers without options (RFC 791, 8200, 792, 4443), as replies have them.
    """
    four = vip.version == 4
    addresses: list[Match] = [_equal(12 if four else 8, vip.packed), _equal(16 if four else 24, own.packed)]
    kind_at, above = (9, 20) if four else (6, 40)
    echo_reply, unreachable = (0, 3) if four else (129, 1)
    icmp = ICMP if four else ICMPV6

    def port(offset: int) -> Match:
        return (offset, bytes([ports[0]]), bytes([ports[1]]))

    def of(protocol: int, *more: Match) -> list[Match]:
        return [*addresses, _equal(kind_at, bytes([protocol])), *more]

    quoted = above + 8 + above
    return ETH_P_IP if four else ETH_P_IPV6, [
        of(TCP, port(above + 2)),
        of(UDP, port(above + 2)),
        of(SCTP, port(above + 2)),
        of(icmp, _equal(above, bytes([echo_reply])), port(above + 4)),
        of(icmp, _equal(above, bytes([unreachable])), port(quoted)),
    ]


def _equal(offset: int, octets: bytes) -> Match:
    return offset, octets, b"\xff" * len(octets)


def _keys(match: Match) -> Iterator[str]:
    """pyroute2's format, one byte per key; it joins them."""
    offset, wanted, mask = match
    for place, (octet, bits) in enumerate(zip(wanted, mask, strict=True), offset):
        yield f"{octet & bits:#x}/{bits:#x}+{place}"


def _targets(message: Message) -> Iterator[int]:
    actions = message.get_nested("TCA_OPTIONS", "TCA_U32_ACT", "TCA_ACT_PRIO_1")
    if actions and actions.get_attr("TCA_ACT_KIND") == "mirred":
        yield actions.get_nested("TCA_ACT_OPTIONS", "TCA_MIRRED_PARMS")["ifindex"]


def _message(ifindex: int, parent: int, priority: int = 0, protocol: int = 0) -> Message:
    message = tcmsg()
    message["index"], message["parent"] = ifindex, parent
    message["info"] = priority << 16 | htons(protocol)
    return message
