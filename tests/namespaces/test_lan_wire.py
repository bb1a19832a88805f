# SPDX-License-Identifier: Apache-2.0
"""The packet sockets of the LAN watch where the kernel has little memory for their filters."""

import asyncio
from ipaddress import ip_address
from typing import Any

import pytest

from tests.support.veth_pair import (
    PEER_MAC,
    VIP4,
    VIP6,
    Pair,
    until,
)
from xdpdirector.lan.frame_parser import Claim
from xdpdirector.lan.packet_socket import PacketWire
from xdpdirector.lan.request import Inquiry
from xdpdirector.lan.timing import Pace
from xdpdirector.model import Address
from xdpdirector.net.garp import announcement

pytestmark = pytest.mark.root

MANY = 1000  # of each family
STRANGER4, STRANGER6 = ip_address("192.0.2.66"), ip_address("2001:db8::66")
DEBIAN_12, HARDLY_ANY = 20480, 256


def set_memory(pair: Pair, octets: int) -> None:
    try:
        pair.director.sysctl(f"net.core.optmem_max={octets}")
    except AssertionError:
        pytest.skip("this kernel has one optmem_max for all namespaces")


@pytest.mark.parametrize("octets", [DEBIAN_12, HARDLY_ANY], ids=["Debian 12", "hardly any"])
@pytest.mark.parametrize(("vip", "stranger"), [(VIP4, STRANGER4), (VIP6, STRANGER6)], ids=["IPv4", "IPv6"])
def test_claims_are_heard_for_however_many_addresses(
    pair: Pair, octets: int, vip: Address, stranger: Address
) -> None:
    """An exact filter for so many is refused, with ENOMEM."""
    wanted = [vip, *(ip_address("203.0.113.0") + n for n in range(1, MANY))]
    wanted += [ip_address("2001:db8:1::") + n for n in range(1, MANY)]
    heard: list[Any] = []

    async def tell() -> None:
        inquiry = Inquiry(PacketWire(), lambda _interface, claim: heard.append(claim), Pace())
        inquiry.open()
        try:
            inquiry.listen(wanted)
            for address in (stranger, vip):
                await asyncio.to_thread(pair.peer.send, announcement(address, PEER_MAC))
            await until(lambda: heard, "the claim being heard")
        finally:
            inquiry.close()

    set_memory(pair, octets)
    pair.director.run_loop(tell)

    assert [(claim.address, claim.mac) for claim in heard if isinstance(claim, Claim)] == [(vip, PEER_MAC)]
