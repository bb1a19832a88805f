# SPDX-License-Identifier: Apache-2.0
"""VIPs and the director's own addresses are announced (gratuitous ARP, unsolicited NA) when they are new."""

import asyncio
import contextlib
import os
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.veth_pair import (
    DIRECTOR4,
    DIRECTOR6,
    DIRECTOR_MAC,
    OTHER_MAC,
    Pair,
    until,
)
from tests.support.vip_network import (
    ETH_P_ALL,
    add,
    both_families,
    make_eth0,
    story,
    vips,
    where,
)
from xdpdirector.errors import DataplaneError
from xdpdirector.model import Address
from xdpdirector.net.garp import announcement
from xdpdirector.net.vips import APART, TIMES

pytestmark = pytest.mark.root


def listen() -> socket.socket:
    """Every frame that arrives on eth0."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(ETH_P_ALL))
    sock.bind(("eth0", ETH_P_ALL))
    return sock


@both_families
def test_new_address_is_announced(pair: Pair, vip: Address) -> None:
    pair.peer.ip("neighbour", "add", str(vip), "lladdr", OTHER_MAC.hex(":"), "dev", "eth0", "nud", "stale")

    async def tell() -> None:
        async with vips() as table:
            await table.ensure({vip})
            await until(
                lambda: DIRECTOR_MAC.hex(":") in pair.peer.ip("neighbour", "show", str(vip)),
                "the peer hearing",
            )

    story(pair.director, tell)


@both_families
def test_announcement_is_sent_three_times_without_blocking(pair: Pair, vip: Address) -> None:
    frame = announcement(vip, DIRECTOR_MAC)
    seen: list[bytes] = []

    async def tell() -> None:
        async with vips() as table:
            start = time.monotonic()
            await table.ensure({vip})
            assert time.monotonic() - start < TIMES * APART

            while seen.count(frame) < TIMES:
                seen.append(await asyncio.wait_for(asyncio.get_running_loop().sock_recv(wire, 2048), 5.0))

    with pair.peer.call(listen) as wire:
        story(pair.director, tell)

    assert seen.count(frame) == TIMES


@both_families
def test_changed_mac_is_announced(pair: Pair, vip: Address) -> None:
    async def tell() -> None:
        async with vips() as table:
            await table.ensure({vip})
            old = DIRECTOR_MAC.hex(":")
            pair.peer.ip("neighbour", "replace", str(vip), "lladdr", old, "dev", "eth0", "nud", "stale")

            pair.director.set_mac(OTHER_MAC)

            await until(
                lambda: OTHER_MAC.hex(":") in pair.peer.ip("neighbour", "show", str(vip)), "the peer hearing"
            )

    story(pair.director, tell)


@contextlib.contextmanager
def without_descriptors() -> Iterator[None]:
    """This process cannot open another file inside the block."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Path(os.devnull).open() as lowest:
        limit = lowest.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@both_families
def test_a_process_without_descriptors_announces(pair: Pair, vip: Address) -> None:
    frame = announcement(vip, DIRECTOR_MAC)

    async def tell() -> None:
        async with vips() as table:
            with without_descriptors():
                await table.ensure({vip})

                while await asyncio.wait_for(asyncio.get_running_loop().sock_recv(wire, 2048), 5.0) != frame:
                    pass

    with pair.peer.call(listen) as wire:
        story(pair.director, tell)


@both_families
@pytest.mark.parametrize("manage", [True, False], ids=["manage", "external"])
def test_a_mac_that_changed_while_nobody_was_there_is_announced(
    pair: Pair, vip: Address, manage: bool
) -> None:
    """Clients and routers send to the old MAC, for as long as their caches live."""
    add(pair.director, vip)
    old = OTHER_MAC.hex(":")
    pair.peer.ip("neighbour", "replace", str(vip), "lladdr", old, "dev", "eth0", "nud", "reachable")

    async def tell() -> None:
        async with vips(manage=manage) as table:
            await table.ensure({vip})

            await until(lambda: believes(pair, vip, DIRECTOR_MAC), "the peer hearing")

    story(pair.director, tell)


def believes(pair: Pair, own: Address, mac: bytes) -> bool:
    """Whether the peer has this MAC for an address of the director's."""
    return mac.hex(":") in pair.peer.ip("neighbour", "show", str(own))


@pytest.mark.parametrize("own", [DIRECTOR4, DIRECTOR6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("manage", [True, False], ids=["manage", "external"])
def test_with_another_mac_the_directors_own_addresses_are_announced(
    pair: Pair, own: Address, manage: bool
) -> None:
    """Backends answer checks to them; one that has the old MAC in its cache answers nobody."""
    old = DIRECTOR_MAC.hex(":")
    pair.peer.ip("neighbour", "replace", str(own), "lladdr", old, "dev", "eth0", "nud", "reachable")

    async def tell() -> None:
        async with vips(manage=manage) as table:
            await table.ensure(set())

            pair.director.set_mac(OTHER_MAC)

            await until(lambda: believes(pair, own, OTHER_MAC), "the peer hearing")

    story(pair.director, tell)


@pytest.mark.parametrize(("own", "length"), [(DIRECTOR4, 24), (DIRECTOR6, 64)], ids=["IPv4", "IPv6"])
def test_an_interface_that_is_made_anew_announces_its_addresses(
    pair: Pair, own: Address, length: int
) -> None:
    async def tell() -> None:
        async with vips() as table:
            await table.ensure(set())
            pair.director.ip("link", "delete", "eth0")
            make_eth0(pair)
            old = DIRECTOR_MAC.hex(":")
            pair.peer.ip("neighbour", "replace", str(own), "lladdr", old, "dev", "eth0", "nud", "reachable")
            pair.director.set_mac(OTHER_MAC)
            pair.director.ip("link", "set", "eth0", "up")

            pair.director.ip("address", "add", f"{own}/{length}", "dev", "eth0")

            await until(lambda: believes(pair, own, OTHER_MAC), "the peer hearing")

    story(pair.director, tell)


@both_families
def test_an_interface_without_the_program_draws_no_packets(pair: Pair, vip: Address) -> None:
    """The host's kernel would answer them with a RST."""
    carrying: set[str] = set()

    async def tell() -> None:
        async with vips(carrying=lambda: carrying) as table:
            with pytest.raises(DataplaneError, match="does not carry the packet program"):
                await table.ensure({vip})
            assert where(pair.director, vip) == ""

            carrying.add("eth0")
            table.look_soon()

            await until(lambda: table.present(vip), "the VIP being there")

    story(pair.director, tell)
