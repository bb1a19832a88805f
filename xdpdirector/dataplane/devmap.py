# SPDX-License-Identifier: Apache-2.0
"""The map `ports`, a devmap: the interfaces to which the packet program redirects frames, by index in the map.

Caches the index of each interface; `check` compares it with the map.
"""

from __future__ import annotations

from xdpdirector.dataplane.maps import Tables
from xdpdirector.errors import CapacityError


class Devmap:
    """The only writer of the map. `writes` is incremented with each entry."""

    def __init__(self, tables: Tables) -> None:
        self.writes = 0
        self._tables = tables
        self._ports: dict[int, int] = {}
        """By ifindex."""

    def __len__(self) -> int:
        return len(self._ports)

    def check(self) -> bool:
        """Compare with the map. False if an interface has to be entered again."""
        lost = [ifindex for ifindex, port in self._ports.items() if self._tables.port(port) != ifindex]
        for ifindex in lost:
            del self._ports[ifindex]
        return not lost

    def port(self, ifindex: int) -> int:
        """The interface's index in the map, where it is entered if need be. CapacityError."""
        if ifindex not in self._ports:
            self._ports[ifindex] = self._find_or_enter(ifindex)
        return self._ports[ifindex]

    def _find_or_enter(self, ifindex: int) -> int:
        free = None
        for port in range(self._tables.entries("ports")):
            present = self._tables.port(port)
            if present == ifindex:
                return port
            if present is None and free is None:
                free = port
        if free is None:
            raise CapacityError(
                f"there is room for {self._tables.entries('ports')} interfaces to backends: let backends share them"
            )
        self._tables.set_port(free, ifindex)
        self.writes += 1
        return free
