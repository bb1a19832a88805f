# SPDX-License-Identifier: Apache-2.0
"""The map `services`: an entry for each service, which the packet program looks up by the listener.

Every write compares first. `service_entry` encodes the fields. Knows plans and indices; not in which order
backends, rings and services change: that is `writer`.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from functools import lru_cache, partial
from typing import Any

from xdpdirector.dataplane.guard_maps import GuardMaps
from xdpdirector.dataplane.ids import Indices
from xdpdirector.dataplane.jiffies import Clock
from xdpdirector.dataplane.maps import Tables
from xdpdirector.dataplane.member_map import Listed
from xdpdirector.dataplane.other_directors import Senders
from xdpdirector.dataplane.retired_totals import RetiredTotals
from xdpdirector.dataplane.rings import RingPlace
from xdpdirector.dataplane.service_entry import (
    guard_flags,
    ring_fields,
    service_fields,
    service_flags,
    timeout_fields,
)
from xdpdirector.dataplane.service_plan import ServicePlan


class ServiceMap:
    """The only writer of the map. `writes` is incremented with each word written."""

    def __init__(
        self,
        tables: Tables,
        clock: Clock,
        indices: Indices,
        guarding: GuardMaps,
        senders: Senders,
        departed: RetiredTotals,
    ) -> None:
        self.writes = 0
        self._tables, self._clock, self._indices = tables, clock, indices
        self._guarding, self._senders, self._departed = guarding, senders, departed
        self._watched: frozenset[str] = frozenset()
        self._times = lru_cache(maxsize=64)(partial(timeout_fields, tables.enums, clock.jiffies))
        """Nearly all services have the same time-outs."""

    def assign(self, name: str) -> int:
        """The service's index; a new one begins with counters of 0. CapacityError."""
        if name not in self._indices.services:
            index = self._indices.add_service(name)
            if self._tables.services["multipliers"][index].all():
                self._guarding.begin(index)
                self._departed.begin(index)
                self._tables.per_cpu_zero("drops", index)
                self._tables.per_cpu_zero("quic_counts", index)
            else:  # it was never used, and all its counters are 0
                # As for any hash table keyed by clients: bucket collisions must not be predictable.
                self._tables.services["multipliers"][index] = [secrets.randbits(64) | 1 for _ in range(2)]
        return self._indices.services[name]

    def store(
        self,
        service: int,
        plan: ServicePlan,
        ring: RingPlace | None,
        wanted: dict[str, int],
        listed: Listed,
    ) -> None:
        """Write a service's entry. `ring`: the ring in use. `wanted`: backend indices by name. `listed`: its list
        of members."""
        fields = service_fields(
            plan,
            ring,
            wanted,
            listed,
            self._tables.enums,
            self._clock.jiffies,
            denies=self._guarding.denies,
            watched=plan.name in self._watched,
            directed=self._senders.has(service),
        )
        fields |= self._times(plan.timeouts)
        # The ring first: `ring_slots` 0 makes the packet path use none, whatever the flags say.
        self._store(service, ring_fields(ring))
        self._store(service, fields)

    def clear(self, service: int) -> None:
        """No ring and no members: the packet path finds no backend."""
        self._store(service, {"ring_slots": 0, "ring_start": 0, "members": 0, "resting": 0})

    def uses_ring(self, service: int) -> bool:
        """True if the service's scheduler is one with a ring."""
        flag = self._tables.enums["service_flags"]["SERVICE_RING"]
        return bool(int(self._tables.services[service]["flags"]) & flag)

    def replace_ring(self, service: int, plan: ServicePlan, ring: RingPlace) -> None:
        """Make packets use this ring."""
        self._store(service, ring_fields(ring))
        self._store(service, {"flags": service_flags(plan, ring, self._tables.enums["service_flags"])})

    def clear_ring(self, service: int) -> None:
        """Make packets use no ring."""
        self._store(service, ring_fields(None))

    def clear_hash_flag(self, service: int) -> None:
        """Without a ring, nothing says how it was hashed."""
        flag = self._tables.enums["service_flags"]["SERVICE_HASH_ADDRESS"]
        self._store(service, {"flags": int(self._tables.services[service]["flags"]) & ~flag})

    def watch(self, services: Collection[str]) -> None:
        """Trace the decisions of exactly these services (bpf/trace.h)."""
        self._watched = frozenset(services)
        self.store_guard_flags()

    def store_guard_flags(self) -> None:
        """Of all services, after a change of the deny list or of what is traced."""
        flags, denies = self._tables.enums["guard_flags"], self._guarding.denies
        for name, index in self._indices.services.items():
            present = int(self._tables.services[index]["guard"])
            said = guard_flags(
                flags,
                denies=denies,
                watched=name in self._watched,
                directed=self._senders.has(index),
                quic=bool(present & flags["GUARD_QUIC"]),
            )
            self._store(index, {"guard": said})

    def _store(self, service: int, fields: dict[str, Any]) -> None:
        self.writes += self._tables.store(self._tables.services, service, fields)
