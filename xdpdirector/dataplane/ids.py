# SPDX-License-Identifier: Apache-2.0
"""Which index a service and a backend have in the maps. The labels in the maps are the memory, so that a daemon
that adopts them knows the indices again. What a change costs does not grow with the number of others. Knows labels
and free places; nothing of what an index is used for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush

from xdpdirector.dataplane.maps import Tables
from xdpdirector.errors import CapacityError

Backend = tuple[str, str]
PLACES = 256
"""Numbers that a service's backends have among themselves."""


class Indices:
    """`services`: name -> index. `backends`: (service, backend) -> index. `places`: by service, name -> place."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self.services = {
            label["service"].decode(): index
            for index, label in enumerate(tables.service_labels)
            if label["service"]
        }
        self.backends: dict[Backend, int] = {
            (label["service"].decode(), label["backend"].decode()): index
            for index, label in enumerate(tables.backend_labels)
            if label["service"]
        }
        taken = set(self.services.values())
        self._free_services = [i for i in range(tables.entries("services")) if i not in taken]
        heapify(self._free_services)
        self.places: dict[str, dict[str, int]] = {}
        self._taken: dict[str, int] = {}
        """By service: a bit for each place that a backend has."""
        for key, index in self.backends.items():
            self._give_place(key, int(tables.backends["place"][index]))
        self._resting = deque(self._free_backends())
        """The free indices of backends, the one that has rested longest first."""

    def of_service(self, name: str) -> list[Backend]:
        """The backends that have an index in this service."""
        return [(name, backend) for backend in self.places.get(name, ())]

    def add_service(self, name: str) -> int:
        """The index of a service, a new one if it has none; CapacityError when all are taken."""
        if name not in self.services:
            if not self._free_services:
                limit = self._tables.entries("services")
                raise CapacityError(f"there is room for {limit} services: raise sizes.services")
            index = heappop(self._free_services)
            self._tables.service_labels[index]["service"] = name.encode()
            self.services[name] = index
        return self.services[name]

    def remove_service(self, name: str) -> None:
        index = self.services.pop(name)
        self._tables.service_labels[index]["service"] = b""
        heappush(self._free_services, index)

    def add_backend(self, key: Backend, is_free: Callable[[int], bool]) -> int:
        """The index of a backend; a new one is the free index that has rested longest. `is_free` says whether
        nothing in the maps refers to it any more."""
        if key not in self.backends:
            index = self._take_rested(is_free)
            label = self._tables.backend_labels[index]
            label["backend"] = key[1].encode()
            label["service"] = key[0].encode()
            self.backends[key] = index
            self._give_place(key, 0)
        return self.backends[key]

    def _take_rested(self, is_free: Callable[[int], bool]) -> int:
        """One that something refers to does not rest yet: it goes to the end."""
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
        label = self._tables.backend_labels[index]
        label["service"] = b""
        label["backend"] = b""
        self._resting.append(index)

    def _give_place(self, key: Backend, wanted: int) -> None:
        """The wanted one, if it is free, else the first that is. While a service passes from many backends to many
        others some may share one, which does no harm: nobody who goes is out for some VIPs alone."""
        taken = self._taken.get(key[0], 0)
        if taken >> wanted & 1:
            wanted = min(PLACES - 1, (~taken & taken + 1).bit_length() - 1)
        self._taken[key[0]] = taken | 1 << wanted
        self.places.setdefault(key[0], {})[key[1]] = wanted

    def _take_place(self, key: Backend) -> None:
        places = self.places[key[0]]
        place = places.pop(key[1])
        if place < PLACES - 1 or place not in places.values():
            self._taken[key[0]] &= ~(1 << place)
        if not places:
            del self.places[key[0]], self._taken[key[0]]

    def _free_backends(self) -> list[int]:
        """Those that nobody ever had come first. How long the others have rested, the maps do not say."""
        generations, taken = self._tables.backends["generation"].tolist(), set(self.backends.values())
        return sorted(set(range(len(generations))) - taken, key=lambda index: (generations[index] > 0, index))
