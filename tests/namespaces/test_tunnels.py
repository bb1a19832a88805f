# SPDX-License-Identifier: Apache-2.0
"""Backends behind a router, reached through tunnels by real clients and real checks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dev.bench.loaded import Programs
from tests.support.far_backends import FAR4, FAR6, move_away, tunnelled
from tests.support.lab_client import answering, await_each
from tests.support.lab_director import CHECK, becomes, command, directing, verdict, view
from tests.support.transfers import large_transfers_arrive_whole
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import SERVICE
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.host import Host
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.lab.waiting import wait_until
from xdpdirector.model import Address, Sizes

pytestmark = pytest.mark.root

VIPS = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
SOURCE = Path(__file__).parents[1] / "support" / "decapsulator.c"
WAYS = {
    "ipip, IPv4": ("ipip", FAR4),
    "ipip, IPv6": ("ipip", FAR6),
    "gue, IPv4": ("gue", FAR4),
    "gue, IPv6": ("gue", FAR6),
}


ATTACH = """
import socket, sys
from xdpdirector import libbpf

fd = libbpf.obj_get(sys.argv[1])
libbpf.xdp_attach(socket.if_nametoindex("eth0"), fd, libbpf.XdpFlags.GENERIC)
"""


@pytest.fixture(scope="module")
def decapsulator() -> Iterator[Path]:
    """Where a program is pinned that takes outer headers off."""
    with Programs(f"decapsulator-{os.getpid()}", Sizes(), SOURCE) as programs:
        yield programs.pin()


def take_headers_off(host: Host, decapsulator: Path) -> None:
    host.python(ATTACH, str(decapsulator))


@pytest.fixture(scope="module")
def lab(lab_factory: Callable[..., Lab], decapsulator: Path) -> Lab:
    lab = lab_factory(backends=2, router=True)
    move_away(lab)
    for host in lab.backends:
        lab.nginx(host.name, big_megabytes=16)
        take_headers_off(host, decapsulator)
    return lab


@pytest.fixture(scope="module", params=WAYS.values(), ids=WAYS)
def director(lab: Lab, request: pytest.FixtureRequest) -> Iterator[LabDirector]:
    with directing(lab, tunnelled(lab, *request.param, CHECK)) as director:
        yield director


@VIPS
def test_backends_behind_a_router_serve(lab: Lab, director: LabDirector, vip: Address) -> None:
    await_each({host.name for host in lab.backends}, lambda: answering(lab.client, vip))


@VIPS
def test_large_transfers_arrive_whole(lab: Lab, director: LabDirector, vip: Address) -> None:
    """The first segments are too long for the tunnel: the client is told, and sends shorter ones."""
    before = verdict(director, "reject_too_big")

    large_transfers_arrive_whole(lab, vip, megabytes=8)

    lab.client.run("ip", "route", "flush", "cache")
    lab.client.run("ip", "-6", "route", "flush", "cache")
    assert verdict(director, "reject_too_big") > before


def test_what_is_shown_names_the_tunnel(lab: Lab, director: LabDirector) -> None:
    shown = view(director, lab.backends[0].name)

    assert shown["tunnel"]["mtu"] == 1500
    gateways = {str(lab.router.node.ipv4), str(lab.router.node.ipv6)}
    assert shown["tunnel"]["gateway"] in gateways
    assert (
        "longest packet" in command(director, "backend", "show", f"{SERVICE}/{lab.backends[0].name}").stdout
    )
    notes = director.client.get("/v1/dataplane")["backends"]
    assert {each["tunnel"] for each in notes} == {shown["effective_forward"]}


@VIPS
def test_a_check_sees_that_the_vip_is_gone(lab: Lab, director: LabDirector, vip: Address) -> None:
    host, bits = lab.backends[0], vip.max_prefixlen
    host.run("ip", "address", "delete", f"{vip}/{bits}", "dev", "lo")
    try:
        becomes(director, host.name, "partial")
        reason = view(director, host.name)["reason"]
        assert "does not take the tunnel's header off" in reason
        assert str(vip) in reason
    finally:
        host.run("ip", "address", "add", f"{vip}/{bits}", "dev", "lo", *(["nodad"] if bits == 128 else []))
    becomes(director, host.name, "up")


def test_a_check_sees_a_server_that_does_not_take_the_header_off(
    lab: Lab, director: LabDirector, decapsulator: Path
) -> None:
    host = lab.backends[1]
    host.run("ip", "link", "set", "eth0", "xdpgeneric", "off")
    try:
        becomes(director, host.name, "down")
    finally:
        take_headers_off(host, decapsulator)
    becomes(director, host.name, "up")


def test_a_backend_without_a_route_is_down_and_returns_with_it(lab: Lab, director: LabDirector) -> None:
    name = lab.backends[0].name
    far = view(director, name)["address"]
    words = ("unreachable", f"{far}/{128 if ':' in far else 32}")
    lab.director_host.run("ip", "route", "add", *words)
    try:
        wait_until(lambda: "no route leads to" in view(director, name)["reason"], "the reason")
    finally:
        lab.director_host.run("ip", "route", "delete", *words)
    becomes(director, name, "up")
