# SPDX-License-Identifier: Apache-2.0
"""Assigns map indices to services and backends. Stores the assignment as labels in the maps, so that a daemon
that adopts the maps gets the same indices. The cost of a change does not depend on the number of entries.
Knows labels and free indices; not what an index is used for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush

from xdpdirector.dataplane.maps import Tables
from xdpdirector.errors import CapacityError

Backend = tuple[str, str]


class Indices:
    """`services`: name -> index. `backends`: (service, backend) -> index. `places`: by service, name -> place."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._places = tables.fronts.dtype["out"].itemsize * 8
        """Number of distinct places that the backends of one service can have."""
        self.services = {
            label["service"].decode(): index
            for index, label in enumerate(tables.service_labels[:])
            if label["service"]
        }
        self.backends: dict[Backend, int] = {
            (label["service"].decode(), label["backend"].decode()): index
            for index, label in enumerate(tables.backend_labels[:])
            if label["service"]
        }
        taken = set(self.services.values())
        self._free_services = [i for i in range(tables.entries("services")) if i not in taken]
        heapify(self._free_services)
        self.places: dict[str, dict[str, int]] = {}
        self._taken: dict[str, int] = {}
        """By service: bit mask of the places in use."""
        for key, index in self.backends.items():
            self._give_place(key, int(tables.backends["place"][index]))
        self._resting = deque(self._free_backends())
        """Free backend indices, longest unused first."""

    def of_service(self, name: str) -> list[Backend]:
        """The backends of this service that have an index."""
        return [(name, backend) for backend in self.places.get(name, ())]

    def add_service(self, name: str) -> int:
        """The service's index, assigned if it has none. CapacityError when all are taken."""
        if name not in self.services:
            if not self._free_services:
                limit = self._tables.entries("services")
                raise CapacityError(f"there is room for {limit} services: raise sizes.services")
            index = heappop(self._free_services)
            self._tables.service_labels[index : index + 1]["service"] = name.encode()
            self.services[name] = index
        return self.services[name]

    def remove_service(self, name: str) -> None:
        index = self.services.pop(name)
        self._tables.service_labels[index : index + 1]["service"] = b""
        heappush(self._free_services, index)

    def add_backend(self, key: Backend, is_free: Callable[[int], bool]) -> int:
        """The backend's index, assigned if it has none: the free index unused for the longest time.
        `is_free(index)`: nothing in the maps references the index."""
        if key not in self.backends:
            index = self._take_rested(is_free)
            label = self._tables.backend_labels[index : index + 1]
            label["backend"] = key[1].encode()
            label["service"] = key[0].encode()
            self.backends[key] = index
            self._give_place(key, 0)
        return self.backends[key]

    def _take_rested(self, is_free: Callable[[int], bool]) -> int:
        """Skip indices that are still referenced: they go to the end of the queue."""
        for _ in range(len(self._resting)):
            index = self._resting.popleft()
            if is_free(index):
                return index
            self._resting.append(index)
        limit = self._tables.entries("backends")
        raise CapacityError(f"there is room for {limit} backends: raise sizes.backends")

    def remove_backend(self, key: Backend) -> None:
        index = self.backends.pop(key)
        self._take_place(key)
        label = self._tables.backend_labels[index : index + 1]
        label["service"] = b""
        label["backend"] = b""
        self._resting.append(index)

    def _give_place(self, key: Backend, wanted: int) -> None:
        """Assign the wanted place if it is free, else the first free one. While a service changes from many
        backends to many others, some may share a place. That is harmless: backends being removed are never
        out for single VIPs."""
        taken = self._taken.get(key[0], 0)
        if wanted >= self._places or taken >> wanted & 1:
            wanted = min(self._places - 1, (~taken & taken + 1).bit_length() - 1)
        self._taken[key[0]] = taken | 1 << wanted
        self.places.setdefault(key[0], {})[key[1]] = wanted

    def _take_place(self, key: Backend) -> None:
        places = self.places[key[0]]
        place = places.pop(key[1])
        if place < self._places - 1 or place not in places.values():
            self._taken[key[0]] &= ~(1 << place)
        if not places:
            del self.places[key[0]], self._taken[key[0]]

    def _free_backends(self) -> list[int]:
        """Free backend indices: never used ones first. The maps do not record how long the others have been
        free."""
        generations, taken = self._tables.backends["generation"].tolist(), set(self.backends.values())
        return sorted(set(range(len(generations))) - taken, key=lambda index: (generations[index] > 0, index))
