# SPDX-License-Identifier: Apache-2.0
"""Neighbours that are watched inside a namespace, with all they said."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from tests.support.veth_pair import PEER_MAC, Namespace, until
from xdpdirector.model import Address
from xdpdirector.net.neighbours import DEFAULT_GRACE, Neighbours, Route

FRESH = 1.0  # seconds in which a change of the kernel's table must have arrived


class Watch:
    """Neighbours, with everything they said."""

    def __init__(self, grace: float, routed: bool = False) -> None:
        self.changes: list[tuple[Address, Route]] = []
        self.table = Neighbours(self._on_change, grace=grace, routed=routed)

    def _on_change(self, address: Address) -> None:
        self.changes.append((address, self.table.get(address)))

    async def becomes(
        self, address: Address, what: Callable[[Route], object], timeout: float = 10.0
    ) -> float:
        """Waits for the news, not for the state behind it."""

        def told() -> bool:
            return any(each == address and what(route) for each, route in self.changes[-1:])

        return await until(told, f"{address} as wanted (now {self.table.get(address)})", timeout)

    async def resolves(self, address: Address, mac: bytes = PEER_MAC) -> None:
        self.table.watch(address)
        await self.becomes(address, lambda route: route.mac == mac)


@contextlib.asynccontextmanager
async def watching(grace: float = DEFAULT_GRACE, routed: bool = False) -> AsyncIterator[Watch]:
    watch = Watch(grace, routed)
    await watch.table.start()
    try:
        yield watch
    finally:
        await watch.table.close()


def story(
    namespace: Namespace,
    tell: Callable[[Watch], Awaitable[None]],
    grace: float = DEFAULT_GRACE,
    routed: bool = False,
) -> None:
    """Runs `tell` with a started table inside the namespace."""

    async def told() -> None:
        async with watching(grace, routed) as watch:
            await tell(watch)

    namespace.run_loop(told)


def entry(namespace: Namespace, address: Address) -> str:
    return namespace.ip("neighbour", "show", str(address))
