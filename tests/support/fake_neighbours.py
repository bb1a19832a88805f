# SPDX-License-Identifier: Apache-2.0
"""Neighbours whose ways a test says."""

from __future__ import annotations

from xdpdirector.model import Address
from xdpdirector.net.neighbours import (
    OnChange,
)
from xdpdirector.net.next_hop import (
    Route,
)


class FakeNeighbours:
    """A table that learns what a test tells it; `on_change` is called at once, for watched addresses only."""

    def __init__(self, on_change: OnChange) -> None:
        self.watched: set[Address] = set()
        self._on_change = on_change
        self._routes: dict[Address, Route] = {}

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    def faults(self) -> list[str]:
        return sorted({self.get(address).fault for address in self.watched} - {""})

    def watch(self, address: Address) -> None:
        if address not in self.watched:
            self.watched.add(address)
            self._on_change(address)

    def unwatch(self, address: Address) -> None:
        self.watched.discard(address)

    def get(self, address: Address) -> Route:
        return self._routes.get(address) or Route(
            "unresolved", ifindex=2, interface="eth0", why=f"{address} does not answer on eth0"
        )

    def learn(
        self,
        address: Address,
        mac: bytes,
        *,
        source_mac: bytes = bytes.fromhex("020000000001"),
        ifindex: int = 2,
        interface: str = "eth0",
    ) -> None:
        self.put(address, Route("neighbour", mac, source_mac, ifindex, interface))

    def put(self, address: Address, route: Route) -> None:
        """Any route: local, off-link."""
        changed = self.get(address) != route
        self._routes[address] = route
        if changed and address in self.watched:
            self._on_change(address)

    def forget(self, address: Address) -> None:
        """It does not answer any more."""
        before = self.get(address)
        self._routes.pop(address, None)
        if self.get(address) != before and address in self.watched:
            self._on_change(address)
