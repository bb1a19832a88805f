# SPDX-License-Identifier: Apache-2.0
"""Traffic of removed backends and services, so that totals never decrease.

Stored in the map `departed`, which outlives the daemon as the other counters do. Knows indices only.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdpdirector.dataplane.maps import Array, Tables

_GONE = 0
"""The entry for removed services; entry 1 + index belongs to the service of that index."""


class RetiredTotals:
    """The only writer of the map."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def count(self, service: int, backend: int) -> None:
        """Add the traffic of a backend that is removed from the service."""
        self._add(1 + service, self._tables.per_cpu_sum("traffic", backend))

    def leave(self, service: int) -> None:
        """Add the totals of a removed service. Call it after its backends were removed."""
        self._add(_GONE, self.of([service])[0])
        self.begin(service)

    def begin(self, service: int) -> None:
        """The index now belongs to another service: reset its totals."""
        self._tables.departed[1 + service] = 0

    def of(self, services: Sequence[int]) -> Array:
        """For each of these services: packets, bytes and connections of its removed backends."""
        found: Array = self._rows[[1 + service for service in services]]
        return found

    def total(self) -> Array:
        """The total of all removed backends and services."""
        found: Array = self._rows.sum(axis=0)
        return found

    def _add(self, place: int, row: Array) -> None:
        self._rows[place] += row

    @property
    def _rows(self) -> Array:
        departed = self._tables.departed
        return departed.view("u8").reshape(len(departed), -1)
