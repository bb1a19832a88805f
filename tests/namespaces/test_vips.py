# SPDX-License-Identifier: Apache-2.0
"""VIPs on a real interface: put there, announced, and only our own taken away."""

import asyncio
import contextlib
import os
import resource
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.support.veth_pair import (
    DIRECTOR4,
    DIRECTOR6,
    DIRECTOR_MAC,
    OTHER_MAC,
    PEER6,
    VIP4,
    VIP6,
    Namespace,
    Pair,
    until,
)
from xdpdirector.errors import DataplaneError
from xdpdirector.model import Address
from xdpdirector.net.garp import announcement
from xdpdirector.net.vips import APART, TIMES, Vips, withdraw

pytestmark = pytest.mark.root

ETH_P_ALL = 0x0003
FAR_VIP = ip_address("203.0.113.10")
SECOND_VIP = ip_address("198.51.100.10")
both_families = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["IPv4", "IPv6"])


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Pair() as pair:
        yield pair


@contextlib.asynccontextmanager
async def vips(
    *names: str,
    manage: bool = True,
    changes: list[Address] | None = None,
    carrying: Callable[[], Collection[str]] | None = None,
    arp_ignore: bool = False,
    memory: Path | None = None,
) -> AsyncIterator[Vips]:
    said = [] if changes is None else changes
    table = Vips(
        names or ["eth0"],
        manage=manage,
        on_change=said.append,
        carrying=carrying,
        arp_ignore=arp_ignore,
        memory=memory,
    )
    await table.start()
    try:
        yield table
    finally:
        await table.close()


def story(namespace: Namespace, tell: Callable[[], Awaitable[None]]) -> None:
    async def told() -> None:
        await tell()

    namespace.run_loop(told)


def listen() -> socket.socket:
    """Every frame that arrives on eth0."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(ETH_P_ALL))
    sock.bind(("eth0", ETH_P_ALL))
    return sock


def where(namespace: Namespace, vip: Address) -> str:
    """What `ip address` prints of it: the interface is the second word."""
    return namespace.ip("-o", "address", "show", "to", f"{vip}/{vip.max_prefixlen}")


def add(namespace: Namespace, vip: Address, interface: str = "eth0") -> None:
    namespace.ip("address", "add", f"{vip}/{vip.max_prefixlen}", "dev", interface)


def delete(namespace: Namespace, vip: Address, interface: str = "eth0") -> None:
    namespace.ip("address", "delete", f"{vip}/{vip.max_prefixlen}", "dev", interface)


@both_families
def test_wanted_address_is_there_and_answers(pair: Pair, vip: Address) -> None:
    async def tell() -> None:
        async with vips() as table:
            assert not table.present(vip)
            await table.ensure({vip})

            assert table.present(vip)
            assert f"{vip}/{vip.max_prefixlen}" in where(pair.director, vip)
            assert "tentative" not in where(pair.director, vip)

    story(pair.director, tell)
    pair.peer.ip("neighbour", "add", str(vip), "dev", "eth0", "nud", "none", "use")

    async def answered() -> None:
        await until(
            lambda: DIRECTOR_MAC.hex(":") in pair.peer.ip("neighbour", "show", str(vip)), "the VIP answering"
        )

    pair.peer.run_loop(answered)


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


def make_eth0(pair: Pair) -> None:
    pair.director.ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", pair.peer.name)
    pair.peer.ip("link", "set", "eth0", "up")


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


@both_families
def test_a_vip_returns_to_the_network_that_has_it(pair: Pair, vip: Address) -> None:
    """An IPv6 VIP on another interface than its own answers nobody."""
    pair.director.ip("link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", pair.peer.name)

    async def tell() -> None:
        async with vips("eth0", "eth1") as table:
            await table.ensure({vip})
            pair.director.ip("link", "delete", "eth0")
            await until(lambda: "eth1" in where(pair.director, vip).split(), "the VIP on what is left")

            make_eth0(pair)
            pair.director.ip("link", "set", "eth0", "up")
            for own in (f"{DIRECTOR4}/24", f"{DIRECTOR6}/64"):
                pair.director.ip("address", "add", own, "dev", "eth0")

            await until(lambda: places(pair.director, vip) == ["eth0"], "the VIP at home")

    story(pair.director, tell)


def places(namespace: Namespace, vip: Address) -> list[str]:
    return [line.split()[1] for line in where(namespace, vip).splitlines()]


@both_families
def test_restart_adopts_its_own_and_removes_what_is_not_wanted(pair: Pair, vip: Address) -> None:
    async def before() -> None:
        async with vips() as table:
            await table.ensure({vip, FAR_VIP})

    async def tell() -> None:
        async with vips() as table:
            assert table.present(vip)
            assert table.present(FAR_VIP)
            await table.ensure({vip})

            assert table.present(vip)
            assert not table.present(FAR_VIP)
            await table.ensure(set())

    story(pair.director, before)
    assert where(pair.director, FAR_VIP)
    story(pair.director, tell)

    assert where(pair.director, vip) == where(pair.director, FAR_VIP) == ""


@both_families
@pytest.mark.parametrize("interface", ["eth0", "lo"])
def test_address_of_someone_else_is_left_alone(pair: Pair, vip: Address, interface: str) -> None:
    add(pair.director, vip, interface)
    before = where(pair.director, vip)

    async def tell() -> None:
        async with vips() as table:
            await table.ensure({vip})
            assert table.present(vip)
            await table.ensure(set())
            assert table.present(vip)

    story(pair.director, tell)

    assert where(pair.director, vip) == before


@both_families
def test_lost_address_is_put_back(pair: Pair, vip: Address) -> None:
    async def tell() -> None:
        async with vips() as table:
            await table.ensure({vip})

            delete(pair.director, vip)
            await until(lambda: where(pair.director, vip), "the VIP being back")

            pair.director.ip("link", "set", "eth0", "down")
            pair.director.ip("link", "set", "eth0", "up")
            await until(lambda: where(pair.director, vip), "the VIP surviving its interface's fall")
            await until(lambda: table.present(vip), "the table knowing it")

    story(pair.director, tell)


@both_families
def test_external_addresses_are_followed_only(pair: Pair, vip: Address) -> None:
    changes: list[Address] = []

    async def tell() -> None:
        async with vips(manage=False, changes=changes) as table:
            await table.ensure({vip})
            assert not table.present(vip)
            assert where(pair.director, vip) == ""

            add(pair.director, vip)
            await until(lambda: changes == [vip] and table.present(vip), "its coming told")

            delete(pair.director, vip)
            await until(lambda: changes == [vip, vip] and not table.present(vip), "its going told")

    story(pair.director, tell)


@pytest.mark.parametrize(
    ("vip", "interface"),
    [
        pytest.param(SECOND_VIP, "eth1", id="the one whose network has it"),
        pytest.param(VIP4, "eth0", id="the first of two"),
        pytest.param(FAR_VIP, "eth0", id="no network has it"),
    ],
)
def test_interface_is_chosen_by_network(pair: Pair, vip: Address, interface: str) -> None:
    pair.director.ip("link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", pair.peer.name)
    pair.director.ip("address", "add", "198.51.100.2/24", "dev", "eth1")

    async def tell() -> None:
        async with vips("eth0", "eth1") as table:
            await table.ensure({vip})

    story(pair.director, tell)

    assert where(pair.director, vip).split()[1] == interface


def test_ipv6_vip_is_never_a_source_address(pair: Pair) -> None:
    """Without care it would be: as a /128 it has more bits in common with any peer than a /64 can have."""

    async def tell() -> None:
        async with vips() as table:
            await table.ensure({VIP6})

    story(pair.director, tell)

    assert f"src {VIP6} " not in pair.director.ip("route", "get", str(PEER6))
    assert "deprecated" in where(pair.director, VIP6)


def test_refused_address_is_named_and_the_others_are_put(pair: Pair) -> None:
    pair.director.sysctl("net.ipv6.conf.eth0.disable_ipv6=1")

    async def tell() -> None:
        async with vips() as table:
            with pytest.raises(DataplaneError, match=f"the VIP {VIP6} cannot be put on eth0: "):
                await table.ensure({VIP4, VIP6})
            assert table.present(VIP4)

    story(pair.director, tell)


def test_vanished_interface_is_named_and_served_again(pair: Pair) -> None:
    async def tell() -> None:
        async with vips() as table:
            await table.ensure({VIP4})

            pair.director.ip("link", "delete", "eth0")
            await until(lambda: not table.present(VIP4), "the VIP being missed")
            with pytest.raises(DataplaneError, match=f"the VIP {VIP4} cannot be put on any of"):
                await table.ensure({VIP4})

            pair.director.ip(
                "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", pair.peer.name
            )
            await until(lambda: table.present(VIP4), "the VIP being back")

    story(pair.director, tell)


# Other interfaces


@pytest.fixture
def second(pair: Pair) -> Pair:
    """Both hosts on a second cable, as with a second card in the same LAN."""
    pair.director.ip("link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", pair.peer.name)
    pair.director.ip("link", "set", "eth1", "address", OTHER_MAC.hex(":"))
    for namespace in (pair.director, pair.peer):
        namespace.ip("link", "set", "eth1", "up")
    pair.peer.ip("address", "add", "192.0.2.121/24", "dev", "eth1")
    pair.peer.sysctl("net.ipv4.neigh.eth1.retrans_time_ms=100")
    return pair


def asks(pair: Pair, vip: Address) -> None:
    """The peer asks for it by its second card, now."""
    pair.peer.ip("neighbour", "replace", str(vip), "dev", "eth1", "nud", "none")
    pair.peer.ip("neighbour", "replace", str(vip), "dev", "eth1", "use")


def heard(pair: Pair, vip: Address) -> str:
    return pair.peer.ip("neighbour", "show", str(vip), "dev", "eth1")


def arp_of(pair: Pair, name: str) -> list[str]:
    settings = (f"net.ipv4.conf.{name}.{setting}" for setting in ("arp_ignore", "arp_announce"))
    return pair.director.run("sysctl", "-n", *settings).split()


@pytest.mark.parametrize("arp_ignore", [True, False])
def test_an_interface_without_the_program_does_not_answer_for_a_vip(second: Pair, arp_ignore: bool) -> None:
    """As Linux would do by itself."""

    async def tell() -> None:
        async with vips(arp_ignore=arp_ignore) as table:
            await table.ensure({VIP4})
            asks(second, VIP4)

            if arp_ignore:
                await until(lambda: "FAILED" in heard(second, VIP4), "nobody answering there")
            else:
                await until(lambda: OTHER_MAC.hex(":") in heard(second, VIP4), "the second card answering")

    story(second.director, tell)


def test_how_other_interfaces_answered_is_restored_with_the_last_vip(second: Pair, tmp_path: Path) -> None:
    """Also by the next daemon, and but for what an operator has set."""
    memory = tmp_path / "arp.json"
    second.director.ip("link", "add", "eth2", "type", "veth", "peer", "name", "end2")
    second.director.sysctl("net.ipv4.conf.eth2.arp_ignore=2")
    before = {name: arp_of(second, name) for name in ("eth0", "eth1", "eth2")}

    async def begin() -> None:
        async with vips(arp_ignore=True, memory=memory) as table:
            await table.ensure({VIP4})
            assert {name: arp_of(second, name) for name in before} == {
                "eth0": before["eth0"],
                "eth1": ["1", "2"],
                "eth2": ["2", "2"],
            }

    async def end() -> None:
        async with vips(arp_ignore=True, memory=memory) as table:
            await table.ensure({VIP4})
            await table.ensure({VIP6})

    story(second.director, begin)
    assert memory.exists()
    story(second.director, end)

    assert {name: arp_of(second, name) for name in before} == before
    assert not memory.exists()


def test_an_interface_that_comes_later_keeps_quiet_too(pair: Pair) -> None:
    async def tell() -> None:
        async with vips(arp_ignore=True) as table:
            await table.ensure({VIP4})
            pair.director.ip("link", "add", "eth1", "type", "veth", "peer", "name", "end1")

            await until(lambda: arp_of(pair, "eth1") == ["1", "2"], "the new interface keeping quiet")

    story(pair.director, tell)


@pytest.mark.parametrize("memory", [True, False])
def test_what_is_withdrawn_without_a_daemon_is_restored_too(
    second: Pair, tmp_path: Path, memory: bool
) -> None:
    path = tmp_path / "arp.json"

    async def tell() -> None:
        async with vips(arp_ignore=True, memory=path) as table:
            await table.ensure({VIP4})

    story(second.director, tell)
    if not memory:
        path.unlink()

    assert second.peer.call(lambda: withdraw(["eth1"], path)) == []  # elsewhere nothing is ours
    assert second.director.call(lambda: withdraw(["eth0"], path)) == [VIP4]

    assert arp_of(second, "eth1") == (["0", "0"] if memory else ["1", "2"])
