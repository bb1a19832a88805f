# SPDX-License-Identifier: Apache-2.0
"""What was forwarded to backends and services that are gone, so that no total ever falls.

The map `departed` is the memory, which outlives the daemon as the other counters do. Knows indices; nothing of
names, or of who goes, and why.
"""

from __future__ import annotations

from xdpdirector.dataplane.maps import Array, Tables

_GONE = 0
"""The entry of services that are gone; the others are those of the services there are, by index."""


class Departed:
    """The one writer of the map."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def count(self, service: int, backend: int) -> None:
        """The service has this backend no more."""
        self._add(1 + service, self._tables.per_cpu_sum("traffic", backend))

    def leave(self, service: int) -> None:
        """The service is gone, after its backends."""
        self._add(_GONE, self.of(service))
        self.begin(service)

    def begin(self, service: int) -> None:
        """The index is another service's from now on."""
        self._rows[1 + service] = 0

    def of(self, service: int) -> Array:
        """Packets, bytes and connections of the backends that it had."""
        found: Array = self._rows[1 + service].copy()
        return found

    def total(self) -> Array:
        """Of all that is gone, backends and services."""
        found: Array = self._rows.sum(axis=0)
        return found

    def _add(self, place: int, row: Array) -> None:
        self._rows[place] += row

    @property
    def _rows(self) -> Array:
        departed = self._tables.departed
        return departed.view("u8").reshape(len(departed), -1)
