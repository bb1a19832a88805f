# SPDX-License-Identifier: Apache-2.0
"""Backends in other networks: what is planned, followed, refused, shown and explained of them."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

import tests.support.stage as s
from tests.support.stage import FAR, Stage, story
from xdpdirector.errors import InvalidRequestError
from xdpdirector.model import BackendSpec
from xdpdirector.model.status import TunnelView
from xdpdirector.net.next_hop import Route
from xdpdirector.net.tunnel import Tunnel
from xdpdirector.state.change_request import Intent

ME = Intent("operator")
GATEWAY, OWN = ip_address("192.0.2.1"), ip_address("192.0.2.2")
GATEWAY_MAC, OWN_MAC = bytes.fromhex("0200000000fe"), bytes.fromhex("020000000001")
BY_GATEWAY = Route("neighbour", GATEWAY_MAC, OWN_MAC, 2, "eth0", gateway=GATEWAY, source=OWN, mtu=1500)
NOWHERE = Route("off-link", why=f"no route leads to {FAR}", fault=f"no route leads to {FAR}")
KEY = ("web", "far")


def stage(route: Route = BY_GATEWAY, **options: Any) -> Stage:
    """`web` has a backend in another network, and there is `route` to it."""
    fields = {"forward": "ipip", "backends": {"far": {"address": str(FAR)}}} | options
    made = Stage(web=s.service(**fields))
    made.routed.put(FAR, route)
    return made


@story
async def test_its_packets_go_through_a_tunnel_by_the_gateway() -> None:
    async with stage() as made:
        member = made.member(KEY)

        assert member.tunnel == Tunnel("ipip", OWN, FAR, 1500)
        assert member.hop
        assert (member.hop.mac, member.hop.source_mac) == (GATEWAY_MAC, OWN_MAC)
        assert member.accepts
        assert made.routed.watched == {FAR}
        assert made.neighbours.watched == set()


@story
async def test_an_address_may_be_a_direct_backend_and_the_end_of_a_tunnel() -> None:
    near = s.HOSTS["web1"]
    async with Stage(
        direct=s.service("web1"),
        web=s.service(listener=f"{s.VIP}:25/tcp", forward="gue", backends={"far": {"address": str(near)}}),
    ) as made:
        made.routed.put(near, BY_GATEWAY)
        await made.reconciler.upkeep()

        assert made.member(("direct", "web1")).tunnel is None
        assert made.member(KEY).tunnel == Tunnel("gue", OWN, near, 1500, 6080)


@story
async def test_a_route_that_changes_is_followed_and_one_that_is_lost_is_a_reason() -> None:
    async with stage() as made:
        moved = Route("neighbour", OWN_MAC, OWN_MAC, 3, "eth1", source=GATEWAY, mtu=1400)
        made.routed.put(FAR, moved)
        await made.reconciler.upkeep()
        assert made.member(KEY).tunnel == Tunnel("ipip", GATEWAY, FAR, 1400)

        made.routed.put(FAR, Route("unresolved", ifindex=2, interface="eth0", why="the gateway is silent"))
        await made.reconciler.upkeep()
        assert made.member(KEY).hop is None
        assert made.reconciler.backend_status(KEY).why == "the gateway is silent"


@story
async def test_direct_routing_to_another_network_is_refused_and_a_tunnel_is_not() -> None:
    async with Stage(web=s.service("web1")) as made:
        made.routed.put(FAR, BY_GATEWAY)
        with pytest.raises(InvalidRequestError, match="behind the gateway"):
            await made.director.create_backend("web", "far", BackendSpec(address=FAR), intent=ME)

        await made.director.create_backend("web", "far", BackendSpec(address=FAR, forward="ipip"), intent=ME)
        assert made.member(KEY).tunnel

        with pytest.raises(InvalidRequestError, match="behind the gateway"):
            await made.director.patch_backend("web", "far", {"forward": "direct"}, intent=ME)


@story
async def test_a_tunnel_to_where_no_route_leads_is_refused() -> None:
    async with Stage(web=s.service("web1")) as made:
        made.routed.put(FAR, NOWHERE)

        with pytest.raises(InvalidRequestError, match="no route leads to"):
            await made.director.create_backend(
                "web", "far", BackendSpec(address=FAR, forward="gue"), intent=ME
            )


@story
async def test_the_tunnel_is_shown() -> None:
    async with stage() as made:
        view = made.director.backend("web", "far")

        assert (view.effective_forward, view.mac, view.interface) == ("ipip", GATEWAY_MAC.hex(":"), "eth0")
        assert view.tunnel == TunnelView(source=OWN, gateway=GATEWAY, mtu=1500, longest=1480)


@story
async def test_who_is_no_longer_behind_a_tunnel_is_followed_no_more() -> None:
    async with stage() as made:
        await made.director.delete_service("web", intent=ME)

        assert made.routed.watched == set()
