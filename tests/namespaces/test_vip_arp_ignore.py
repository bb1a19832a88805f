# SPDX-License-Identifier: Apache-2.0
"""Other interfaces of the director do not answer ARP for VIPs, and answer as before when the last VIP is gone."""

from pathlib import Path

import pytest

from tests.support.veth_pair import (
    OTHER_MAC,
    VIP4,
    VIP6,
    Pair,
    until,
)
from tests.support.vip_network import story, vips
from xdpdirector.model import Address
from xdpdirector.net.vips import withdraw

pytestmark = pytest.mark.root


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
