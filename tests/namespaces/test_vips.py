# SPDX-License-Identifier: Apache-2.0
"""VIPs on a real interface: put there, announced, and only our own taken away."""

import pytest

from tests.support.veth_pair import (
    DIRECTOR4,
    DIRECTOR6,
    DIRECTOR_MAC,
    PEER6,
    VIP4,
    VIP6,
    Namespace,
    Pair,
    until,
)
from tests.support.vip_network import (
    FAR_VIP,
    SECOND_VIP,
    add,
    both_families,
    delete,
    make_eth0,
    story,
    vips,
    where,
)
from xdpdirector.errors import DataplaneError
from xdpdirector.model import Address

pytestmark = pytest.mark.root


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
