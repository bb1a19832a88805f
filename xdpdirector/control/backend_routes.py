# SPDX-License-Identifier: Apache-2.0
"""The routes to the backends of the wanted services, followed live, and which services use each.

Knows nothing of checks or of what a route means for a backend's status. Runs on one asyncio loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from xdpdirector.model import Address, BackendSpec, ServiceSpec
from xdpdirector.net.neighbours import NeighbourTable
from xdpdirector.net.next_hop import Route
from xdpdirector.state.edits import Services

MakeNeighbours = Callable[[Callable[[Address], None], bool], NeighbourTable]
"""Of `on_change`, and whether addresses may be behind gateways (`routed`)."""
Way = tuple[Address, bool]
"""An address, and whether it may be behind a gateway because a tunnel leads there."""


class BackendRoutes:
    """`on_news` is called when a route changed, perhaps often: `take_news` returns the services."""

    def __init__(self, neighbours: MakeNeighbours, on_news: Callable[[], None]) -> None:
        self._on_news = on_news
        self._moved: set[Way] = set()
        self._users: dict[Way, set[str]] = {}
        """The services that have a backend at an address that is watched."""
        self._neighbours = {
            routed: neighbours(partial(self._on_neighbour, routed=routed), routed) for routed in (False, True)
        }

    async def start(self) -> None:
        """From now on `get` answers."""
        for table in self._neighbours.values():
            await table.start()

    async def close(self) -> None:
        for table in self._neighbours.values():
            await table.close()

    def follow(self, before: Services, after: Services, changed: Collection[str]) -> None:
        """From now on the backends of `after`, which differs from `before` in the services `changed`."""
        for name in changed:
            if name in after:
                for way in ways_of([after[name]]):
                    self._users.setdefault(way, set()).add(name)
                    self._watch(way)
        for name in changed:
            kept = ways_of([after[name]]) if name in after else set()
            for way in (ways_of([before[name]]) if name in before else set()) - kept:
                self._users[way].discard(name)
                if not self._users[way]:
                    del self._users[way]
                    self._unwatch(way)

    @contextmanager
    def watching(self, ways: Iterable[Way]) -> Iterator[set[Way]]:
        """Inside the block these are followed, too. Yields those that were not followed before."""
        unknown = set(ways) - self._users.keys()
        for way in unknown:
            self._watch(way)
        try:
            yield unknown
        finally:
            for way in unknown - self._users.keys():
                self._unwatch(way)

    def _watch(self, way: Way) -> None:
        self._neighbours[way[1]].watch(way[0])

    def _unwatch(self, way: Way) -> None:
        self._neighbours[way[1]].unwatch(way[0])

    def get(self, address: Address, routed: bool = False) -> Route:
        """The route to an address, also to one that is not followed. `routed`: it may be behind a gateway."""
        return self._neighbours[routed].get(address)

    async def resolve(self, ways: Collection[Way], within: float) -> None:
        """Give the kernel that many seconds to find the MACs for all of these."""
        until = time.monotonic() + within
        while time.monotonic() < until:
            if all(self.get(*way).kind != "unresolved" for way in ways):
                return
            await asyncio.sleep(0.02)

    def faults(self) -> list[str]:
        """A sentence for each thing that is wrong with the director's own network, and keeps backends away."""
        return [fault for table in self._neighbours.values() for fault in table.faults()]

    def take_news(self) -> set[str]:
        """The services of which a route may have changed since this was asked last."""
        moved, self._moved = self._moved, set()
        return set[str]().union(*(self._users.get(way, ()) for way in moved))

    def _on_neighbour(self, address: Address, *, routed: bool) -> None:
        self._moved.add((address, routed))
        self._on_news()


def way_of(spec: ServiceSpec, backend: BackendSpec) -> Way:
    return backend.address, spec.forward_to(backend) != "direct"


def ways_of(services: Iterable[ServiceSpec]) -> set[Way]:
    """Those of all their backends."""
    return {way_of(spec, backend) for spec in services for backend in spec.backends.values()}
