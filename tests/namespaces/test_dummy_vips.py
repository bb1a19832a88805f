# SPDX-License-Identifier: Apache-2.0
"""VIPs on an interface of their own: there while the director is ready, and gone some time after its daemon."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.veth_pair import VIP4, VIP6, Namespace, Pair, until
from xdpdirector.errors import DataplaneError
from xdpdirector.model import Address
from xdpdirector.net import dummy_vips
from xdpdirector.net.dummy_vips import DummyVips

pytestmark = pytest.mark.root

KIND = "bridge"  # there in each kernel; without ports it carries addresses as a dummy interface does
BOTH = frozenset({VIP4, VIP6})
SOON = 60.0  # seconds: for what takes one or two


@pytest.fixture
def director() -> Iterator[Namespace]:
    with Pair() as pair:
        yield pair.director


class Readiness:
    """What a test says."""

    def __init__(self, ready: bool) -> None:
        self.ready = ready

    def __call__(self) -> bool:
        return self.ready


@contextlib.asynccontextmanager
async def vips(
    readiness: Readiness, *, kind: str = KIND, changes: list[Address] | None = None, arp_ignore: bool = False
) -> AsyncIterator[DummyVips]:
    said = [] if changes is None else changes
    table = DummyVips("vips", kind, is_ready=readiness, on_change=said.append, arp_ignore=arp_ignore)
    await table.start()
    try:
        yield table
    finally:
        await table.close()


def standing(namespace: Namespace) -> frozenset[Address]:
    shown = namespace.ip("address", "show", "dev", "vips")
    return frozenset(vip for vip in BOTH if f" {vip}/{vip.max_prefixlen} " in shown)


def validities(namespace: Namespace) -> list[int]:
    """Seconds for which the VIPs still stand."""
    shown = namespace.ip("address", "show", "dev", "vips")
    return [int(text) for text in re.findall(r"valid_lft (\d+)sec", shown)]


def test_vips_stand_while_the_director_is_ready(director: Namespace) -> None:
    async def story() -> None:
        readiness, changes = Readiness(False), []
        async with vips(readiness, changes=changes) as table:
            await table.ensure(BOTH)
            assert standing(director) == frozenset()
            readiness.ready = True
            await until(
                lambda: table.present(VIP4) and table.present(VIP6),
                "table.present(VIP4) and table.present(VIP6)",
                SOON,
            )
            assert standing(director) == BOTH
            readiness.ready = False
            await until(
                lambda: not table.present(VIP4) and not table.present(VIP6),
                "not table.present(VIP4) and not table.present(VIP6)",
                SOON,
            )
            assert standing(director) == frozenset()
            readiness.ready = True
            await until(lambda: standing(director) == BOTH, "standing(director) == BOTH", SOON)
            await table.ensure([VIP4])
            assert standing(director) == {VIP4}
            assert set(changes) == BOTH

    director.run_loop(story)


def test_they_go_with_the_daemon_and_not_with_its_restart(
    director: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with vips(Readiness(True)) as table:
            await table.ensure(BOTH)
            await until(lambda: standing(director) == BOTH, "standing(director) == BOTH", SOON)
        assert standing(director) == BOTH
        async with vips(Readiness(False)) as table:
            await table.ensure(BOTH)
            assert standing(director) == BOTH
        monkeypatch.setattr(dummy_vips, "VALID", 1)
        monkeypatch.setattr(dummy_vips, "EXTENDED_APART", 0.0)
        async with vips(Readiness(True)) as table:
            await table.ensure(BOTH)
            await until(lambda: max(validities(director)) <= 1, "max(validities(director)) <= 1", SOON)
        await until(lambda: not standing(director), "not standing(director)", SOON)

    director.run_loop(story)


def test_what_somebody_else_has_put_there_stays(director: Namespace) -> None:
    director.ip("link", "add", "vips", "type", KIND)
    director.ip("address", "add", f"{VIP4}/32", "dev", "vips")

    async def story() -> None:
        readiness = Readiness(True)
        async with vips(readiness) as table:
            await table.ensure(BOTH)
            await until(lambda: standing(director) == BOTH, "standing(director) == BOTH", SOON)
            readiness.ready = False
            await until(lambda: standing(director) == {VIP4}, "standing(director) == {VIP4}", SOON)

    director.run_loop(story)


def test_an_interface_that_went_is_made_again(director: Namespace) -> None:
    async def story() -> None:
        async with vips(Readiness(True)) as table:
            await table.ensure(BOTH)
            await until(lambda: standing(director) == BOTH, "standing(director) == BOTH", SOON)
            director.ip("link", "del", "vips")
            await until(lambda: not table.present(VIP4), "not table.present(VIP4)", SOON)
            await table.ensure(BOTH)
            await until(lambda: standing(director) == BOTH, "standing(director) == BOTH", SOON)

    director.run_loop(story)


def test_a_kernel_without_such_interfaces_says_so(director: Namespace) -> None:
    async def story() -> None:
        async with vips(Readiness(True), kind="nosuchkind") as table:
            with pytest.raises(
                DataplaneError, match=r"has no nosuchkind interfaces .*Make one of another kind"
            ):
                await table.ensure(BOTH)

    director.run_loop(story)


def test_no_interface_answers_arp_for_them(director: Namespace) -> None:
    """Several directors of one LAN have them at once."""

    def ignores() -> str:
        return director.run("sysctl", "-n", "net.ipv4.conf.eth0.arp_ignore").strip()

    async def story() -> None:
        async with vips(Readiness(True), arp_ignore=True) as table:
            await table.ensure(BOTH)
            assert ignores() == "1"
            await table.ensure([VIP6])
            table.look_soon()
            await until(lambda: ignores() == "0", "ignores() == 0", SOON)

    director.run_loop(story)


def test_an_address_that_the_kernel_refuses_is_named(director: Namespace) -> None:
    async def story() -> None:
        async with vips(Readiness(True)) as table:
            await table.ensure([VIP4])
            director.sysctl("net.ipv6.conf.vips.disable_ipv6=1")
            await table.ensure(BOTH)
            await until(lambda: table.notes(), "table.notes()", SOON)
            assert table.notes()[0].startswith(f"the VIP {VIP6} cannot be put on vips: ")
            assert standing(director) == {VIP4}

    director.run_loop(story)
