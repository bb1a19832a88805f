# SPDX-License-Identifier: Apache-2.0
"""The checks' own network, when somebody reaches for it or the interface below it changes: no verdict follows."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from tests.support.veth_pair import (
    DIRECTOR_MAC,
    OTHER_MAC,
    PEER4,
    PEER_MAC,
    VIP4,
    VIP6,
    Pair,
)
from xdpdirector.health.check_namespace import WHOLE_FOR
from xdpdirector.health.checks import Target
from xdpdirector.health.checks.dialer import RouteOf
from xdpdirector.health.vip_network import CheckNetwork
from xdpdirector.net import interfaces
from xdpdirector.net.netlink import Requests
from xdpdirector.net.next_hop import Route

pytestmark = pytest.mark.root

PORT = 80


@pytest.fixture(params=[VIP4, VIP6], ids=["IPv4", "IPv6"])
def target(request: pytest.FixtureRequest) -> Target:
    return Target(request.param, PORT, PEER4)


@pytest.fixture
def pair(target: Target) -> Iterator[Pair]:
    """The peer has the VIP and listens there; so has the director."""
    vip = f"{target.address}/{target.address.max_prefixlen}"
    with Pair() as pair:
        pair.peer.sysctl("net.ipv4.conf.all.arp_announce=2")  # as on any backend
        for namespace, device in ((pair.peer, "lo"), (pair.director, "eth0")):
            namespace.sysctl("net.ipv6.conf.lo.disable_ipv6=0")
            namespace.ip("address", "add", vip, "dev", device, *(["nodad"] if ":" in vip else []))
        family = socket.AF_INET if target.address.version == 4 else socket.AF_INET6
        with pair.peer.call(lambda: socket.create_server((str(target.address), PORT), family=family)):
            yield pair


def way(mac: bytes) -> RouteOf:
    found = Route("neighbour", PEER_MAC, mac, socket.if_nametoindex("eth0"), "eth0")
    return lambda _address, _routed: found


async def reaches(network: CheckNetwork, target: Target, timeout: float = 2.0) -> bool:
    loop = asyncio.get_running_loop()
    try:
        with await network.dial(target, socket.SOCK_STREAM) as opened:
            async with asyncio.timeout(timeout):
                await loop.sock_connect(opened, (str(target.address), PORT))
    except OSError:
        return False
    return True


def story(pair: Pair, tell: Callable[[CheckNetwork], Awaitable[None]]) -> None:
    async def told() -> None:
        network = CheckNetwork("cable")
        try:
            await tell(network)
        finally:
            await network.close()

    pair.director.run_loop(told)


def cable(pair: Pair) -> str:
    shown = pair.director.ip("-brief", "link", "show", "type", "veth").split()
    return next(word.split("@")[0] for word in shown if word.startswith("xck"))


def see(network: CheckNetwork) -> None:
    with Requests() as requests:
        network.see(interfaces.everything(requests))


def delete_filters(pair: Pair) -> None:
    pair.director.run("tc", "qdisc", "delete", "dev", "eth0", "clsact")


DAMAGES: dict[str, Callable[[Pair], object]] = {
    "filters": delete_filters,
    "cable": lambda pair: pair.director.ip("link", "delete", cable(pair)),
    "cable down": lambda pair: pair.director.ip("link", "set", cable(pair), "down"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_way_is_no_fault_of_a_backend_and_is_made_anew(
    pair: Pair, target: Target, damage: Callable[[Pair], object]
) -> None:
    async def tell(network: CheckNetwork) -> None:
        route = way(DIRECTOR_MAC)
        await network.prepare(target, route)
        assert await reaches(network, target)
        since = time.monotonic()
        assert network.fault(target, since) == ""
        await asyncio.sleep(WHOLE_FOR)

        damage(pair)
        assert not await reaches(network, target, 0.2)
        assert "veth pair is down" in network.fault(target, since)

        await network.prepare(target, route)
        assert await reaches(network, target)
        assert "made anew meanwhile" in network.fault(target, since)
        assert network.fault(target, time.monotonic()) == ""

    story(pair, tell)


def test_with_another_mac_the_way_is_made_anew_at_once(pair: Pair, target: Target) -> None:
    async def tell(network: CheckNetwork) -> None:
        await network.prepare(target, way(DIRECTOR_MAC))
        see(network)
        assert await reaches(network, target)
        since = time.monotonic()

        pair.director.set_mac(OTHER_MAC)
        see(network)
        assert "made anew meanwhile" in network.fault(target, since)

        await network.prepare(target, way(OTHER_MAC))
        pair.peer.ip("neighbour", "flush", "all")
        assert await reaches(network, target)

    story(pair, tell)
