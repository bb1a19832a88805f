# SPDX-License-Identifier: Apache-2.0
"""Neighbours when something interferes: entries deleted or set by hand, floods, vanished interfaces, kills."""

import asyncio
import subprocess
import sys
from ipaddress import IPv4Address

import pytest

from tests.support.veth_pair import (
    ABSENT4,
    DIRECTOR_MAC,
    OTHER_MAC,
    PEER4,
    PEER6,
    PEER_MAC,
    Pair,
    until,
)
from tests.support.watched_neighbours import FRESH, Watch, entry, story
from xdpdirector.model import Address
from xdpdirector.net.interfaces import Interface
from xdpdirector.net.neighbour_requests import Neighbourhood, Room, rooms
from xdpdirector.net.neighbours import Neighbours
from xdpdirector.net.netlink import Requests
from xdpdirector.net.next_hop import Neighbour

pytestmark = pytest.mark.root

both_families = pytest.mark.parametrize("peer", [PEER4, PEER6], ids=["IPv4", "IPv6"])

WATCHER = """
import asyncio, ipaddress, sys
from xdpdirector.net.neighbours import Neighbours

async def main():
    table = Neighbours(lambda address: print("resolved", flush=True) if table.get(address).mac else None)
    await table.start()
    table.watch(ipaddress.ip_address(sys.argv[1]))
    await asyncio.sleep(60)

asyncio.run(main())
"""


@both_families
def test_deleted_entry_is_resolved_again_without_a_gap(pair: Pair, peer: Address) -> None:
    async def tell(watch: Watch) -> None:
        await watch.resolves(peer)
        seen = len(watch.changes)

        pair.director.ip("neighbour", "delete", str(peer), "dev", "eth0")
        await until(lambda: "managed" in entry(pair.director, peer), "the kernel keeping it again", FRESH)
        await until(lambda: PEER_MAC.hex(":") in entry(pair.director, peer), "the MAC being known again")

        assert watch.changes[seen:] == []

    story(pair.director, tell)


def test_deleted_entry_of_a_silent_neighbour_is_soon_unresolved(pair: Pair) -> None:
    async def tell(watch: Watch) -> None:
        await watch.resolves(PEER4)
        pair.peer.ip("address", "delete", f"{PEER4}/24", "dev", "eth0")

        pair.director.ip("neighbour", "delete", str(PEER4), "dev", "eth0")

        assert await watch.becomes(PEER4, lambda route: route.kind == "unresolved") < FRESH

    story(pair.director, tell)


def test_entry_set_by_hand_is_used_and_left_alone(pair: Pair) -> None:
    by_hand = (
        "neighbour",
        "add",
        str(ABSENT4),
        "lladdr",
        OTHER_MAC.hex(":"),
        "dev",
        "eth0",
        "nud",
        "permanent",
    )
    pair.director.ip(*by_hand)
    before = entry(pair.director, ABSENT4)

    async def tell(watch: Watch) -> None:
        await watch.resolves(ABSENT4, OTHER_MAC)

    story(pair.director, tell)

    assert entry(pair.director, ABSENT4) == before


def test_overflow_is_survived_by_reading_all(pair: Pair) -> None:
    addresses = [IPv4Address(f"192.0.2.{number}") for number in range(100, 250)]
    flood = "\n".join(
        f"neighbour replace {address} lladdr 02:00:00:00:{turn:02x}:{address.packed[-1]:02x} dev eth0 nud permanent"
        for turn in range(40)
        for address in addresses
    )

    async def tell(watch: Watch) -> None:
        for address in addresses:
            watch.table.watch(address)
        # The loop stands still meanwhile, so nobody empties the socket.
        subprocess.run(["ip", "-n", pair.director.name, "-batch", "-"], input=flood, text=True, check=True)
        await until(lambda: watch.table.overflows, "an overflow")

        for address in addresses:
            mac = bytes((2, 0, 0, 0, 39, address.packed[-1]))
            await until(
                lambda a=address, m=mac: watch.table.get(a).mac == m, f"the last MAC of {address}", 2.0
            )
        await watch.resolves(PEER4)

    story(pair.director, tell)


def test_vanished_interface_leaves_a_quiet_loop(pair: Pair) -> None:
    async def tell(watch: Watch) -> None:
        await watch.resolves(PEER4)

        pair.director.ip("link", "delete", "eth0")
        await watch.becomes(PEER4, lambda route: route.kind == "unresolved")
        assert watch.table.get(PEER4).fault == "interface eth0 does not exist any more"

        seen = len(watch.changes)
        await asyncio.sleep(1.5)  # longer than one turn of the upkeep
        assert len(watch.changes) == seen

    story(pair.director, tell)


def test_leftovers_of_a_killed_process_are_released(pair: Pair) -> None:
    command = [
        "nsenter",
        f"--net=/var/run/netns/{pair.director.name}",
        sys.executable,
        "-c",
        WATCHER,
        str(PEER4),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "resolved\n"
        process.kill()
    assert "managed" in entry(pair.director, PEER4)

    async def tell(watch: Watch) -> None:
        assert "managed" not in entry(pair.director, PEER4)
        await watch.resolves(PEER4)

    story(pair.director, tell)


class WithoutRoom(Neighbourhood):
    """As the kernel is when its table is full (net/core/neighbour.c: ENOBUFS): there is no entry, and none is made.
    A table that is really full would starve the whole machine."""

    full = True

    def neighbour(self, address: Address, ifindex: int) -> Neighbour | None:
        return None if self.full else super().neighbour(address, ifindex)

    def ask(self, address: Address, ifindex: int) -> bool:
        return not self.full and super().ask(address, ifindex)


@both_families
def test_a_full_table_of_the_kernels_is_named_and_no_verdict_on_anybody(pair: Pair, peer: Address) -> None:
    kernels: list[WithoutRoom] = []

    def full(requests: Requests) -> Neighbourhood:
        kernels.append(WithoutRoom(requests))
        return kernels[0]

    async def told() -> None:
        table = Neighbours(lambda address: None, neighbourhood=full)
        await table.start()
        try:
            table.watch(peer)
            await until(lambda: "neighbour table is full" in table.get(peer).fault, "the reason")
            assert f"net.ipv{peer.version}.neigh.default.gc_thresh3" in table.get(peer).why
            [sentence] = table.faults()
            assert str(peer) in sentence

            kernels[0].full = False
            await until(lambda: table.get(peer).mac == PEER_MAC, "the MAC, when there is room")
            assert table.get(peer).fault == ""
            assert table.faults() == []
        finally:
            await table.close()

    pair.director.run_loop(told)


def test_the_room_for_neighbours_is_known_inside_a_namespace_too(pair: Pair) -> None:
    """There is no sysctl for it there."""

    def found() -> dict[int, Room]:
        with Requests() as requests:
            return rooms(requests)

    tables = pair.director.call(found)

    assert set(tables) == {4, 6}
    assert all(room.entries >= 0 and room.most > 1 for room in tables.values())


class ReadOnce(Neighbourhood):
    """All interfaces are read at the start, and not again."""

    read = False

    def links(self) -> dict[int, Interface]:
        if self.read:
            raise OSError("the interfaces are not read again")
        self.read = True
        return super().links()


def test_another_mac_of_this_host_is_told_before_all_is_read_again(pair: Pair) -> None:
    told: list[bytes] = []

    async def follow() -> None:
        table = Neighbours(
            lambda address: None,
            lambda links: told.extend(link.mac for link in links if link.name == "eth0"),
            neighbourhood=ReadOnce,
        )
        await table.start()
        try:
            for mac in (OTHER_MAC, DIRECTOR_MAC):
                pair.director.set_mac(mac)
                await until(lambda mac=mac: told[-1] == mac, "the MAC")
        finally:
            await table.close()

    pair.director.run_loop(follow)

    assert told == [DIRECTOR_MAC, OTHER_MAC, DIRECTOR_MAC]
