# SPDX-License-Identifier: Apache-2.0
"""Applies service plans to the maps, in an order that never shows packets an incomplete service.

Additions go from backends to ring or members, to the service, to its listeners; removals go the other way.
Every write compares first, so applying a plan twice changes nothing, and applying it to maps that another
process changed repairs them. The maps are the persistent state: a new daemon continues from them.

Holds the order alone. What is written stands in `service_map`, `backend_map`, `member_map`, `rings`, `listeners`,
`guard_maps`, `quic_ids` and `other_directors`. Knows nothing of health, neighbours, configuration or who
requests a change.
"""

from __future__ import annotations

from collections.abc import Collection
from hashlib import blake2b
from typing import NamedTuple

from xdpdirector.dataplane.backend_map import BackendMap
from xdpdirector.dataplane.capacity import Capacity
from xdpdirector.dataplane.counters import Counters
from xdpdirector.dataplane.guard_maps import GuardMaps
from xdpdirector.dataplane.ids import Backend, Indices
from xdpdirector.dataplane.jiffies import Clock
from xdpdirector.dataplane.listeners import Found, Listening
from xdpdirector.dataplane.maps import Array, Tables
from xdpdirector.dataplane.member_map import MemberMap
from xdpdirector.dataplane.other_directors import Senders
from xdpdirector.dataplane.quic_ids import QuicIds
from xdpdirector.dataplane.retired_totals import RetiredTotals
from xdpdirector.dataplane.rings import RingPlace, Rings
from xdpdirector.dataplane.service_map import ServiceMap
from xdpdirector.dataplane.service_plan import ServicePlan, State
from xdpdirector.dataplane.vip_ids import Fronts
from xdpdirector.errors import CapacityError
from xdpdirector.model import Address
from xdpdirector.model.guard import Prefix

DIGEST = 16  # octets
REASSEMBLY = 30.0  # seconds that Linux waits for a packet's fragments (ip-sysctl: ipfrag_time)


class _Applied(NamedTuple):
    """The plan last applied, with the resulting `out` masks and a digest of the map entries."""

    plan: ServicePlan
    out: dict[Address, int]
    entries: bytes


class Dataplane:
    """The only writer of an instance's maps. `now` is monotonic seconds, given by the caller."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self.tables, self.clock = tables, clock
        self.indices = Indices(tables)
        self.rings = Rings(tables, clock, self.indices.services)
        self.guarding = GuardMaps(tables, clock)
        self._listening = Listening(tables)
        self._senders = Senders(tables)
        self._quic_ids = QuicIds(tables)
        self._departed = RetiredTotals(tables)
        self.counters = Counters(tables, self.indices, self._departed, self.guarding)
        self.backends = BackendMap(tables, self.indices, self.rings, self._departed)
        self.capacity = Capacity(
            tables, self.indices, self.rings, self._listening, self.guarding, self.backends
        )
        self.members = MemberMap(tables, self.indices)
        self._services = ServiceMap(tables, clock, self.indices, self.guarding, self._senders, self._departed)
        tables.reassembly[0] = clock.jiffies(REASSEMBLY)
        self._writes = 0
        """Of masks of VIPs and limits; the other parts count their own."""
        self._applied: dict[str, _Applied] = {}

    def services(self) -> set[str]:
        """The services that have an index."""
        return set(self.indices.services)

    @property
    def fronts(self) -> Fronts:
        return self._listening.fronts

    # A service

    def apply(self, plan: ServicePlan, now: float) -> int:
        """Apply the plan; returns the number of words or entries written. CapacityError before packets see
        any of it."""
        if self._is_applied(plan, now):
            return 0
        self._applied.pop(plan.name, None)
        before, thresholds = self._total_writes(), self.backends.threshold_writes
        self.capacity.require_members(plan.name, len(plan.members))
        self._listening.require_room([(self.indices.services.get(plan.name), plan.listeners)])
        service = self._services.assign(plan.name)
        names = {member.name for member in plan.members}
        gone = [key for key in self.indices.of_service(plan.name) if key[1] not in names]
        try:
            wanted = self.backends.assign(plan)
        except CapacityError:
            if not gone:
                raise
            self._remove_backends(service, gone)  # no room for old and new backends together
            gone, wanted = [], self.backends.assign(plan)
        out = self._out(plan)
        passed_over = frozenset(wanted[name] for name in plan.passed_over())
        self.rings.pass_over(plan.name, service, passed_over if plan.scheduler.is_ring else frozenset())
        is_out_changed = out != self.fronts.wanted_out(service)
        self._writes += self.fronts.add_out(service, out)
        for member in plan.members:
            if member.state is State.SERVING:
                self.backends.store(wanted[member.name], plan.name, member)
        self._senders.bring(service, plan.senders())  # before the service's flags say that there are senders
        self._quic_ids.bring(service, _quic_ids(plan, self.indices))  # and before they say that there are IDs
        ring = self._distribute_ring(service, plan, wanted, now)
        listed = self.members.store(
            service,
            plan,
            wanted,
            thresholds_changed=is_out_changed or self.backends.threshold_writes != thresholds,
        )
        self._writes += self.guarding.limit(service, plan.limit)
        self._services.store(service, plan, ring, wanted, listed)
        for member in plan.members:
            if member.state is not State.SERVING:
                self.backends.store(wanted[member.name], plan.name, member)
        self._remove_backends(service, gone)
        self._listening.bring(service, plan.listeners)
        self._writes += self.fronts.set_out(service, out)
        self._applied[plan.name] = _Applied(plan, out, self._entries(plan))
        return self._total_writes() - before

    def _remove_backends(self, service: int, gone: Collection[Backend]) -> None:
        places = sum({1 << self.indices.places[name][backend] for name, backend in gone})
        for key in gone:
            self.backends.remove(key)
        if places:
            self.fronts.leave_locality(service, places)

    def _total_writes(self) -> int:
        parts = (
            self.backends,
            self.members,
            self._services,
            self.rings,
            self._listening,
            self._senders,
            self._quic_ids,
        )
        return self._writes + sum(part.writes for part in parts)

    def _out(self, plan: ServicePlan) -> dict[Address, int]:
        """By VIP: bit mask of the places of backends that are down for it while they serve others."""
        out: dict[Address, int] = {}
        for member in plan.members:
            for vip in member.out:
                out[vip] = out.get(vip, 0) | 1 << self.indices.places[plan.name][member.name]
        return out

    def _distribute_ring(
        self, service: int, plan: ServicePlan, wanted: dict[str, int], now: float
    ) -> RingPlace | None:
        if not plan.scheduler.is_ring:
            return self.rings.leave(plan, service, now)
        recorded = self._listening.has(service)
        return self.rings.distribute(plan, service, wanted, now, recorded=recorded)

    def _is_applied(self, plan: ServicePlan, now: float) -> bool:
        """True if the plan was applied last and its results are still in the maps. Most plans are unchanged."""
        applied = self._applied.get(plan.name)
        if applied is None or (applied.plan is not plan and applied.plan != plan):
            return False
        service = self.indices.services[plan.name]
        return (
            self._entries(plan) == applied.entries
            and self._listening.is_brought(service, plan.listeners)
            and self.fronts.is_out(service, applied.out)
            and self.guarding.is_limited(service, plan.limit)
            and self._senders.is_brought(service, plan.senders())
            and self._quic_ids.is_brought(service, _quic_ids(plan, self.indices))
            and self.rings.is_brought(plan.name, service, now)
        )

    def _entries(self, plan: ServicePlan) -> bytes:
        """A digest of the map entries of a service with all indices assigned, without counters and slots. They
        are themselves 400 octets and more."""
        tables, service, room = self.tables, self.indices.services[plan.name], self.tables.members_each
        members = min(room, int(tables.services["members"][service]))
        indices = [self.indices.backends[plan.name, member.name] for member in plan.members]
        parts = (
            tables.services[service : service + 1],
            tables.members[service * room : service * room + members],
            tables.backends[indices],
            tables.tunnels[indices],
            tables.loads["upper"][indices],
            tables.loads["lower"][indices],
        )
        return blake2b(b"".join(part.tobytes() for part in parts), digest_size=DIGEST).digest()

    def remove(self, name: str) -> None:
        """Remove a service: its listeners first, so that no packet finds an incomplete service."""
        service = self.indices.services[name]
        self._applied.pop(name, None)
        self._listening.bring(service, ())
        self._services.clear(service)
        self._quic_ids.bring(service, {})
        self._remove_backends(service, self.indices.of_service(name))
        self._departed.leave(service)
        self.indices.remove_service(name)
        self._senders.bring(service, frozenset())
        self.rings.forget(name)
        self.fronts.forget(service)

    def settle(self, exceptions: Array, now: float) -> None:
        """See `Rings.settle`. Releases a settled ring that its service no longer uses; a waiting successor
        replaces it."""
        for name in self.rings.settle(exceptions, now):
            service = self.indices.services[name]
            if not self._services.uses_ring(service):
                self._services.clear_ring(service)
                self.rings.give_up(name)
                self._services.clear_hash_flag(service)
            elif successor := self.rings.succeed(name, now):
                self._services.replace_ring(service, *successor)

    # All services

    def deny(self, prefixes: Collection[Prefix]) -> int:
        """Deny exactly these prefixes, for all services; returns the number of entries written.
        CapacityError."""
        before = self._services.writes
        writes = self.guarding.deny(prefixes)
        self._services.store_guard_flags()
        return writes + self._services.writes - before

    def deny_some(self, new: Collection[Prefix], gone: Collection[Prefix]) -> int:
        """Deny `new` as well, and no longer deny `gone`; otherwise as `deny`."""
        before = self.guarding.denies
        writes = self.guarding.deny_some(new, gone)
        if self.guarding.denies != before:
            self._services.store_guard_flags()
        return writes

    def watch(self, services: Collection[str]) -> None:
        """See `ServiceMap.watch`."""
        self._services.watch(services)

    # What is in the maps

    @property
    def listener_writes(self) -> int:
        """Incremented with each listener set or deleted."""
        return self._listening.writes

    def read(self) -> Found:
        """Read listeners and VIPs from the maps. Thread-safe."""
        return self._listening.read()

    def read_again(self, found: Found | None = None) -> None:
        """Refresh caches of map contents, so that the next `apply` repairs differences. `found`: result of
        `read`, if nothing was written since."""
        if not self.backends.check():
            self._applied.clear()
        self._listening.check(found or self.read())
        if found is None:
            self.guarding.check()
        else:  # denied prefixes are compared in another thread, a part at a time
            self.guarding.check_limits()
        self._senders.check()
        self._quic_ids.check()


def _quic_ids(plan: ServicePlan, indices: Indices) -> dict[bytes, int]:
    """Indices of backends by their IDs in connection IDs. On the way to another plan two may have the same ID: the
    first, which stays, has it."""
    members = reversed(plan.members) if plan.quic else ()
    return {member.quic_id: indices.backends[plan.name, member.name] for member in members if member.quic_id}
