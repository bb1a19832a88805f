# SPDX-License-Identifier: Apache-2.0
"""The map `senders`: MACs of other directors, whose frames are already scheduled: see bpf/loop_prevention.h.

Caches the contents of the map; `check` reads it again, so that the next `bring` repairs it. Knows MACs and
service indices.
"""

from __future__ import annotations

from collections.abc import Set

import numpy as np

from xdpdirector.dataplane.maps import Array, Tables, dtype_of


class Senders:
    """The only writer of the map. `writes` is incremented with each entry."""

    def __init__(self, tables: Tables) -> None:
        self.writes = 0
        self._tables = tables
        self._present: dict[int, Set[bytes]] = {}
        self.check()

    def check(self) -> None:
        """Read the map again."""
        found: dict[int, set[bytes]] = {}
        for keys, _ in self._tables.read("senders"):
            for key in keys:
                found.setdefault(int(key["service"]), set()).add(
                    bytes(key["mac"]).ljust(6, b"\0")
                )  # numpy strips trailing zeros
        self._present = dict(found)

    def has(self, service: int) -> bool:
        return bool(self._present.get(service))

    def is_brought(self, service: int, macs: Set[bytes]) -> bool:
        """True if the map had exactly these MACs for the service at the last `check`."""
        return self._present.get(service, frozenset()) == macs

    def bring(self, service: int, macs: Set[bytes]) -> None:
        """Make these the service's MACs. Additions come before deletions."""
        present = self._present.get(service, frozenset())
        if new := macs - present:
            self._tables.write("senders", self._keys(service, new), np.ones(len(new), np.uint32))
        if gone := present - macs:
            self._tables.delete("senders", self._keys(service, gone))
        if macs:
            self._present[service] = frozenset(macs)
        else:  # of nearly every service
            self._present.pop(service, None)
        self.writes += len(new) + len(gone)

    def _keys(self, service: int, macs: Set[bytes]) -> Array:
        keys = np.zeros(len(macs), dtype_of(self._tables.loaded.maps["senders"]["key"]))
        keys["mac"] = list(macs)
        keys["service"] = service
        return keys
