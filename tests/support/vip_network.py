# SPDX-License-Identifier: Apache-2.0
"""VIPs on a pair of network namespaces, for tests of what the kernel then has and answers."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.support.veth_pair import (
    VIP4,
    VIP6,
    Namespace,
    Pair,
)
from xdpdirector.model import Address
from xdpdirector.net.vips import Vips

FAR_VIP = ip_address("203.0.113.10")
SECOND_VIP = ip_address("198.51.100.10")


both_families = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["IPv4", "IPv6"])


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


def where(namespace: Namespace, vip: Address) -> str:
    """What `ip address` prints of it: the interface is the second word."""
    return namespace.ip("-o", "address", "show", "to", f"{vip}/{vip.max_prefixlen}")


def add(namespace: Namespace, vip: Address, interface: str = "eth0") -> None:
    namespace.ip("address", "add", f"{vip}/{vip.max_prefixlen}", "dev", interface)


def delete(namespace: Namespace, vip: Address, interface: str = "eth0") -> None:
    namespace.ip("address", "delete", f"{vip}/{vip.max_prefixlen}", "dev", interface)


def make_eth0(pair: Pair) -> None:
    pair.director.ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", pair.peer.name)
    pair.peer.ip("link", "set", "eth0", "up")


ETH_P_ALL = 0x0003
