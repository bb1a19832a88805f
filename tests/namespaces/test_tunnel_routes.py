# SPDX-License-Identifier: Apache-2.0
"""Routes to the ends of tunnels, over the real kernel: gateways, their MACs, and each change while it is fresh."""

from ipaddress import ip_address

import pytest

from tests.support.veth_pair import (
    DIRECTOR4,
    DIRECTOR6,
    DIRECTOR_MAC,
    FAR4,
    FAR6,
    OTHER_MAC,
    PEER4,
    PEER6,
    PEER_MAC,
    Pair,
)
from tests.support.watched_neighbours import FRESH, Watch, entry, story
from xdpdirector.model import Address
from xdpdirector.net.garp import announcement

pytestmark = pytest.mark.root

GATEWAYS = {FAR4: PEER4, FAR6: PEER6}
SOURCES = {FAR4: DIRECTOR4, FAR6: DIRECTOR6}
SECOND = {FAR4: ip_address("192.0.2.22"), FAR6: ip_address("2001:db8::22")}

both_families = pytest.mark.parametrize("far", [FAR4, FAR6], ids=["IPv4", "IPv6"])


def route(pair: Pair, far: Address, *words: str, verb: str = "replace") -> None:
    pair.director.ip("route", verb, f"{far}/{far.max_prefixlen}", *words)


def lead_by(pair: Pair, far: Address, gateway: Address | None = None, *words: str) -> None:
    route(pair, far, "via", str(gateway or GATEWAYS[far]), *words)


@both_families
def test_the_gateway_is_resolved_and_kept_so_by_the_kernel(pair: Pair, far: Address) -> None:
    lead_by(pair, far)
    gateway = GATEWAYS[far]

    async def tell(watch: Watch) -> None:
        await watch.resolves(far)

        found = watch.table.get(far)
        assert (found.kind, found.mac, found.source_mac) == ("neighbour", PEER_MAC, DIRECTOR_MAC)
        assert (found.gateway, found.source, found.mtu) == (gateway, SOURCES[far], 1500)
        assert "managed" in entry(pair.director, gateway)

    story(pair.director, tell, routed=True)

    assert "managed" not in entry(pair.director, gateway)


@both_families
def test_the_gateways_new_mac_is_news_at_once(pair: Pair, far: Address) -> None:
    lead_by(pair, far)

    async def tell(watch: Watch) -> None:
        await watch.resolves(far)
        pair.peer.set_mac(OTHER_MAC)

        pair.peer.send(announcement(GATEWAYS[far], OTHER_MAC))

        assert await watch.becomes(far, lambda found: found.mac == OTHER_MAC) < FRESH

    story(pair.director, tell, routed=True)


@both_families
def test_changes_of_the_route_are_followed(pair: Pair, far: Address) -> None:
    lead_by(pair, far)
    second = SECOND[far]
    pair.peer.ip("address", "add", f"{second}/{24 if far.version == 4 else 64}", "dev", "eth0", "nodad")

    async def tell(watch: Watch) -> None:
        await watch.resolves(far)

        lead_by(pair, far, second)
        assert await watch.becomes(far, lambda found: found.gateway == second and found.mac == PEER_MAC) < 2

        lead_by(pair, far, second, "mtu", "1400")
        assert await watch.becomes(far, lambda found: found.mtu == 1400) < FRESH

        pair.director.ip("link", "set", "eth0", "mtu", "1450")
        route(pair, far, "dev", "eth0")
        await watch.becomes(far, lambda found: found.gateway is None and found.kind == "unresolved")
        assert f"{far} does not answer" in watch.table.get(far).why

    story(pair.director, tell, grace=0.0, routed=True)


@both_families
def test_without_a_route_it_says_so_and_finds_the_next_one(pair: Pair, far: Address) -> None:
    lead_by(pair, far)

    async def tell(watch: Watch) -> None:
        await watch.resolves(far)

        route(pair, far, verb="delete")
        await watch.becomes(far, lambda found: found.mac is None)
        assert "no route leads to" in watch.table.get(far).why

        lead_by(pair, far)
        await watch.becomes(far, lambda found: found.mac == PEER_MAC)

    story(pair.director, tell, grace=0.0, routed=True)


def test_a_gateway_stays_resolved_as_long_as_one_tunnel_leads_by_it(pair: Pair) -> None:
    other = ip_address("198.51.100.8")
    for far in (FAR4, other):
        route(pair, far, "via", str(PEER4))

    async def tell(watch: Watch) -> None:
        await watch.resolves(FAR4)
        await watch.resolves(other)

        watch.table.unwatch(FAR4)
        assert "managed" in entry(pair.director, PEER4)

        watch.table.unwatch(other)
        assert "managed" not in entry(pair.director, PEER4)

    story(pair.director, tell, routed=True)


def test_direct_routing_does_not_go_by_a_gateway(pair: Pair) -> None:
    lead_by(pair, FAR4)

    async def tell(watch: Watch) -> None:
        watch.table.watch(FAR4)
        await watch.becomes(FAR4, lambda found: found.kind == "off-link")
        assert "forward: ipip" in watch.table.get(FAR4).why

    story(pair.director, tell)
