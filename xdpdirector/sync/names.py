# SPDX-License-Identifier: Apache-2.0
"""What the numbers in records mean, for the peer: service, VIP and protocol; service and backend.

Read from the maps, whose labels are the memory of both. Knows no records.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xdpdirector.dataplane.maps import Array, Tables, address_of

NOBODY = 0xFFFF

FrontName = tuple[str, str, int]
"""Service, VIP, protocol number."""
BackendName = tuple[str, str]
"""Service, backend."""


@dataclass(frozen=True)
class Names:
    """Of one director: number -> name."""

    fronts: dict[int, FrontName] = field(default_factory=dict)
    backends: dict[int, BackendName] = field(default_factory=dict)
    services: dict[int, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        return {
            "fronts": [[number, *name] for number, name in self.fronts.items()],
            "backends": [[number, *name] for number, name in self.backends.items()],
            "services": [[number, name] for number, name in self.services.items()],
        }

    @classmethod
    def parse(cls, document: object) -> Names:
        """ValueError when it is no such document."""
        if not isinstance(document, dict):
            raise ValueError("names are not an object")
        fronts = _rows(document, "fronts", (int, str, str, int))
        backends = _rows(document, "backends", (int, str, str))
        services = _rows(document, "services", (int, str))
        return cls(
            {number: (service, vip, protocol) for number, service, vip, protocol in fronts},
            {number: (service, name) for number, service, name in backends},
            dict(services),
        )


def _rows(document: dict[str, Any], key: str, types: tuple[type, ...]) -> Iterable[Any]:
    rows = document.get(key)
    if not isinstance(rows, list):
        raise ValueError(f"names have no list of {key}")
    for row in rows:
        right = isinstance(row, list) and len(row) == len(types) and all(map(isinstance, row, types))
        if not right or not 0 <= row[0] < NOBODY:
            raise ValueError(f"{key} of names: {row!r:.100} is no entry")
        yield row


class NameReader:
    """Names of this director, read again when the maps say other ones."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._said = b""
        self.names = Names()
        self.generations: Array = np.zeros(0, np.uint8)
        """By index of a backend: as records have it."""

    def changed(self) -> bool:
        """Read; whether names are others than before."""
        tables = self._tables
        said = b"".join(
            array.tobytes()
            for array in (
                tables.service_labels[:],
                tables.backend_labels[:],
                self._fronts(),
                tables.backends["generation"],
            )
        )
        if said == self._said:
            return False
        self._said = said
        before = self.names
        self.generations = (tables.backends["generation"] & 0xFF).astype(np.uint8)
        self.names = self._read()
        return self.names != before

    def _fronts(self) -> Array:
        fields = ["address", "service", "protocol", "ipv6", "use"]
        return self._tables.fronts[:][fields].copy()

    def _read(self) -> Names:
        tables = self._tables
        services = {
            index: label["service"].decode()
            for index, label in enumerate(tables.service_labels[:])
            if label["service"]
        }
        serving = tables.enums["front_use"]["FRONT_SERVING"]
        fronts, entries = {}, tables.fronts[:]
        for number in np.flatnonzero(entries["use"] == serving).tolist():
            entry = entries[number]
            if service := services.get(int(entry["service"])):
                words = entry["address"] if entry["ipv6"] else entry["address"][0]
                fronts[number] = (service, str(address_of(words)), int(entry["protocol"]))
        backends = {
            index: (label["service"].decode(), label["backend"].decode())
            for index, label in enumerate(tables.backend_labels[:])
            if label["service"]
        }
        return Names(fronts, backends, services)


@dataclass(frozen=True)
class Translation:
    """A peer's numbers to ours. `fronts`: 0 for what we do not have; `backends`, `services`: NOBODY."""

    fronts: Array
    backends: Array
    services: Array

    @classmethod
    def between(cls, theirs: Names, ours: Names) -> Translation:
        fronts, backends = np.zeros(1 << 16, np.uint16), np.full(1 << 16, NOBODY, np.uint16)
        services = backends.copy()
        front_numbers = {name: number for number, name in ours.fronts.items()}
        backend_numbers = {name: number for number, name in ours.backends.items()}
        for number, front in theirs.fronts.items():
            fronts[number] = front_numbers.get(front, 0)
        for number, backend in theirs.backends.items():
            backends[number] = backend_numbers.get(backend, NOBODY)
        service_numbers = {name: number for number, name in ours.services.items()}
        for number, service in theirs.services.items():
            services[number] = service_numbers.get(service, NOBODY)
        return cls(fronts, backends, services)
