# SPDX-License-Identifier: Apache-2.0
"""Listeners come and go one service at a time; VIPs, address filter and listener maps are as if made at once."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from random import Random

import numpy as np
import pytest

import tests.support.world as w
from xdpdirector.dataplane.maps import filter_place, vip_key
from xdpdirector.dataplane.writer import Dataplane
from xdpdirector.model import Listener

MEMBERS = (w.backend("web1"),)
SAME_PLACE = ("2001:db8::10", "2001:db8::7:0:17")
"""Two addresses that have one place in the filter: the same bits differ in two words."""
PORTS = ("80", "443", "8000-8099", "8000-8031", "*")
STEPS, SERVICES = 120, 6


def marks(world: w.World) -> tuple[list[int], set[bytes]]:
    return world.tables.filter.tolist(), world.tables.vips()


def expected(world: w.World, wanted: Mapping[str, tuple[Listener, ...]]) -> tuple[list[int], set[bytes]]:
    """What the filter and the map `vips` hold for these listeners, worked out from nothing."""
    bits = world.tables.enums["mark"]
    words = [0] * len(world.tables.filter)
    listeners = [listener for each in wanted.values() for listener in each]
    for listener in listeners:
        place = filter_place(listener.address)
        for mark in ("MARK_VIP",) if listener.is_exact else ("MARK_VIP", "MARK_RANGES"):
            words[place >> 5] |= bits[mark] << (place & 31) * 2
    return words, {vip_key(listener.address) for listener in listeners}


def owners(world: w.World, plane: Dataplane, wanted: Mapping[str, tuple[Listener, ...]]) -> dict[str, str]:
    """Who has each port of each VIP that some service wants exactly: the narrowest claim, the lowest index."""
    return {
        str(listener): min(
            (other.ports.last - other.ports.first, plane.indices.services[name], name)
            for name, listeners in wanted.items()
            for other in listeners
            if listener.address == other.address and listener == other
        )[2]
        for each in wanted.values()
        for listener in each
        if listener.is_exact
    }


def test_the_two_addresses_have_one_place() -> None:
    assert len({filter_place(ip_address(address)) for address in SAME_PLACE}) == 1


@pytest.mark.parametrize("seed", range(3))
def test_one_at_a_time_is_as_all_at_once(world: w.World, seed: int) -> None:
    random = Random(seed)
    addresses = [*(f"[{each}]" for each in SAME_PLACE), "192.0.2.10", "192.0.2.12"]
    choices = [
        f"{address}:{port}/{protocol}"
        for address in addresses
        for port in PORTS
        for protocol in ("tcp", "udp")
    ]
    wanted: dict[str, tuple[Listener, ...]] = {}

    for _ in range(STEPS):
        name = f"service{random.randrange(SERVICES)}"
        texts = random.sample(choices, random.randrange(4))
        if texts:
            wanted[name] = tuple(map(Listener.parse, texts))
            world.plane.apply(w.service(name=name, listeners=wanted[name], members=MEMBERS), 0.0)
        elif wanted.pop(name, None):
            world.plane.remove(name)
        if random.random() < 0.1:
            world.plane.read_again()
        if random.random() < 0.05:
            world.tables.filter[:] = np.uint64(0)
            world.tables.set_vips(set(), set())
            world.plane.read_again()

        assert marks(world) == expected(world, wanted)
        exact = {
            str(listener): world.tables.listeners()[world.tables.listener_entries(listener)[0]][0]
            for each in wanted.values()
            for listener in each
            if listener.is_exact
        }
        assert exact == {
            text: world.plane.indices.services[owner]
            for text, owner in owners(world, world.plane, wanted).items()
        }


def test_a_new_daemon_takes_no_mark_away_while_it_adopts(world: w.World) -> None:
    """Also not for a moment: it writes nothing that is right already."""
    listeners = tuple(Listener.parse(f"[{address}]:80/tcp") for address in SAME_PLACE)
    world.plane.apply(w.service(listeners=listeners, members=MEMBERS), 0.0)
    before = marks(world)
    world.tables.filter.flags.writeable = False
    try:
        Dataplane(world.tables, world.plane.clock)
    finally:
        world.tables.filter.flags.writeable = True

    assert marks(world) == before
