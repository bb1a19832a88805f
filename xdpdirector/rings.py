# SPDX-License-Identifier: Apache-2.0
"""The rings of all services in one map: who has which part of it, and how words get there.

Knows slots and stores; what the words say is decided in `schedule`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from xdpdirector import maglev, schedule
from xdpdirector.errors import CapacityError
from xdpdirector.schedule import FLUX, ServicePlan, Words
from xdpdirector.tables import Array, Tables


class Rings:
    """A region is a slice of the map `ring`; which one a service has stands in its entry."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._filled: dict[str, tuple[object, maglev.Ring]] = {}
        self.writes = 0
        """Grows with each change of a slot: what a sweep saw of the rings is of one such number."""

    def filled(self, plan: ServicePlan) -> maglev.Ring:
        """Who is to own which slot. Filled when that changes only: the same plan comes every few seconds."""
        weights = {member.name: member.weight for member in plan.members if member.name != plan.fallback}
        accepting = {member.name for member in plan.members if member.accepts}
        wanted = (weights, accepting, plan.ring_slots)
        known = self._filled.get(plan.name)
        if known is None or known[0] != wanted:
            known = self._filled[plan.name] = (wanted, maglev.fill(weights, accepting, plan.ring_slots))
        return known[1]

    def forget(self, service: str) -> None:
        self._filled.pop(service, None)

    def region(self, service: int) -> slice | None:
        entry = self._tables.services[service]
        start, slots = int(entry["ring_start"]), int(entry["ring_slots"])
        return slice(start, start + slots) if slots else None

    def allocate(self, services: Iterable[int], slots: int) -> slice:
        """The first gap between the services' regions that is wide enough; CapacityError when none is."""
        regions = [region for service in services if (region := self.region(service))]
        start = 0
        for region in sorted(regions, key=lambda region: int(region.start)):
            if region.start - start >= slots:
                break
            start = max(start, region.stop)
        if start + slots > self._tables.entries("ring"):
            raise CapacityError(f"there is no room for a ring of {slots} slots: raise sizes.ring_slots")
        return slice(start, start + slots)

    def write(self, region: slice, words: Words) -> int:
        """Each slot is one 8-byte store: packets see the old one or the new one. How many differed."""
        differs = np.flatnonzero(self._tables.ring[region] != words)
        self._tables.ring[region.start + differs] = words[differs]
        self.writes += len(differs)
        return len(differs)

    def in_flux(self, region: slice | None) -> Array:
        """Which slots of a region are in flux, as booleans."""
        words = self._tables.ring[region] if region else np.zeros(0, np.uint64)
        mask: Array = (schedule.flags_of(words) & np.uint64(FLUX)) != 0
        return mask

    def leave(self, region: slice) -> int:
        """From a ring to members: flows without a record still run where their slot says, until flux ends."""
        return self.write(region, schedule.unrest(self._tables.ring[region]))

    def speaks_of(self, service: int, backend: int) -> bool:
        """Whether a slot of this service's ring has this backend as its owner, or as the one before."""
        region = self.region(service)
        if region is None:
            return False
        words = self._tables.ring[region]
        in_flux = (schedule.flags_of(words) & np.uint64(FLUX)) != 0
        before = in_flux & (schedule.before_of(words) == backend)
        return bool((before | (schedule.backends_of(words) == backend)).any())
