# SPDX-License-Identifier: Apache-2.0
"""The rings in the map `ring`: where each is located, how its slots change owners, and when flux ends.

Writes slots only, each with one 8-byte store, and then what the map `owners` repeats of it: packets see the old
slot or the new one. `service_plan` computes the slots, `maglev` the owners. Knows nothing of listeners, backend
states or other schedulers.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from xdpdirector.dataplane import maglev, service_plan
from xdpdirector.dataplane.jiffies import Clock
from xdpdirector.dataplane.maps import Array, Tables
from xdpdirector.dataplane.ring_references import RingReferences
from xdpdirector.dataplane.service_plan import (
    EXCEPTIONS,
    FLUX,
    NO_BACKEND,
    ServicePlan,
    Words,
)
from xdpdirector.errors import CapacityError
from xdpdirector.system.memory_order import barrier

_FLUX = np.uint64(FLUX)
_Filling: TypeAlias = tuple[int, tuple[tuple[str, int | None, bool], ...]]
"""What decides the owners of a ring's slots: their number; of each member its name, its weight (None: it is the
fallback), and whether it accepts."""
YOUNG = 30.0  # seconds after a ring is created: the backends of a new service come up one by one


@dataclass(frozen=True)
class RingPlace:
    """Location and hash of a service's ring. Both determine the slot of a flow, so they stay while flows
    depend on the ring."""

    region: slice
    hashes_port: bool


@dataclass(frozen=True)
class _Successor:
    """The ring that will replace the present one once no flow depends on that any more. `region` is reserved
    for it."""

    plan: ServicePlan
    indices: Mapping[str, int]
    region: slice


class Rings:
    """`services`: their indices by name, maintained by the caller. `now` is monotonic seconds.

    `writes` is incremented with each slot written: the result of a sweep is valid for one value of it.

    A ring of another size or hash would map each existing flow to another slot. So the present ring stays,
    entirely in flux, until every live flow has a record; then the new ring replaces it.
    """

    def __init__(self, tables: Tables, clock: Clock, services: Mapping[str, int]) -> None:
        self.writes = 0
        self._tables, self._clock, self._services = tables, clock, services
        self._flux_until: dict[str, float] = {}
        self._filled: dict[str, tuple[_Filling, maglev.Ring]] = {}
        self._persistent: set[str] = set()
        """Services whose slots are always in flux: with persistence only records say where a client's flows
        go."""
        self._young_until: dict[str, float] = {}
        self._hashes_port: dict[str, bool] = {}
        """Of the rings in the map."""
        self._successors: dict[str, _Successor] = {}
        flag = tables.enums["service_flags"]["SERVICE_RING"]
        self._left = {
            name
            for name, index in services.items()
            if self.region(index) and not int(tables.services[index]["flags"]) & flag
        }
        """Services that no longer schedule by ring, but whose ring is still in use by flows without a record.
        """
        self._mentions = RingReferences()
        self._unread = {name for name, index in services.items() if self.region(index)}
        """Rings in the map that were not read yet."""
        self._sums: dict[str, tuple[int, int]] = {}
        """Of the slots as written: see `_sums`."""
        self._told: dict[str, Array] = {}
        """By service, a bool for each slot: another director said that it is in flux."""
        self._passed_over: dict[str, frozenset[int]] = {}
        """By service: slot owners that are down for some VIP. Their slots have the exceptions mark."""
        self._merged: list[Array] = []
        """Positions of records that came from other directors since the last sweep began, which may have missed
        them."""

    def sweep_begins(self) -> int:
        """Call it before a sweep; returns `writes`, which is the same afterwards if the sweep saw the slots as they
        are."""
        self._merged.clear()
        return self.writes

    def region(self, service: int) -> slice | None:
        """The location of the service's ring, None if it has none."""
        entry = self._tables.services[service]
        start, slots = int(entry["ring_start"]), int(entry["ring_slots"])
        return slice(start, start + slots) if slots else None

    def is_settled(self, name: str) -> bool:
        """False while flows of this service may exist without a record."""
        return name not in self._flux_until and name not in self._left

    def mentions(self, backend: int) -> bool:
        """True if any slot references the backend, as owner or previous owner."""
        self._read_all()
        return backend in self._mentions

    def mentioned_without(self, names: Collection[str]) -> list[int]:
        """The backends that rings would still reference without these services."""
        self._read_all()
        return self._mentions.without(names)

    def _read_all(self) -> None:
        for name in list(self._unread):
            region = self.region(self._services[name])
            if region is not None:
                self._note(name, self._tables.ring[region])

    def require_room(self, rings: Mapping[str, int], gone: Collection[str]) -> None:
        """Raise CapacityError unless rings of these sizes, by service, fit into the map. While a ring
        replaces another, both take room."""
        services, wanted = self._tables.services["ring_slots"], self.slots
        wanted -= sum(int(services[self._services[name]]) for name in gone if name in self._services)
        for name, slots in rings.items():
            index, waiting = self._services.get(name), self._successors.get(name)
            places = (0 if index is None else int(services[index]), waiting and waiting.plan.ring_slots)
            if slots not in places:
                wanted += slots
        room = self._tables.entries("ring")
        if wanted > room:
            raise CapacityError(
                f"there is room for {room} slots of rings, and {wanted} are wanted: raise sizes.ring_slots"
            )

    def is_brought(self, name: str, service: int, now: float) -> bool:
        """True if the service has no ring, or its ring is as written and no slot has to change with time."""
        region = self.region(service)
        if region is None:
            return True
        if name in self._mentions.marked and now < self._young_until.get(name, now):
            return False
        return self._sums.get(name) == _sums(self._tables.ring[region], self._tables.owners[region])

    @property
    def slots(self) -> int:
        """Total slots of all rings in the map."""
        return int(self._tables.services["ring_slots"].sum(dtype=np.int64))

    def _note(self, name: str, words: Words) -> None:
        self._unread.discard(name)
        self._mentions.note(name, words)
        self._sums[name] = _sums(words, service_plan.resting_owners(words))

    def pass_over(self, name: str, service: int, backends: frozenset[int]) -> None:
        """Mark the slots of these owners, which are down for some VIP, before packets skip them: from now on
        flows of these slots may have records."""
        if backends != self._passed_over.get(name, frozenset()):
            self._passed_over[name] = backends
            self.writes += 1
        region = self.region(service)
        if region is not None and backends:
            self._store(name, region, service_plan.mark(self._tables.ring[region], backends))

    def distribute(
        self, plan: ServicePlan, service: int, indices: Mapping[str, int], now: float, *, recorded: bool
    ) -> RingPlace:
        """Assign slots to the members that accept new connections; returns the ring in use. `indices`:
        backend indices by name. `recorded`: the service had flows with records before it had a ring.
        CapacityError."""
        region = self.region(service)
        if region is not None and not self._fits(plan, service, region):
            return self._outgrow(plan, service, indices, region, now)
        self._successors.pop(plan.name, None)
        self._left.discard(plan.name)
        owners = self._owners(plan, plan.ring_slots, indices)
        had_flows = recorded or region is not None
        if region is not None:
            words = service_plan.advance(self._tables.ring[region], owners)
        else:
            region = self._allocate(plan.ring_slots)
            words = service_plan.fresh(owners, recorded=recorded)
            self._hashes_port[plan.name] = plan.hashes_port
        if passed_over := self._passed_over.get(plan.name):
            words = service_plan.mark(words, passed_over)
        self._write(plan, region, service_plan.unrest(words) if plan.persistence else words, now)
        if not had_flows:
            self._flux_until.pop(plan.name, None)
            self._young_until[plan.name] = now + YOUNG
        elif now < self._young_until.get(plan.name, now) and not plan.persistence:
            self._spare_the_unused(plan.name, region)
        return RingPlace(region, plan.hashes_port)

    def leave(self, plan: ServicePlan, service: int, now: float) -> RingPlace | None:
        """Change from ring to member scheduling: flows without a record still follow their slot, until flux
        ends."""
        region = self.region(service)
        self._successors.pop(plan.name, None)
        if region is None:
            self._left.discard(plan.name)
            return None
        begins = plan.name not in self._left
        self._left.add(plan.name)
        self._write(plan, region, service_plan.unrest(self._tables.ring[region]), now, begins=begins)
        return RingPlace(region, self._hash_of(plan.name, service))

    def succeed(self, name: str, now: float) -> tuple[ServicePlan, RingPlace] | None:
        """Replace a settled ring by its waiting successor; None when there is no successor.

        The successor starts in flux: while the service's entry is written word by word, packets may use
        either ring.
        """
        successor = self._successors.pop(name, None)
        if successor is None:
            return None
        plan, region = successor.plan, successor.region
        fresh = service_plan.fresh(self._owners(plan, plan.ring_slots, successor.indices), recorded=True)
        self.give_up(name)
        self._told.pop(name, None)
        self._write(plan, region, service_plan.unrest(fresh), now)
        self.writes += 1  # also when no slot differs: the same word now belongs to other flows
        self._hashes_port[name] = plan.hashes_port
        if not plan.persistence:
            self._flux_until[name] = now
        return plan, RingPlace(region, plan.hashes_port)

    def forget(self, name: str) -> None:
        """Drop all state of a removed service."""
        self._flux_until.pop(name, None)
        self._filled.pop(name, None)
        self._persistent.discard(name)
        self._young_until.pop(name, None)
        self._hashes_port.pop(name, None)
        self._successors.pop(name, None)
        self._left.discard(name)
        self._passed_over.pop(name, None)
        self._told.pop(name, None)
        self.give_up(name)

    def mark_exceptions(self, positions: Array) -> None:
        """Mark these ring positions: connection sync delivered records that disagree with the owners. A sweep that
        runs may have read the table before: the marks outlast it."""
        self._merged.append(positions)
        having = self._having(positions)
        for name, index in self._services.items():
            region = self.region(index) if index in having else None
            if region is None:
                continue
            inside = positions[(positions >= region.start) & (positions < region.stop)] - region.start
            if len(inside):
                words = self._tables.ring[region].copy()
                words[inside] |= np.uint64(EXCEPTIONS) << np.uint64(32)
                self._store(name, region, words)

    def _having(self, positions: Array) -> set[int]:
        """The services whose rings have these positions."""
        services = self._tables.services
        standing = np.flatnonzero(services["ring_slots"])
        starts = services["ring_start"][standing].astype(np.int64)
        order = np.argsort(starts)
        places = np.searchsorted(starts[order], positions, side="right")
        return set(standing[order][places[places > 0] - 1].tolist())

    def flux_left(self, name: str, service: int, now: float) -> float:
        """Seconds until flux of this service ends."""
        longest = self._longest(service)
        return min(max(self._flux_until.get(name, now + longest) - now, 0.0), longest)

    def enter_flux(
        self, name: str, slots: Array, owners: Array, before: Array, now: float, left: float
    ) -> None:
        """On another director these slots passed from backends `before` to `owners`, and flows from before
        may have no record. There flux ends in `left` seconds.

        Slots that are in flux already stay as they are, and slots of another owner that has had packets: this
        director's flows may be there. One that had none, or nobody, is no obstacle: in a ring whose backends
        were not checked yet others have the slots."""
        region = self.region(self._services[name])
        if region is None:
            return
        words = self._tables.ring[region].copy()
        inside = slots < len(words)
        slots, owners, before = slots[inside], owners[inside], before[inside]
        present = service_plan.backends_of(words[slots])
        at_rest = (service_plan.flags_of(words[slots]) & _FLUX) == 0
        used = np.isin(present, self._with_packets(set(present.tolist()) - {NO_BACKEND}))
        taken = at_rest & (~used | (present == owners))
        if taken.any():
            words[slots[taken]] = service_plan.pack(present[taken], before[taken], FLUX | EXCEPTIONS)
            self._store(name, region, words)
            told = self._told.setdefault(name, np.zeros(len(words), np.bool_))
            told[slots[taken]] = True
            until = now + min(left, self._longest(self._services[name]))
            self._flux_until[name] = max(until, self._flux_until.get(name, until))

    def give_up(self, name: str) -> None:
        """Drop the state of a ring that is no longer used."""
        self._unread.discard(name)
        self._mentions.forget(name)
        self._sums.pop(name, None)

    def settle(self, exceptions: Array, now: float) -> list[str]:
        """End flux where its time has passed, and clear marks that no record needs any more. Returns the
        services that became settled; of those always in flux, the ones whose ring is no longer needed.

        `exceptions`: ring positions where a record disagrees with the owner, from a sweep that began at `now`
        or later; no slot may have been written since.
        """
        rest = []
        exceptions = np.concatenate([exceptions, *self._merged])
        looked_at = self._mentions.marked | self._unread | self._left | {*self._successors, *self._flux_until}
        for name in sorted(looked_at):
            index = self._services[name]
            region = self.region(index)
            if not region:
                continue
            words = self._tables.ring[region]
            flags = service_plan.flags_of(words)
            ends = name not in self._persistent or name in self._left or name in self._successors
            if ends:
                self._flux_until.setdefault(
                    name, now + self._longest(index) if (flags & _FLUX).any() else now
                )
            if now < self._flux_until.get(name, now):
                continue
            self._flux_until.pop(name, None)
            if not ends:
                continue
            self._told.pop(name, None)
            rest.append(name)
            if name in self._left or name in self._successors:
                self._left.discard(name)
                continue
            if flags.any():
                inside = exceptions[(exceptions >= region.start) & (exceptions < region.stop)] - region.start
                settled = service_plan.settle(words, set(inside.tolist()))
                self._store(name, region, service_plan.mark(settled, self._passed_over.get(name, ())))
        return rest

    def _longest(self, service: int) -> float:
        ticks = int(self._tables.services[service]["timeouts"].max()) + 1
        return (ticks << self._tables.enums["tick_numbers"]["TICK_SHIFT"]) / self._clock.hz

    def _fits(self, plan: ServicePlan, service: int, region: slice) -> bool:
        """True if the present ring can become the planned one by changing slots."""
        same_size = region.stop - region.start == plan.ring_slots
        return same_size and self._hash_of(plan.name, service) == plan.hashes_port

    def _hash_of(self, name: str, service: int) -> bool:
        """True if the present ring hashes ports. For an adopted ring, the map says so."""
        if name not in self._hashes_port:
            flag = self._tables.enums["service_flags"]["SERVICE_HASH_ADDRESS"]
            self._hashes_port[name] = not int(self._tables.services[service]["flags"]) & flag
        return self._hashes_port[name]

    def _outgrow(
        self, plan: ServicePlan, service: int, indices: Mapping[str, int], region: slice, now: float
    ) -> RingPlace:
        """Keep using the present ring until all flows have records; see `succeed`."""
        earlier, slots = self._successors.get(plan.name), region.stop - region.start
        place = earlier.region if earlier else None
        if place is None or place.stop - place.start != plan.ring_slots:
            self._successors.pop(plan.name, None)
            place = region if slots == plan.ring_slots else self._allocate(plan.ring_slots)
        self._successors[plan.name] = _Successor(plan, dict(indices), place)
        self._left.discard(plan.name)
        words = service_plan.advance(self._tables.ring[region], self._owners(plan, slots, indices))
        self._write(plan, region, service_plan.unrest(words), now, begins=earlier is None)
        return RingPlace(region, self._hash_of(plan.name, service))

    def _owners(self, plan: ServicePlan, slots: int, indices: Mapping[str, int]) -> Words:
        """The backend index of each slot."""
        ring = self._ring(plan, slots)
        nobody = indices[plan.fallback] if plan.fallback else NO_BACKEND
        by_name = np.array([*(indices[name] for name in ring.names), nobody], np.uint64)
        owners: Words = by_name[ring.owners]  # NOBODY is -1: the last element
        return owners

    def _ring(self, plan: ServicePlan, slots: int) -> maglev.Ring:
        """Cached: the same plan is applied every few seconds."""
        filling = (
            slots,
            tuple(
                (member.name, member.weight if member.name != plan.fallback else None, member.accepts)
                for member in plan.members
            ),
        )
        known = self._filled.get(plan.name)
        if known is None or known[0] != filling:
            weights = {name: weight for name, weight, _ in filling[1] if weight is not None}
            accepting = {name for name, _, accepts in filling[1] if accepts}
            known = self._filled[plan.name] = filling, maglev.fill(weights, accepting, slots)
        return known[1]

    def _allocate(self, slots: int) -> slice:
        """The first sufficient gap in the ring map."""
        services = self._tables.services
        standing = np.flatnonzero(services["ring_slots"])
        reserved = [each.region for each in self._successors.values()]
        starts = np.array([each.start for each in reserved] + [0], np.int64)
        stops = np.array([each.stop for each in reserved] + [0], np.int64)
        starts = np.append(starts, services["ring_start"][standing])
        stops = np.append(stops, services["ring_start"][standing] + services["ring_slots"][standing])
        order = np.argsort(starts, kind="stable")
        filled = np.maximum.accumulate(stops[order])
        gaps = np.flatnonzero(starts[order][1:] - filled[:-1] >= slots)
        start = int(filled[gaps[0] if len(gaps) else -1])
        if start + slots > self._tables.entries("ring"):
            raise CapacityError(f"there is no room for a ring of {slots} slots: raise sizes.ring_slots")
        return slice(start, start + slots)

    def _write(
        self, plan: ServicePlan, region: slice, words: Words, now: float, *, begins: bool = False
    ) -> None:
        """Write slots. Slots that enter flux stay in it for the full flux time from now; slots already in
        flux keep their deadline, unless `begins` restarts it for the whole ring."""
        flux = service_plan.flags_of(words) & _FLUX
        in_flux = bool(flux.any())
        if in_flux:
            begins |= bool((flux & ~service_plan.flags_of(self._tables.ring[region])).any())
        self._store(plan.name, region, words)
        begins |= (plan.name in self._persistent) != bool(plan.persistence)
        (self._persistent.add if plan.persistence else self._persistent.discard)(plan.name)
        if in_flux and (begins or (plan.name not in self._flux_until and not plan.persistence)):
            until = now + plan.flux_seconds
            self._flux_until[plan.name] = max(until, self._flux_until.get(plan.name, until))

    def _spare_the_unused(self, name: str, region: slice) -> None:
        """End flux of slots whose previous owner never had a packet: it has no flows, unless another director
        said so. Otherwise the first backend of a new service to come up would receive all its datagrams for
        minutes. Clients that arrived in between have records."""
        words = self._tables.ring[region]
        in_flux, before = (service_plan.flags_of(words) & _FLUX) != 0, service_plan.before_of(words)
        spared = in_flux & ~np.isin(before, self._with_packets(set(before[in_flux].tolist()) - {NO_BACKEND}))
        if name in self._told:
            spared &= ~self._told[name]
        rest = service_plan.pack(service_plan.backends_of(words), NO_BACKEND, EXCEPTIONS)
        self._store(name, region, np.where(spared, rest, words))
        if (spared == in_flux).all():
            self._flux_until.pop(name, None)

    def _with_packets(self, backends: Collection[int]) -> list[int]:
        """The backends that ever had a packet."""
        indices = list(backends)
        packets = self._tables.per_cpu_sums("traffic", indices)[:, 0].tolist()
        return [index for index, count in zip(indices, packets, strict=True) if count]

    def _store(self, name: str, region: slice, words: Words) -> None:
        barrier()  # the slots' owners, which were stored before, are seen before
        differing = service_plan.store(self._tables.ring[region], self._tables.owners[region], words)
        self.writes += differing
        if differing or not self._mentions.knows(name):
            self._note(name, words)


def _sums(words: Words, owners: Array) -> tuple[int, int]:
    """CRC-32 of slots, and of what `owners` says of them."""
    return zlib.crc32(words.data), zlib.crc32(owners.data)
