# SPDX-License-Identifier: Apache-2.0
"""Requests are what pyroute2 makes of them, and answers that pyroute2 wrote are read as it reads them."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from xdpdirector.model.listener import Address
from xdpdirector.net.next_hop import Hop, Neighbour
from xdpdirector.net.rtnetlink_messages import (
    hop_of,
    neighbour_of,
    neighbour_request,
    route_request,
    use_request,
)

HEADER = 16  # bytes of a netlink message
FOUR, SIX = ip_address("192.0.2.21"), ip_address("2001:db8::21")
FAMILIES = {4: 2, 6: 10}
both = pytest.mark.parametrize("address", [FOUR, SIX], ids=["IPv4", "IPv6"])


def encoded(message: Any, attributes: list[tuple[str, Any]], **fields: int) -> bytes:
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = attributes
    message.encode()
    return bytes(message.data[HEADER : message["header"]["length"]])


@both
def test_requests(address: Address) -> None:
    family, to = FAMILIES[address.version], ("NDA_DST", str(address))

    assert route_request(address) == encoded(
        rtmsg(), [("RTA_DST", str(address))], family=family, dst_len=address.max_prefixlen
    )
    assert neighbour_request(address, 7) == encoded(ndmsg(), [to], family=family, ifindex=7)
    assert use_request(address, 7) == encoded(ndmsg(), [to], family=family, ifindex=7, flags=1)
    managed = [to, ("NDA_FLAGS_EXT", 1), ("NDA_PROTOCOL", 0xD1)]
    assert use_request(address, 7, 0xD1) == encoded(ndmsg(), managed, family=family, ifindex=7, flags=1)


@both
def test_routes(address: Address) -> None:
    family, there = FAMILIES[address.version], [("RTA_DST", str(address)), ("RTA_OIF", 7)]

    assert hop_of(encoded(rtmsg(), there, family=family, type=1)) == Hop(1, 7)
    behind = [*there, ("RTA_GATEWAY", str(address))]
    assert hop_of(encoded(rtmsg(), behind, family=family, type=1)) == Hop(1, 7, str(address))
    assert hop_of(encoded(rtmsg(), [], family=family, type=7)) == Hop(7, 0)


def test_an_ipv4_route_by_an_ipv6_gateway() -> None:
    via = [("RTA_OIF", 7), ("RTA_VIA", {"family": 10, "addr": str(SIX)})]

    assert hop_of(encoded(rtmsg(), via, family=2, type=1)) == Hop(1, 7, str(SIX))


@both
def test_neighbours(address: Address) -> None:
    family, to = FAMILIES[address.version], ("NDA_DST", str(address))
    mac = ("NDA_LLADDR", "02:00:00:00:00:21")

    assert neighbour_of(encoded(ndmsg(), [to], family=family, ifindex=7, state=1)) == Neighbour(1)
    found = encoded(ndmsg(), [to, mac, ("NDA_FLAGS_EXT", 1)], family=family, ifindex=7, state=2)
    assert neighbour_of(found) == Neighbour(2, bytes.fromhex("020000000021"), managed=True)
