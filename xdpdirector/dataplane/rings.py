# SPDX-License-Identifier: Apache-2.0
"""The rings in the map `ring`: where each one stands, how its slots pass to new owners, and when flux ends.

Writes slots only, each by one 8-byte store: packets see the old one or the new one. What a slot becomes is decided
in `service_plan`, who shall own it in `maglev`. Knows nothing of listeners, states of backends or other schedulers.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from xdpdirector.dataplane import maglev, service_plan
from xdpdirector.dataplane.jiffies import Clock
from xdpdirector.dataplane.maps import Array, Tables
from xdpdirector.dataplane.ring_references import Mentions
from xdpdirector.dataplane.service_plan import (
    EXCEPTIONS,
    FLUX,
    NO_BACKEND,
    ServicePlan,
    Words,
)
from xdpdirector.errors import CapacityError

_FLUX = np.uint64(FLUX)
YOUNG = 30.0  # seconds of a ring, in which the backends of a new service come up one after the other


@dataclass(frozen=True)
class RingPlace:
    """Where a service's ring stands, and how it hashes. Both say which slot a flow has, so a ring keeps both while
    flows run by it."""

    region: slice
    hashes_port: bool


@dataclass(frozen=True)
class _Successor:
    """The ring that a service wants, while flows still run by the one that it has. `region` is reserved for it."""

    plan: ServicePlan
    indices: Mapping[str, int]
    region: slice


class Rings:
    """`services`: their indices by name, kept by the caller. `now` is monotonic seconds.

    `writes` grows with each slot that was written: what a sweep saw of the rings is true for one such number.

    A ring of another size or with another hash would have each running flow in another slot. So the ring that is
    there stays, all of it in flux, until every flow that still lives has a record; then the other takes its place.
    """

    def __init__(self, tables: Tables, clock: Clock, services: Mapping[str, int]) -> None:
        self.writes = 0
        self._tables, self._clock, self._services = tables, clock, services
        self._flux_until: dict[str, float] = {}
        self._filled: dict[str, tuple[object, maglev.Ring]] = {}
        self._persistent: set[str] = set()
        """Always in flux: where a client goes, only its records say."""
        self._young_until: dict[str, float] = {}
        self._hashes_port: dict[str, bool] = {}
        """Of the rings that stand in the map."""
        self._successors: dict[str, _Successor] = {}
        flag = tables.enums["service_flags"]["SERVICE_RING"]
        self._left = {
            name
            for name, index in services.items()
            if self.region(index) and not int(tables.services[index]["flags"]) & flag
        }
        """Services that do not schedule by their ring any more, which is still there."""
        self._mentions = Mentions()
        self._unread = {name for name, index in services.items() if self.region(index)}
        """Rings that stood in the map and were not looked at yet."""
        self._sums: dict[str, int] = {}
        """Of the slots as they were written."""
        self._passed_over: dict[str, frozenset[int]] = {}
        """By service: the owners that others stand in for at some VIP. Their slots have the exceptions mark."""

    def region(self, service: int) -> slice | None:
        """Where the service's ring stands, if it has one."""
        entry = self._tables.services[service]
        start, slots = int(entry["ring_start"]), int(entry["ring_slots"])
        return slice(start, start + slots) if slots else None

    def is_settled(self, name: str) -> bool:
        """False while flows of this service may run without a record."""
        return name not in self._flux_until and name not in self._left

    def mentions(self, backend: int) -> bool:
        """Whether some slot speaks of it, and be it as the owner before."""
        self._read_all()
        return backend in self._mentions

    def mentioned_without(self, names: Collection[str]) -> list[int]:
        """The backends that rings would speak of if these services were gone."""
        self._read_all()
        return self._mentions.without(names)

    def _read_all(self) -> None:
        for name in list(self._unread):
            region = self.region(self._services[name])
            if region is not None:
                self._note(name, self._tables.ring[region])

    def require_room(self, rings: Mapping[str, int], gone: Collection[str]) -> None:
        """CapacityError when there would be more slots than the map has, with rings of these sizes by service. One
        that takes the place of another stands beside it for a while."""
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
        """Whether its ring, if it has one, is as it was written, and time alone changes nothing."""
        region = self.region(service)
        if region is None:
            return True
        if name in self._mentions.marked and now < self._young_until.get(name, now):
            return False
        return self._sums.get(name) == zlib.crc32(self._tables.ring[region].data)

    @property
    def slots(self) -> int:
        """Of all rings that stand in the map."""
        return int(self._tables.services["ring_slots"].sum(dtype=np.int64))

    def _note(self, name: str, words: Words) -> None:
        self._unread.discard(name)
        self._mentions.note(name, words)
        self._sums[name] = zlib.crc32(words.data)

    def pass_over(self, name: str, service: int, backends: frozenset[int]) -> None:
        """Before packets for some VIP pass these over: from now on flows of their slots may have records."""
        if backends != self._passed_over.get(name, frozenset()):
            self._passed_over[name] = backends
            self.writes += 1
        region = self.region(service)
        if region is not None and backends:
            self._store(name, region, service_plan.mark(self._tables.ring[region], backends))

    def distribute(
        self, plan: ServicePlan, service: int, indices: Mapping[str, int], now: float, *, recorded: bool
    ) -> RingPlace:
        """Slots to the members that accept new connections; where the ring stands then. `indices` of backends by
        name; `recorded`: the service had flows, with records, before it had a ring. CapacityError."""
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
        words = service_plan.mark(words, self._passed_over.get(plan.name, ()))
        self._write(plan, region, service_plan.unrest(words) if plan.persistence else words, now)
        if not had_flows:
            self._flux_until.pop(plan.name, None)
            self._young_until[plan.name] = now + YOUNG
        elif now < self._young_until.get(plan.name, now) and not plan.persistence:
            self._spare_the_unused(plan.name, region)
        return RingPlace(region, plan.hashes_port)

    def leave(self, plan: ServicePlan, service: int, now: float) -> RingPlace | None:
        """From a ring to members: flows without a record still run where their slot says, until flux ends."""
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
        """The ring that waited takes the place of the one at rest; None when none waits.

        It begins in flux: while the service's entry changes, word by word, a packet may be looked up in either.
        """
        successor = self._successors.pop(name, None)
        if successor is None:
            return None
        plan, region = successor.plan, successor.region
        fresh = service_plan.fresh(self._owners(plan, plan.ring_slots, successor.indices), recorded=True)
        self.give_up(name)
        self._write(plan, region, service_plan.unrest(fresh), now)
        self.writes += 1  # also when no slot differs: the same word is of other flows now
        self._hashes_port[name] = plan.hashes_port
        if not plan.persistence:
            self._flux_until[name] = now
        return plan, RingPlace(region, plan.hashes_port)

    def forget(self, name: str) -> None:
        """The service is gone."""
        self._flux_until.pop(name, None)
        self._filled.pop(name, None)
        self._persistent.discard(name)
        self._young_until.pop(name, None)
        self._hashes_port.pop(name, None)
        self._successors.pop(name, None)
        self._left.discard(name)
        self._passed_over.pop(name, None)
        self.give_up(name)

    def mark_exceptions(self, positions: Array) -> None:
        """Of slots of the map: connection sync brought records that disagree with their owners."""
        for name, index in self._services.items():
            region = self.region(index)
            if region is None:
                continue
            inside = positions[(positions >= region.start) & (positions < region.stop)] - region.start
            if len(inside):
                words = self._tables.ring[region].copy()
                words[inside] |= np.uint64(EXCEPTIONS) << np.uint64(32)
                self._store(name, region, words)

    def enter_flux(self, name: str, slots: Array, owners: Array, before: Array, now: float) -> None:
        """On another director these slots have passed from the backends `before` to `owners`, and flows from then
        may have no record. Slots that have another owner here, or are in flux themselves, stay."""
        region = self.region(self._services[name])
        if region is None:
            return
        words = self._tables.ring[region].copy()
        inside = slots < len(words)
        slots, owners, before = slots[inside], owners[inside], before[inside]
        present = words[slots]
        same = (service_plan.backends_of(present) == owners) & ((service_plan.flags_of(present) & _FLUX) == 0)
        if same.any():
            words[slots[same]] = service_plan.pack(owners[same], before[same], FLUX | EXCEPTIONS)
            self._store(name, region, words)
            self._young_until.pop(name, None)  # flows ran before, if not here
            until = now + self._longest(self._services[name])
            self._flux_until[name] = max(until, self._flux_until.get(name, until))

    def give_up(self, name: str) -> None:
        """Nobody goes by its ring any more."""
        self._unread.discard(name)
        self._mentions.forget(name)
        self._sums.pop(name, None)

    def settle(self, exceptions: Array, now: float) -> list[str]:
        """End flux where its time is up, and drop the marks that no record needs any more. The services that are at
        rest now and were not before; of those that are always in flux, the ones whose ring is not needed any more.

        `exceptions`: positions in the ring at which a record disagrees with the owner, as a sweep saw them that
        began at `now` or later, and since then no slot was written.
        """
        rest = []
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
        """Whether the ring that is there can become the one that is wanted, slot by slot."""
        same_size = region.stop - region.start == plan.ring_slots
        return same_size and self._hash_of(plan.name, service) == plan.hashes_port

    def _hash_of(self, name: str, service: int) -> bool:
        """Whether the ring that is there hashes ports. What stood in the map when it was adopted counts."""
        if name not in self._hashes_port:
            flag = self._tables.enums["service_flags"]["SERVICE_HASH_ADDRESS"]
            self._hashes_port[name] = not int(self._tables.services[service]["flags"]) & flag
        return self._hashes_port[name]

    def _outgrow(
        self, plan: ServicePlan, service: int, indices: Mapping[str, int], region: slice, now: float
    ) -> RingPlace:
        """Go on by the ring that is there, until all flows have records; see `succeed`."""
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
        """The backend of each slot."""
        ring = self._ring(plan, slots)
        nobody = indices[plan.fallback] if plan.fallback else NO_BACKEND
        by_name = np.array([*(indices[name] for name in ring.names), nobody], np.uint64)
        owners: Words = by_name[ring.owners]  # NOBODY is -1: the last
        return owners

    def _ring(self, plan: ServicePlan, slots: int) -> maglev.Ring:
        """Filled when it changes only: the same plan comes every few seconds."""
        weights = {member.name: member.weight for member in plan.members if member.name != plan.fallback}
        accepting = {member.name for member in plan.members if member.accepts}
        known = self._filled.get(plan.name)
        if known is None or known[0] != (weights, accepting, slots):
            ring = maglev.fill(weights, accepting, slots)
            known = self._filled[plan.name] = ((weights, accepting, slots), ring)
        return known[1]

    def _allocate(self, slots: int) -> slice:
        """The first gap in the ring map that is wide enough."""
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
        """Slots that enter flux have all their time from now on; those that were in it need no more, unless all of
        the ring `begins` it."""
        entered = service_plan.flags_of(words) & ~service_plan.flags_of(self._tables.ring[region]) & _FLUX
        self._store(plan.name, region, words)
        in_flux = (service_plan.flags_of(words) & _FLUX).any()
        begins |= bool(entered.any()) or (plan.name in self._persistent) != bool(plan.persistence)
        (self._persistent.add if plan.persistence else self._persistent.discard)(plan.name)
        if in_flux and (begins or (plan.name not in self._flux_until and not plan.persistence)):
            until = now + plan.flux_seconds
            self._flux_until[plan.name] = max(until, self._flux_until.get(plan.name, until))

    def _spare_the_unused(self, name: str, region: slice) -> None:
        """End flux where the owner before never had a packet: nothing runs there. Else the first backend of a new
        service that comes up would get all its datagrams for minutes. Who came in between has a record."""
        words = self._tables.ring[region]
        in_flux, before = (service_plan.flags_of(words) & _FLUX) != 0, service_plan.before_of(words)
        spared = in_flux & ~np.isin(before, self._with_packets(set(before[in_flux].tolist()) - {NO_BACKEND}))
        rest = service_plan.pack(service_plan.backends_of(words), NO_BACKEND, EXCEPTIONS)
        self._store(name, region, np.where(spared, rest, words))
        if (spared == in_flux).all():
            self._flux_until.pop(name, None)

    def _with_packets(self, backends: Collection[int]) -> list[int]:
        """Those that ever had one."""
        indices = list(backends)
        packets = self._tables.per_cpu_sums("traffic", indices)[:, 0].tolist()
        return [index for index, count in zip(indices, packets, strict=True) if count]

    def _store(self, name: str, region: slice, words: Words) -> None:
        differs = np.flatnonzero(self._tables.ring[region] != words)
        self._tables.ring[region.start + differs] = words[differs]
        self.writes += len(differs)
        if len(differs) or not self._mentions.knows(name):
            self._note(name, words)
