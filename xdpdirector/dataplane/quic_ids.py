# SPDX-License-Identifier: Apache-2.0
"""The map `quic_ids`: the backends that QUIC connection IDs name: see bpf/quic.h.

Caches the contents of the map; `check` reads it again, so that the next `bring` repairs it. Knows IDs and
indices.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from xdpdirector.dataplane.maps import Array, Tables, dtype_of


class Named(NamedTuple):
    """A backend's index, and which use of the index it is."""

    backend: int
    generation: int


class QuicIds:
    """The only writer of the map. `writes` is incremented with each entry."""

    def __init__(self, tables: Tables) -> None:
        self.writes = 0
        self._tables = tables
        shape = tables.loaded.maps["quic_ids"]
        self._key, self._value = dtype_of(shape["key"]), dtype_of(shape["value"])
        self._present: dict[int, dict[bytes, Named]] = {}
        self.check()

    def check(self) -> None:
        """Read the map again."""
        found: dict[int, dict[bytes, Named]] = {}
        for keys, values in self._tables.read("quic_ids"):
            for key, value in zip(keys, values, strict=True):
                length = int(key["length"])
                raw = bytes(key["id"])[:length].ljust(length, b"\0")  # numpy strips trailing zeros
                named = Named(int(value["backend"]), int(value["generation"]))
                found.setdefault(int(key["service"]), {})[raw] = named
        self._present = found

    def is_brought(self, service: int, ids: Mapping[bytes, int]) -> bool:
        """True if the map had exactly these backends, by ID, for the service at the last `check`."""
        return self._present.get(service, {}) == self._named(ids)

    def bring(self, service: int, ids: Mapping[bytes, int]) -> None:
        """Make these the service's IDs, with indices of backends. Additions come before deletions."""
        present, wanted = self._present.get(service, {}), self._named(ids)
        new = {raw: named for raw, named in wanted.items() if present.get(raw) != named}
        if new:
            values = np.array(list(new.values()), self._value)
            self._tables.write("quic_ids", self._keys(service, list(new)), values)
        if gone := [raw for raw in present if raw not in wanted]:
            self._tables.delete("quic_ids", self._keys(service, gone))
        self._present[service] = wanted
        self.writes += len(new) + len(gone)

    def _named(self, ids: Mapping[bytes, int]) -> dict[bytes, Named]:
        generations = self._tables.backends["generation"]
        return {raw: Named(index, int(generations[index])) for raw, index in ids.items()}

    def _keys(self, service: int, ids: list[bytes]) -> Array:
        keys = np.zeros(len(ids), self._key)
        keys["service"] = service
        keys["length"] = [len(raw) for raw in ids]
        keys["id"] = ids
        return keys
