# SPDX-License-Identifier: Apache-2.0
"""What the packet program counted: traffic, connections, refusals and verdicts, by service and backend. Only reads.

Knows indices, not plans.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection
from functools import cached_property

import numpy as np

from xdpdirector.dataplane.guard_maps import GuardMaps
from xdpdirector.dataplane.ids import Backend, Indices
from xdpdirector.dataplane.maps import Array, Tables, count_of
from xdpdirector.dataplane.retired_totals import RetiredTotals
from xdpdirector.model.passive import HandshakeTimes, PassiveCounts
from xdpdirector.model.status import (
    COUNTERS,
    CidPackets,
    ConnectionCounts,
    Dropped,
    Refused,
    ServiceCounters,
    Traffic,
)

_FIELDS = ("packets", "bytes", "connections", "dropped")
"""Of a row of counters: those of `struct traffic`, and dropped or rejected packets."""


class Counters:
    """The counters of one data plane."""

    def __init__(
        self, tables: Tables, indices: Indices, departed: RetiredTotals, guarding: GuardMaps
    ) -> None:
        self._tables, self._indices, self._departed, self._guarding = tables, indices, departed, guarding

    def traffic(self, keys: Collection[Backend]) -> dict[Backend, Traffic]:
        """Traffic of these backends, in one read; zero for a backend without an index."""
        known = {key: index for key in keys if (index := self._indices.backends.get(key)) is not None}
        sums = self._tables.per_cpu_sums("traffic", list(known.values())).tolist()
        counted = dict(zip(known, map(_traffic, sums), strict=True))
        return {key: counted.get(key, _NO_TRAFFIC) for key in keys}

    def departed(self, services: Collection[str]) -> dict[str, Traffic]:
        """Traffic of these services' removed backends; zero for a service without an index."""
        known = self._known(services)
        counted = dict(
            zip(known, map(_traffic, self._departed.of(list(known.values())).tolist()), strict=True)
        )
        return {name: counted.get(name, _NO_TRAFFIC) for name in services}

    def refused(self, services: Collection[str]) -> dict[str, Refused]:
        """Connections that these services' limits refused, in one read; zero for a service without an index."""
        known = self._known(services)
        counted = dict(zip(known, map(_refused, self._guarding.refused(list(known.values()))), strict=True))
        return {name: counted.get(name, _NONE_REFUSED) for name in services}

    def cids(self, services: Collection[str]) -> dict[str, CidPackets]:
        """Packets of these services by what QUIC connection IDs named, in one read; zero for a service without an
        index."""
        known = self._known(services)
        rows = self._tables.per_cpu_sums("quic_counts", list(known.values())).tolist()
        counted = dict(zip(known, map(_cids, rows), strict=True))
        return {name: counted.get(name, _NO_IDS) for name in services}

    def passive(self, keys: Collection[Backend]) -> dict[Backend, PassiveCounts]:
        """What was counted of these backends' clients, in one read; zero for a backend without an index."""
        known = {key: index for key in keys if (index := self._indices.backends.get(key)) is not None}
        rows = self._tables.per_cpu_sums("passive", list(known.values())).tolist()
        loads, services = self._tables.loads, self._tables.services
        found = {
            key: self._passive(
                row,
                loads[index],
                has_ring=bool(int(services[self._indices.services[key[0]]]["ring_slots"])),
            )
            for (key, index), row in zip(known.items(), rows, strict=True)
        }
        return {key: found.get(key, PassiveCounts()) for key in keys}

    def _passive(self, row: list[int], load: Array, *, has_ring: bool) -> PassiveCounts:
        syns, retransmissions, retransmitted, handshakes, resets, nanoseconds, *times = row
        opening = PassiveCounts(syns=syns, retransmissions=retransmissions, retransmitted=retransmitted)
        if has_ring:
            return opening
        return opening.model_copy(
            update={
                "handshakes": handshakes,
                "resets": resets,
                "unanswered": int(load["unanswered"]),
                "idle": int(load["idle"]),
                "seconds": nanoseconds / 1e9,
                "times": tuple(
                    HandshakeTimes(at_most=bound, count=count)
                    for bound, count in zip(self._bounds, times, strict=True)
                ),
            }
        )

    @cached_property
    def _bounds(self) -> list[float | None]:
        """Of the buckets of times, in seconds; None is no bound."""
        numbers = self._tables.enums["passive_numbers"]
        first, step = numbers["PASSIVE_FIRST"], numbers["PASSIVE_STEP"]
        return [(1 << first + step * number) / 1e9 for number in range(numbers["PASSIVE_BOUNDS"])] + [None]

    def drops(self, services: Collection[str]) -> dict[str, Dropped]:
        """Packets of these services that were dropped or rejected, in one read; none for a service without an
        index."""
        known = self._known(services)
        rows = self._tables.per_cpu_sums("drops", list(known.values()))
        found: dict[str, Dropped] = {name: {} for name in services}
        names = list(known)
        for place, reason in np.argwhere(rows).tolist():
            found[names[place]][self._refusals[reason]] = int(rows[place, reason])
        return found

    @cached_property
    def _refusals(self) -> list[str]:
        """Reasons in the order of `struct drops`."""
        reasons = self._tables.enums["reason"]
        return [
            name.lower() for name in sorted(reasons, key=reasons.__getitem__)[reasons["REJECT_EMPTY"] : -1]
        ]

    def _known(self, services: Collection[str]) -> dict[str, int]:
        """The indices of those that have one."""
        known = self._indices.services
        return {name: known[name] for name in services if name in known}

    def of_services(self) -> ServiceCounters:
        """The counters of all services, in two reads."""
        services, backends = self._indices.services, self._indices.backends
        indices = list(services.values())
        counters = np.zeros((self._tables.entries("services"), len(COUNTERS)), np.uint64)
        owners = np.array([services[name] for name, _ in backends], np.int64)
        np.add.at(counters[:, :3], owners, self._tables.per_cpu_sums("traffic", list(backends.values())))
        counters[indices, :3] += self._departed.of(indices)
        counters[indices, 3] = self._tables.per_cpu_sums("drops", indices).sum(axis=1)
        columns = [_FIELDS.index(name) for name in COUNTERS]
        return ServiceCounters(tuple(services), array("Q", counters[indices][:, columns].tobytes()))

    def total_traffic(self) -> Traffic:
        """Traffic of all present and former backends; never decreases."""
        sums = self._tables.per_cpu_sums("traffic", list(self._indices.backends.values()))
        return _traffic((sums.sum(axis=0) + self._departed.total()).tolist())

    def verdicts(self) -> dict[str, int]:
        """Packets by reason."""
        reasons = {name.lower(): i for name, i in self._tables.enums["reason"].items() if name != "REASONS"}
        counts = self._tables.per_cpu_sums("verdicts", list(reasons.values()))[:, 0].tolist()
        return dict(zip(reasons, counts, strict=True))

    def clients_turned_away(self) -> int:
        return int(self._tables.per_cpu_sum("turned_away", 0)[0])

    def load(self, key: Backend) -> tuple[int, int]:
        """Active and inactive connections of a backend."""
        load = self._tables.loads[self._indices.backends[key]]
        return max(0, count_of(load, "active")), max(0, count_of(load, "inactive"))

    def connections(
        self, keys: Collection[Backend], pending: Array | None
    ) -> dict[Backend, ConnectionCounts]:
        """Connections of these backends; none for a backend without an index. `pending`: by index of backends, None
        before the first sweep."""
        known = {key: index for key in keys if (index := self._indices.backends.get(key)) is not None}
        indices, loads = np.array(list(known.values()), np.int64), self._tables.loads
        columns = [
            loads[name][indices] + loads[f"{name}_correction"][indices] for name in ("active", "inactive")
        ]
        columns.append(np.zeros(len(indices), np.int64) if pending is None else pending[indices])
        rows = np.maximum(np.stack(columns, axis=1), 0).tolist()
        counted = dict(zip(known, map(_connections, rows), strict=True))
        return {key: counted.get(key, _NO_CONNECTIONS) for key in keys}


_NO_TRAFFIC, _NONE_REFUSED, _NO_IDS, _NO_CONNECTIONS = Traffic(), Refused(), CidPackets(), ConnectionCounts()
"""Of most services and backends there is nothing to count."""


def _connections(row: list[int]) -> ConnectionCounts:
    if not any(row):
        return _NO_CONNECTIONS
    active, inactive, pending = row
    return ConnectionCounts(active=active, inactive=inactive, pending=pending)


def _traffic(row: list[int]) -> Traffic:
    if not any(row):
        return _NO_TRAFFIC
    packets, octets, connections = row
    return Traffic(packets=packets, bytes=octets, connections=connections)


def _refused(row: Array) -> Refused:
    if not row.any():
        return _NONE_REFUSED
    by_service, by_source = row.tolist()
    return Refused(by_service=by_service, by_source=by_source)


def _cids(row: list[int]) -> CidPackets:
    if not any(row):
        return _NO_IDS
    named, unknown, down = row
    return CidPackets(named=named, unknown=unknown, down=down)
