# SPDX-License-Identifier: Apache-2.0
"""Applies service plans to the maps, in an order that never shows packets an incomplete service.

Additions go from backends to ring or members, to the service, to its listeners; removals go the other way.
Every write compares first, so applying a plan twice changes nothing, and applying it to maps that another
process changed repairs them. The maps are the persistent state: a new daemon continues from them.

Knows plans and tables; nothing of health, neighbours, configuration or who requests a change.
"""

from __future__ import annotations

import secrets
from array import array
from collections.abc import Collection, Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from xdpdirector.dataplane.capacity import Capacity
from xdpdirector.dataplane.guard_maps import GuardMaps
from xdpdirector.dataplane.ids import Backend, Indices
from xdpdirector.dataplane.jiffies import Clock
from xdpdirector.dataplane.listeners import Found, Listening
from xdpdirector.dataplane.maps import Array, Tables, correct, count_of
from xdpdirector.dataplane.other_directors import Senders
from xdpdirector.dataplane.retired_totals import RetiredTotals
from xdpdirector.dataplane.rings import RingPlace, Rings
from xdpdirector.dataplane.service_entry import (
    guard_flags,
    ring_fields,
    service_fields,
    service_flags,
    timeout_fields,
)
from xdpdirector.dataplane.service_plan import (
    COSTS,
    MemberPlan,
    ServicePlan,
    State,
    turns,
)
from xdpdirector.dataplane.vip_ids import Fronts
from xdpdirector.errors import CapacityError
from xdpdirector.model import Address, ServiceSpec
from xdpdirector.model.guard import Prefix
from xdpdirector.model.status import COUNTERS, Fill, Refused, ServiceCounters, Traffic

_FIELDS = ("packets", "bytes", "connections", "refused")
"""Of a row of counters: those of `struct traffic`, and refused connections."""
_STATES = {State.SERVING: "SERVING", State.DOWN: "DOWN", State.MAINTENANCE: "MAINTENANCE"}
VLAN_AS_IT_CAME = 0xFFFF
NO_BOUND = 0xFFFFFFFF
REASSEMBLY = 30.0  # seconds that Linux waits for a packet's fragments (ip-sysctl: ipfrag_time)
MANY_TURNS = 1 << 40  # connections: per unit of weight, the packet path compares at most 2^47


class _Brought(NamedTuple):
    """The plan last applied, with the resulting `out` masks and map entries."""

    plan: ServicePlan
    out: dict[Address, int]
    entries: list[bytes]


class Dataplane:
    """The only writer of an instance's maps. `now` is monotonic seconds, given by the caller."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self.tables, self.clock = tables, clock
        self.indices = Indices(tables)
        self.rings = Rings(tables, clock, self.indices.services)
        self.guarding = GuardMaps(tables, clock)
        self._listening = Listening(tables)
        self._departed = RetiredTotals(tables)
        self._capacity = Capacity(tables, self.indices, self.rings, self._listening)
        self._senders = Senders(tables)
        tables.reassembly[0] = clock.jiffies(REASSEMBLY)
        self._watched: frozenset[str] = frozenset()
        self._writes = 0
        self._rebounded = False
        """True if this plan changed thresholds, or for which VIPs backends are down."""
        self._ports: dict[int, int] = {}
        """Cache: devmap index by ifindex."""
        self._brought: dict[str, _Brought] = {}
        self._times = lru_cache(maxsize=64)(partial(timeout_fields, tables.enums, clock.jiffies))
        """Nearly all services have the same time-outs."""
        self._stored: dict[int, tuple[MemberPlan, int, bytes]] = {}
        """By backend index: the plan and devmap index last written, and the resulting entry."""

    # Reading

    def adopted(self) -> dict[Backend, State]:
        """The backends in the maps with their states: the starting point of a new daemon."""
        states = {
            self._constant("backend_state", f"BACKEND_{name}"): state for state, name in _STATES.items()
        }
        return {
            key: states[int(self.tables.backends[index]["state"])]
            for key, index in self.indices.backends.items()
            if int(self.tables.backends[index]["state"]) in states
        }

    def adopted_vips(self) -> dict[Backend, dict[Address, bool]]:
        """For the same backends: for each VIP of their service, whether they receive its packets while
        serving."""
        out = {name: self.fronts.out(index) for name, index in self.indices.services.items()}
        partial = self._constant("backend_flags", "BACKEND_PARTIAL")
        return {
            key: {
                vip: not (
                    int(self.tables.backends[index]["flags"]) & partial
                    and places >> int(self.tables.backends[index]["place"]) & 1
                )
                for vip, places in out.get(key[0], {}).items()
            }
            for key, index in self.indices.backends.items()
        }

    def services(self) -> set[str]:
        """The services that have an index."""
        return set(self.indices.services)

    def is_settled(self, service: str) -> bool:
        """False while flows of this service may exist without a record."""
        return self.rings.is_settled(service)

    def traffic(self, keys: Collection[Backend]) -> dict[Backend, Traffic]:
        """Traffic of these backends, in one read; zero for a backend without an index."""
        known = {key: index for key in keys if (index := self.indices.backends.get(key)) is not None}
        sums = self.tables.per_cpu_sums("traffic", list(known.values())).tolist()
        counted = dict(zip(known, map(_traffic, sums), strict=True))
        return {key: counted.get(key, Traffic()) for key in keys}

    def departed(self, services: Collection[str]) -> dict[str, Traffic]:
        """Traffic of these services' removed backends; zero for a service without an index."""
        known = self._known(services)
        counted = dict(
            zip(known, map(_traffic, self._departed.of(list(known.values())).tolist()), strict=True)
        )
        return {name: counted.get(name, Traffic()) for name in services}

    def refused(self, services: Collection[str]) -> dict[str, Refused]:
        """Connections that these services' limits refused, in one read; zero for a service without an index."""
        known = self._known(services)
        counted = dict(zip(known, map(_refused, self.guarding.refused(list(known.values()))), strict=True))
        return {name: counted.get(name, Refused()) for name in services}

    def _known(self, services: Collection[str]) -> dict[str, int]:
        """The indices of those that have one."""
        known = self.indices.services
        return {name: known[name] for name in services if name in known}

    def service_counters(self) -> ServiceCounters:
        """The counters of all services, in two reads."""
        services, backends = self.indices.services, self.indices.backends
        indices = list(services.values())
        counters = np.zeros((self.tables.entries("services"), len(COUNTERS)), np.uint64)
        owners = np.array([services[name] for name, _ in backends], np.int64)
        np.add.at(counters[:, :3], owners, self.tables.per_cpu_sums("traffic", list(backends.values())))
        counters[indices, :3] += self._departed.of(indices)
        counters[indices, 3] = self.guarding.refused(indices).sum(axis=1)
        columns = [_FIELDS.index(name) for name in COUNTERS]
        return ServiceCounters(tuple(services), array("Q", counters[indices][:, columns].tobytes()))

    def total_traffic(self) -> Traffic:
        """Traffic of all present and former backends; never decreases."""
        sums = self.tables.per_cpu_sums("traffic", list(self.indices.backends.values()))
        return _traffic((sums.sum(axis=0) + self._departed.total()).tolist())

    def verdicts(self) -> dict[str, int]:
        """Packets by reason."""
        reasons = {name.lower(): i for name, i in self.tables.enums["reason"].items() if name != "REASONS"}
        counts = self.tables.per_cpu_sums("verdicts", list(reasons.values()))[:, 0].tolist()
        return dict(zip(reasons, counts, strict=True))

    def clients_turned_away(self) -> int:
        return int(self.tables.per_cpu_sum("turned_away", 0)[0])

    def load(self, key: Backend) -> tuple[int, int]:
        """Active and inactive connections of a backend."""
        load = self.tables.loads[self.indices.backends[key]]
        return max(0, count_of(load, "active")), max(0, count_of(load, "inactive"))

    def fill(self) -> dict[str, Fill]:
        """Fill level of the maps with desired state, by their names in `sizes`."""
        sizes, services = self.tables.loaded.sizes, self.indices.services
        return {
            "services": Fill(entries=len(services), room=sizes.services),
            "backends": Fill(entries=len(self.indices.backends), room=sizes.backends),
            "listeners": Fill(entries=self._listening.entries, room=sizes.listeners),
            "ring_slots": Fill(entries=self.rings.slots, room=sizes.ring_slots),
            "denied": Fill(entries=self.guarding.places, room=sizes.denied),
        }

    # Changes

    def apply(self, plan: ServicePlan, now: float) -> int:
        """Apply the plan; returns the number of words or entries written. CapacityError before packets see
        any of it."""
        if self._is_brought(plan, now):
            return 0
        self._brought.pop(plan.name, None)
        self._writes = 0
        before = self.rings.writes + self._listening.writes + self._senders.writes
        listeners = frozenset(plan.listeners)
        self._capacity.require_members(plan.name, len(plan.members), is_ring=plan.scheduler.is_ring)
        self._listening.require_room([(self.indices.services.get(plan.name), listeners)])
        service = self._service_index(plan.name)
        names = {member.name for member in plan.members}
        gone = [key for key in self.indices.of_service(plan.name) if key[1] not in names]
        try:
            wanted = self._backend_indices(plan)
        except CapacityError:
            if not gone:
                raise
            for key in gone:  # no room for old and new backends together
                self._remove_backend(key)
            gone, wanted = [], self._backend_indices(plan)
        out = self._out(plan)
        passed_over = frozenset(wanted[name] for name in plan.passed_over())
        self.rings.pass_over(plan.name, service, passed_over if plan.scheduler.is_ring else frozenset())
        self._rebounded = out != self.fronts.wanted_out(service)
        self._writes += self.fronts.add_out(service, out)
        for member in plan.members:
            if member.state is State.SERVING:
                self._store_backend(wanted[member.name], plan.name, member)
        self._senders.bring(service, plan.senders())  # before the service's flags say that there are senders
        self._distribute(service, plan, wanted, now)
        for member in plan.members:
            if member.state is not State.SERVING:
                self._store_backend(wanted[member.name], plan.name, member)
        for key in gone:
            self._remove_backend(key)
        self._listening.bring(service, listeners)
        self._writes += self.fronts.set_out(service, out)
        self._brought[plan.name] = _Brought(plan, out, self._entries(plan))
        writes = self.rings.writes + self._listening.writes + self._senders.writes
        return self._writes + writes - before

    def _is_brought(self, plan: ServicePlan, now: float) -> bool:
        """True if the plan was applied last and its results are still in the maps. Most plans are unchanged."""
        brought = self._brought.get(plan.name)
        if brought is None or (brought.plan is not plan and brought.plan != plan):
            return False
        service = self.indices.services[plan.name]
        return (
            self._entries(plan) == brought.entries
            and self._listening.is_brought(service, frozenset(plan.listeners))
            and self.fronts.is_out(service, brought.out)
            and self.guarding.is_limited(service, plan.limit)
            and self._senders.is_brought(service, plan.senders())
            and self.rings.is_brought(plan.name, service, now)
        )

    def _entries(self, plan: ServicePlan) -> list[bytes]:
        """The map entries of a service with all indices assigned, without counters and slots."""
        tables, service, room = self.tables, self.indices.services[plan.name], self.tables.members_each
        members = min(room, len(plan.members))
        indices = [self.indices.backends[plan.name, member.name] for member in plan.members]
        return [
            tables.services[service : service + 1].tobytes(),
            tables.members[service * room : service * room + members].tobytes(),
            tables.backends[indices].tobytes(),
            tables.loads["upper"][indices].tobytes(),
            tables.loads["lower"][indices].tobytes(),
        ]

    def remove(self, name: str) -> None:
        """Remove a service: its listeners first, so that no packet finds an incomplete service."""
        service = self.indices.services[name]
        self._brought.pop(name, None)
        self._listening.bring(service, frozenset())
        self._store(self.tables.services, service, {"ring_slots": 0, "ring_start": 0, "members": 0})
        for key in self.indices.of_service(name):
            self._remove_backend(key)
        self._departed.leave(service)
        self.indices.remove_service(name)
        self._senders.bring(service, frozenset())
        self.rings.forget(name)
        self.fronts.forget(service)

    @property
    def fronts(self) -> Fronts:
        return self._listening.fronts

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
        for ifindex, port in list(self._ports.items()):
            if self.tables.port(port) != ifindex:
                del self._ports[ifindex]
                self._brought.clear()
                self._stored.clear()
        self._listening.check(found or self.read())
        if found is None:
            self.guarding.check()
        else:  # denied prefixes are compared in another thread, a part at a time
            self.guarding.check_limits()
        self._senders.check()

    def settle(self, exceptions: Array, now: float) -> None:
        """See `Rings.settle`. Releases a settled ring that its service no longer uses; a waiting successor
        replaces it."""
        for name in self.rings.settle(exceptions, now):
            index, flags = self.indices.services[name], self.tables.enums["service_flags"]
            entry = self.tables.services[index]
            if not int(entry["flags"]) & flags["SERVICE_RING"]:
                self._store(self.tables.services, index, ring_fields(None))
                self.rings.give_up(name)
                said = int(entry["flags"]) & ~flags["SERVICE_HASH_ADDRESS"]
                self._store(self.tables.services, index, {"flags": said})
            elif follows := self.rings.succeed(name, now):
                plan, ring = follows
                self._store(self.tables.services, index, ring_fields(ring))
                self._store(self.tables.services, index, {"flags": service_flags(plan, ring, flags)})

    # Backends

    def _backend_indices(self, plan: ServicePlan) -> dict[str, int]:
        return {member.name: self._backend_index(plan.name, member) for member in plan.members}

    def _backend_index(self, service: str, member: MemberPlan) -> int:
        key = (service, member.name)
        if key in self.indices.backends:
            return self.indices.backends[key]
        index = self.indices.add_backend(key, self._is_free)
        before = int(self.tables.backends["generation"][index])
        if before:  # else it was never used, and all its counters are 0
            load = self.tables.loads[index]
            for field in ("active", "inactive", "served"):
                correct(load, field, -count_of(load, field))
            self.tables.per_cpu_zero("traffic", index)
        self._store(self.tables.backends, index, {"generation": before % 0xFFFF + 1})
        return index

    def _is_free(self, index: int) -> bool:
        never_used = not int(self.tables.backends[index]["generation"])
        return never_used or not self.rings.mentions(index)

    def _store_backend(self, index: int, service: str, member: MemberPlan) -> None:
        """Write a backend's entry. Most members are unchanged and cost one comparison with the map."""
        port = 0 if member.hop is None or member.hop.local else self._port(member.hop.ifindex)
        entry = self.tables.backends[index : index + 1]
        if self._stored.get(index) != (member, port, entry.tobytes()):
            place = self.indices.places[service][member.name]
            self._store(self.tables.backends, index, self._backend_fields(member, port, place))
            self._stored[index] = (member, port, entry.tobytes())
        self._set_thresholds(self.tables.loads[index], member.upper or NO_BOUND, member.lower or NO_BOUND)

    def _backend_fields(self, member: MemberPlan, port: int, place: int) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "state": self._constant("backend_state", f"BACKEND_{_STATES[member.state]}"),
            "place": place,
        }
        if member.hop:
            fields["addresses"] = member.hop.mac + member.hop.source_mac
            fields["ifindex"] = member.hop.ifindex
            fields["port"] = port
            flag = "BACKEND_LOCAL" if member.hop.local else "BACKEND_RESOLVED"
            fields["flags"] = self._constant("backend_flags", flag)
            fields["vlan"] = VLAN_AS_IT_CAME if member.hop.vlan is None else member.hop.vlan
        else:
            fields["flags"] = 0
        if member.accepts:
            fields["flags"] |= self._constant("backend_flags", "BACKEND_ACCEPTS")
        if member.router:
            fields["flags"] |= self._constant("backend_flags", "BACKEND_ROUTER")
        if member.out:
            fields["flags"] |= self._constant("backend_flags", "BACKEND_PARTIAL")
        return fields

    def _set_thresholds(self, load: Array, upper: int, lower: int) -> None:
        """The packet path chooses one of the two by its count; after a change, it starts with the upper."""
        if (int(load["upper"]), int(load["lower"])) != (upper, lower):
            load["upper"], load["lower"] = upper, lower
            load["bound"] = upper
            self._rebounded = True
            self._writes += 1

    def _remove_backend(self, key: Backend) -> None:
        index = self.indices.backends[key]
        absent = self._constant("backend_state", "BACKEND_ABSENT")
        self._store(self.tables.backends, index, {"state": absent, "flags": 0})
        self._departed.count(self.indices.services[key[0]], index)
        self.indices.remove_backend(key)
        self._stored.pop(index, None)

    def _port(self, ifindex: int) -> int:
        """The devmap index of an interface."""
        if ifindex not in self._ports:
            self._ports[ifindex] = self._found_port(ifindex)
        return self._ports[ifindex]

    def _found_port(self, ifindex: int) -> int:
        """The devmap index in the map, or a free one."""
        free = None
        for port in range(self.tables.entries("ports")):
            present = self.tables.port(port)
            if present == ifindex:
                return port
            if present is None and free is None:
                free = port
        if free is None:
            raise CapacityError(f"there is room for {self.tables.entries('ports')} interfaces")
        self.tables.set_port(free, ifindex)
        self._writes += 1
        return free

    def _out(self, plan: ServicePlan) -> dict[Address, int]:
        """By VIP: bit mask of the places of backends that are down for it while they serve others."""
        out: dict[Address, int] = {}
        for member in plan.members:
            for vip in member.out:
                out[vip] = out.get(vip, 0) | 1 << self.indices.places[plan.name][member.name]
        return out

    # Rings and members

    def _distribute(self, service: int, plan: ServicePlan, wanted: dict[str, int], now: float) -> None:
        if plan.scheduler.is_ring:
            recorded = self._listening.has(service)
            ring: RingPlace | None = self.rings.distribute(plan, service, wanted, now, recorded=recorded)
        else:
            ring = self.rings.leave(plan, service, now)
        self._distribute_members(service, plan, wanted)
        self._writes += self.guarding.limit(service, plan.limit)
        fields = service_fields(
            plan,
            ring,
            wanted,
            self.tables.enums,
            self.clock.jiffies,
            denies=self.guarding.denies,
            watched=plan.name in self._watched,
            directed=self._senders.has(service),
        )
        fields |= self._times(plan.timeouts)
        # The ring first: `ring_slots` 0 makes the packet path use none, whatever the flags say.
        self._store(self.tables.services, service, ring_fields(ring))
        self._store(self.tables.services, service, fields)

    def _distribute_members(self, service: int, plan: ServicePlan, wanted: dict[str, int]) -> None:
        """Write the members; a ring service needs them for flows whose slot owner is down."""
        room, writes, before = self.tables.members_each, self._writes, self._weights(service)
        is_weighted = COSTS[plan.scheduler].weighted or plan.scheduler.is_ring
        weights = {
            member.name: (member.weight if is_weighted else 1) if member.accepts else 0
            for member in plan.members
        }
        for number, member in enumerate(plan.members[:room]):
            fields = {
                "backend": wanted[member.name],
                "weight": weights[member.name],
                "place": self.indices.places[plan.name][member.name],
            }
            self._store(self.tables.members, service * room + number, fields)
        if not COSTS[plan.scheduler].served:
            return
        begins = not int(self.tables.services["cost_served"][service])
        if begins:  # served counts of another scheduler do not matter
            before = {}
            for backend in wanted.values():
                load = self.tables.loads[backend]
                correct(load, "served", -count_of(load, "served"))
        if begins or self._rebounded or self._writes != writes:
            self._go_on(before, {wanted[member.name]: weights[member.name] for member in plan.members})

    def even_turns(self) -> None:
        """Called periodically: a backend that was over its threshold must not catch up on missed turns."""
        indices = np.array(list(self.indices.services.values()), np.int64)
        services, flag = self.tables.services[indices], self._constant("service_flags", "SERVICE_UNBOUNDED")
        counted = self.tables.loads["served"] + self.tables.loads["served_correction"]
        due = ((services["flags"] & flag) == 0) | (counted.max() > MANY_TURNS)
        for index in indices[due & (services["cost_served"] != 0)].tolist():
            weights = self._weights(index)
            self._go_on(weights, weights)

    def _go_on(self, before: dict[int, int], after: dict[int, int]) -> None:
        """See `service_plan.turns`. The correction preserves connections counted meanwhile."""
        served = {index: count_of(self.tables.loads[index], "served") for index in after}
        for index, count in turns(served, before, after).items():
            correct(self.tables.loads[index], "served", count - served[index])

    def _weights(self, service: int) -> dict[int, int]:
        """Weights of a service's members by backend, from the map; 0: takes no new connections."""
        room = self.tables.members_each
        start, count = service * room, min(room, int(self.tables.services["members"][service]))
        members = self.tables.members[start : start + count]
        return dict(zip(members["backend"].tolist(), members["weight"].tolist(), strict=True))

    # Services

    def _service_index(self, name: str) -> int:
        if name not in self.indices.services:
            index = self.indices.add_service(name)
            if self.tables.services["multipliers"][index].all():
                self.guarding.begin(index)
                self._departed.begin(index)
            else:  # it was never used, and all its counters are 0
                # As for any hash table keyed by clients: bucket collisions must not be predictable.
                self.tables.services["multipliers"][index] = [secrets.randbits(64) | 1 for _ in range(2)]
        return self.indices.services[name]

    def deny(self, prefixes: Collection[Prefix]) -> int:
        """Deny exactly these prefixes, for all services; returns the number of entries written.
        CapacityError."""
        self._writes = self.guarding.deny(prefixes)
        self._guard()
        return self._writes

    def deny_some(self, new: Collection[Prefix], gone: Collection[Prefix]) -> int:
        """Deny `new` as well, and no longer deny `gone`; otherwise as `deny`."""
        before = self.guarding.denies
        writes = self.guarding.deny_some(new, gone)
        if self.guarding.denies != before:
            self._guard()
        return writes

    def watch(self, services: Collection[str]) -> None:
        """Trace the decisions of exactly these services (bpf/trace.h)."""
        self._watched = frozenset(services)
        self._guard()

    def _guard(self) -> None:
        flags, denies = self.tables.enums["guard_flags"], self.guarding.denies
        for name, index in self.indices.services.items():
            limits = bool(int(self.tables.services[index]["guard"]) & flags["GUARD_LIMITS"])
            said = guard_flags(
                flags,
                denies=denies,
                limits=limits,
                watched=name in self._watched,
                directed=self._senders.has(index),
            )
            self._store(self.tables.services, index, {"guard": said})

    def require_room(self, services: Mapping[str, ServiceSpec], gone: Collection[str] = ()) -> None:
        """See `Capacity.require_room`."""
        self._capacity.require_room(services, gone)

    # Writing

    def _constant(self, enum: str, name: str) -> int:
        return self.tables.enums[enum][name]

    def _store(self, array: Array, index: int, fields: dict[str, Any]) -> None:
        self._writes += self.tables.store(array, index, fields)


def _traffic(row: list[int]) -> Traffic:
    packets, octets, connections = row
    return Traffic(packets=packets, bytes=octets, connections=connections)


def _refused(row: Array) -> Refused:
    by_service, by_source = row.tolist()
    return Refused(by_service=by_service, by_source=by_source)
