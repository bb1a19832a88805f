# SPDX-License-Identifier: Apache-2.0
"""Which index a service and a backend have in the maps. The labels in the maps are the memory, so that a daemon
that adopts them knows the indices again. Knows labels and free places; nothing of what an index is used for.
"""

from __future__ import annotations

from collections.abc import Callable

from xdpdirector.errors import CapacityError
from xdpdirector.tables import Tables

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
        self.places: dict[str, dict[str, int]] = {}
        for key, index in self.backends.items():
            self._give_place(key, int(tables.backends["place"][index]))
        self._resting = dict.fromkeys(self._free_backends())
        """The free indices of backends, the one that has rested longest first."""

    def of_service(self, name: str) -> list[Backend]:
        """The backends that have an index in this service."""
        return [key for key in self.backends if key[0] == name]

    def add_service(self, name: str) -> int:
        """The index of a service, a new one if it has none; CapacityError when all are taken."""
        if name not in self.services:
            taken = set(self.services.values())
            limit = self._tables.entries("services")
            index = next((i for i in range(limit) if i not in taken), None)
            if index is None:
                raise CapacityError(f"there is room for {limit} services: raise sizes.services")
            self._tables.service_labels[index]["service"] = name.encode()
            self.services[name] = index
        return self.services[name]

    def remove_service(self, name: str) -> None:
        index = self.services.pop(name)
        self._tables.service_labels[index]["service"] = b""

    def add_backend(self, key: Backend, is_free: Callable[[int], bool]) -> int:
        """The index of a backend; a new one is the free index that has rested longest. `is_free` says whether
        nothing in the maps refers to it any more."""
        if key not in self.backends:
            index = next(filter(is_free, self._resting), None)
            if index is None:
                limit = self._tables.entries("backends")
                raise CapacityError(f"there is room for {limit} backends: raise sizes.backends")
            del self._resting[index]
            label = self._tables.backend_labels[index]
            label["backend"] = key[1].encode()
            label["service"] = key[0].encode()
            self.backends[key] = index
            self._give_place(key, 0)
        return self.backends[key]

    def remove_backend(self, key: Backend) -> None:
        index = self.backends.pop(key)
        del self.places[key[0]][key[1]]
        label = self._tables.backend_labels[index]
        label["service"] = b""
        label["backend"] = b""
        self._resting[index] = None

    def _give_place(self, key: Backend, wanted: int) -> None:
        """The wanted one, if it is free. While a service passes from many backends to many others some may share
        one, which does no harm: nobody who goes is out for some VIPs alone."""
        places = self.places.setdefault(key[0], {})
        taken = set(places.values())
        free = (place for place in (wanted, *range(PLACES)) if place not in taken)
        places[key[1]] = next(free, PLACES - 1)

    def _free_backends(self) -> list[int]:
        """Those that nobody ever had come first. How long the others have rested, the maps do not say."""
        generations, taken = self._tables.backends["generation"].tolist(), set(self.backends.values())
        return sorted(set(range(len(generations))) - taken, key=lambda index: (generations[index] > 0, index))
