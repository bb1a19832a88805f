# SPDX-License-Identifier: Apache-2.0
"""Brings plans into the maps, in an order that shows packets no half-made service.

What takes traffic is made first and named last: backends, then ring or members, then the service, then its
listeners. What loses traffic goes the other way: listeners, ring or members, then the backend. Every write is a
comparison first, so applying a plan twice changes nothing, and applying it to maps that somebody else touched
repairs them. The maps are the memory: a new daemon goes on from what it finds.

Knows plans and tables; nothing of health, neighbours, configuration or who wants a change.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from xdpdirector.dataplane.capacity import Capacity
from xdpdirector.dataplane.guard_maps import Guarding
from xdpdirector.dataplane.ids import Backend, Indices
from xdpdirector.dataplane.jiffies import Clock
from xdpdirector.dataplane.listeners import Found, Listening
from xdpdirector.dataplane.maps import Array, Tables, correct, count_of
from xdpdirector.dataplane.other_directors import Senders
from xdpdirector.dataplane.retired_totals import Departed
from xdpdirector.dataplane.rings import RingPlace, Rings
from xdpdirector.dataplane.service_entry import guard_flags, ring_fields, service_fields, service_flags
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
from xdpdirector.model.status import Fill, Traffic

_STATES = {State.SERVING: "SERVING", State.DOWN: "DOWN", State.MAINTENANCE: "MAINTENANCE"}
VLAN_AS_IT_CAME = 0xFFFF
NO_BOUND = 0xFFFFFFFF
REASSEMBLY = 30.0  # seconds that Linux waits for a packet's fragments (ip-sysctl: ipfrag_time)
MANY_TURNS = 1 << 40  # connections: per weight, the path compares no more than 2^47


class _Brought(NamedTuple):
    """A plan as it was applied last: who is out, and the entries that came of it."""

    plan: ServicePlan
    out: dict[Address, int]
    entries: list[bytes]


class Dataplane:
    """The one writer of an instance's maps. `now` is monotonic seconds, given by the caller."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self.tables, self.clock = tables, clock
        self.indices = Indices(tables)
        self.rings = Rings(tables, clock, self.indices.services)
        self.guarding = Guarding(tables, clock)
        self._listening = Listening(tables)
        self._departed = Departed(tables)
        self._capacity = Capacity(tables, self.indices, self.rings, self._listening)
        self._senders = Senders(tables)
        tables.reassembly[0] = clock.jiffies(REASSEMBLY)
        self._watched: frozenset[str] = frozenset()
        self._writes = 0
        self._rebounded = False
        """Whether thresholds, or VIPs for which somebody is out, have changed with this plan."""
        self._ports: dict[int, int] = {}
        """Places of interfaces in the devmap, as they were last."""
        self._brought: dict[str, _Brought] = {}
        self._stored: dict[int, tuple[MemberPlan, int, bytes]] = {}
        """Who was written where, with which port, and the entry that came of it."""

    # What is there

    def adopted(self) -> dict[Backend, State]:
        """The backends that the maps already know, and how they serve: what a new daemon starts from."""
        states = {
            self._constant("backend_state", f"BACKEND_{name}"): state for state, name in _STATES.items()
        }
        return {
            key: states[int(self.tables.backends[index]["state"])]
            for key, index in self.indices.backends.items()
            if int(self.tables.backends[index]["state"]) in states
        }

    def adopted_vips(self) -> dict[Backend, dict[Address, bool]]:
        """Of the same backends: for each VIP that their service has, whether packets for it are forwarded to them
        while they serve."""
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
        """False while flows of this service may run without a record."""
        return self.rings.is_settled(service)

    def traffic(self, keys: Collection[Backend]) -> dict[Backend, Traffic]:
        """Of these, read together; nothing of one that has no index."""
        known = {key: index for key in keys if (index := self.indices.backends.get(key)) is not None}
        sums = self.tables.per_cpu_sums("traffic", list(known.values())).tolist()
        counted = dict(zip(known, map(_traffic, sums), strict=True))
        return {key: counted.get(key, Traffic()) for key in keys}

    def departed(self, service: str) -> Traffic:
        """Of the backends that the service had and has no more; nothing of one that has no index."""
        index = self.indices.services.get(service)
        return Traffic() if index is None else _traffic(self._departed.of(index).tolist())

    def total_traffic(self) -> Traffic:
        """Of all that there is and was; it never falls."""
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
        """How full the maps are that hold what is wanted, by their name in `sizes`."""
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
        """Bring the maps to this plan; how many places were written. CapacityError before anything is shown."""
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
            for key in gone:  # there is no room for them beside who comes
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
        self._senders.bring(service, plan.senders())  # before the service says that there are any
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
        """Whether it was applied last and all that came of it stands there still. Most plans are as they were."""
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
        """What stands in the maps of a service that has all its indices, but for counts and slots."""
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
        """Take a service away: its listeners first, so that no packet finds half of it."""
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
        """Grows with each listener that was set or deleted."""
        return self._listening.writes

    def read(self) -> Found:
        """Listeners and VIPs as they stand in the maps. May be called in another thread."""
        return self._listening.read()

    def read_again(self, found: Found | None = None) -> None:
        """Look again at what is remembered, so that the next `apply` repairs it. `found`: what `read` gave, when
        nothing was written since."""
        for ifindex, port in list(self._ports.items()):
            if self.tables.port(port) != ifindex:
                del self._ports[ifindex]
                self._brought.clear()
                self._stored.clear()
        self._listening.check(found or self.read())
        if found is None:
            self.guarding.check()
        else:  # who is denied is read in another thread, a part at a time
            self.guarding.check_limits()
        self._senders.check()

    def settle(self, exceptions: Array, now: float) -> None:
        """See `Rings.settle`. A ring that its service has left is given up when it is at rest; where another one
        waits, that takes its place."""
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
        load = self.tables.loads[index]
        for field in ("active", "inactive", "served"):
            correct(load, field, -count_of(load, field))
        self.tables.per_cpu_zero("traffic", index)
        generation = int(self.tables.backends[index]["generation"]) % 0xFFFF + 1  # 0: never used
        self._store(self.tables.backends, index, {"generation": generation})
        return index

    def _is_free(self, index: int) -> bool:
        never_used = not int(self.tables.backends[index]["generation"])
        return never_used or not self.rings.mentions(index)

    def _store_backend(self, index: int, service: str, member: MemberPlan) -> None:
        """Most of a plan's members are as they were: these cost a comparison with what stands in the map."""
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
        """The path chooses between the two by what it counts; changed ones begin with the upper."""
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
        """The place of an interface in the devmap."""
        if ifindex not in self._ports:
            self._ports[ifindex] = self._found_port(ifindex)
        return self._ports[ifindex]

    def _found_port(self, ifindex: int) -> int:
        """A free one if it has none."""
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
        """By VIP the places, as bits, of those that are down for it while they serve others."""
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
        self._store(self.tables.services, service, ring_fields(ring))  # first: no ring, no use of it
        self._store(self.tables.services, service, fields)

    def _distribute_members(self, service: int, plan: ServicePlan, wanted: dict[str, int]) -> None:
        """Also beside a ring, for flows that its slot's owner is not up for."""
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
        if begins:  # whom another scheduler gave connections to is of no interest now
            before = {}
            for backend in wanted.values():
                load = self.tables.loads[backend]
                correct(load, "served", -count_of(load, "served"))
        if begins or self._rebounded or self._writes != writes:
            self._go_on(before, {wanted[member.name]: weights[member.name] for member in plan.members})

    def even_turns(self) -> None:
        """From time to time: who had too many connections to take its turns has not saved them up."""
        indices = np.array(list(self.indices.services.values()), np.int64)
        services, flag = self.tables.services[indices], self._constant("service_flags", "SERVICE_UNBOUNDED")
        counted = self.tables.loads["served"] + self.tables.loads["served_correction"]
        due = ((services["flags"] & flag) == 0) | (counted.max() > MANY_TURNS)
        for index in indices[due & (services["cost_served"] != 0)].tolist():
            weights = self._weights(index)
            self._go_on(weights, weights)

    def _go_on(self, before: dict[int, int], after: dict[int, int]) -> None:
        """See `schedule.turns`. Connections that come meanwhile are counted beside this."""
        served = {index: count_of(self.tables.loads[index], "served") for index in after}
        for index, count in turns(served, before, after).items():
            correct(self.tables.loads[index], "served", count - served[index])

    def _weights(self, service: int) -> dict[int, int]:
        """Of a service's members by backend, as they stand in the map; 0: it takes no new connections."""
        room = self.tables.members_each
        start, count = service * room, min(room, int(self.tables.services["members"][service]))
        members = self.tables.members[start : start + count]
        return dict(zip(members["backend"].tolist(), members["weight"].tolist(), strict=True))

    # Services

    def _service_index(self, name: str) -> int:
        if name not in self.indices.services:
            index = self.indices.add_service(name)
            self.guarding.begin(index)
            self._departed.begin(index)
            if not self.tables.services[index]["multipliers"].all():
                # As for any hash table that clients fill: nobody may know who meets whom in a bucket.
                self.tables.services["multipliers"][index] = [secrets.randbits(64) | 1 for _ in range(2)]
        return self.indices.services[name]

    def deny(self, prefixes: Collection[Prefix]) -> int:
        """Exactly these clients are denied, of all services; how many places were written. CapacityError."""
        self._writes = self.guarding.deny(prefixes)
        self._guard()
        return self._writes

    def deny_some(self, new: Collection[Prefix], gone: Collection[Prefix]) -> int:
        """These are denied besides, and those no more; else as `deny`."""
        before = self.guarding.denies
        writes = self.guarding.deny_some(new, gone)
        if self.guarding.denies != before:
            self._guard()
        return writes

    def watch(self, services: Collection[str]) -> None:
        """Exactly the decisions of these are traced, by bpf/trace.h."""
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
