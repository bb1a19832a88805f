# SPDX-License-Identifier: Apache-2.0
"""Brings plans into the maps, in an order that shows packets no half-made service.

What takes traffic is made first and named last: backends, then ring or members, then the service, then its
listeners. What loses traffic goes the other way: listeners, ring or members, then the backend. Every write is a
comparison first, so applying a plan twice changes nothing, and applying it to maps that somebody else touched
repairs them. The maps are the memory: a new daemon goes on from what it finds.

Knows plans and tables; nothing of health, neighbours, configuration or who wants a change.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

from xdpdirector import schedule
from xdpdirector.errors import CapacityError
from xdpdirector.indices import Backend, Indices
from xdpdirector.listening import Listening
from xdpdirector.model import Persistence
from xdpdirector.rings import Rings
from xdpdirector.schedule import COSTS, FLUX, NO_BACKEND, MemberPlan, ServicePlan, State
from xdpdirector.tables import Array, Clock, Tables
from xdpdirector.views import Traffic

_STATES = {State.SERVING: "SERVING", State.DOWN: "DOWN", State.MAINTENANCE: "MAINTENANCE"}


VLAN_AS_IT_CAME = 0xFFFF


class Dataplane:
    """The one writer of an instance's maps. `now` is monotonic seconds, given by the caller."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self.tables, self.clock = tables, clock
        self.indices = Indices(tables)
        self._rings = Rings(tables)
        self._listening = Listening(tables)
        self._flux_until: dict[str, float] = {}
        self._writes = 0

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

    def services(self) -> set[str]:
        """The services that have an index."""
        return set(self.indices.services)

    def is_settled(self, service: str) -> bool:
        """False while flows of this service may run without a record."""
        return service not in self._flux_until

    def traffic(self, key: Backend) -> Traffic:
        packets, octets, connections = self.tables.per_cpu_sum("traffic", self.indices.backends[key])
        return Traffic(packets=int(packets), bytes=int(octets), connections=int(connections))

    def verdicts(self) -> dict[str, int]:
        """Packets by reason."""
        reasons = {name.lower(): i for name, i in self.tables.enums["reason"].items() if name != "REASONS"}
        return {name: int(self.tables.per_cpu_sum("verdicts", index)[0]) for name, index in reasons.items()}

    def load(self, key: Backend) -> tuple[int, int]:
        """Active and inactive connections of a backend."""
        load = self.tables.loads[self.indices.backends[key]]
        active = int(load["active"]) + int(load["active_correction"])
        inactive = int(load["inactive"]) + int(load["inactive_correction"])
        return max(0, active), max(0, inactive)

    # Changes

    def apply(self, plan: ServicePlan, now: float) -> int:
        """Bring the maps to this plan; how many places were written. CapacityError before anything is shown."""
        self._writes = 0
        self._require_room(plan)
        service = self.indices.add_service(plan.name)
        wanted = {member.name: self._backend_index(plan.name, member) for member in plan.members}
        gone = [key for key in self.indices.of_service(plan.name) if key[1] not in wanted]
        for member in plan.members:
            if member.state is State.SERVING:
                self._store_backend(wanted[member.name], member)
        self._distribute(service, plan, wanted, now)
        for member in plan.members:
            if member.state is not State.SERVING:
                self._store_backend(wanted[member.name], member)
        for key in gone:
            self._remove_backend(key)
        self._writes += self._listening.lead(service, plan.listeners)
        return self._writes

    def remove(self, name: str) -> None:
        """Take a service away: its listeners first, so that no packet finds half of it."""
        service = self.indices.services[name]
        self._listening.forget(service)
        self._store(self.tables.services, service, {"ring_slots": 0, "ring_start": 0, "members": 0})
        for key in self.indices.of_service(name):
            self._remove_backend(key)
        self.indices.remove_service(name)
        self._flux_until.pop(name, None)
        self._rings.forget(name)

    @property
    def ring_writes(self) -> int:
        """Grows with each change of a slot."""
        return self._rings.writes

    def read_again(self) -> None:
        """Somebody else may have touched the listeners, which are remembered for speed."""
        self._listening.read_again()

    def settle(self, exceptions: Array, now: float) -> None:
        """End flux where its time is up, and drop the marks that no record needs any more. `exceptions`:
        positions in the ring at which a record disagrees with the owner, as a sweep saw them that began at `now`
        or later, and since then no slot has changed."""
        for name, index in self.indices.services.items():
            region = self._rings.region(index)
            if not region:
                continue
            words = self.tables.ring[region]
            flags = schedule.flags_of(words)
            if not flags.any():
                self._flux_until.pop(name, None)
                continue
            if int(self.tables.services[index]["flags"]) & self._constant(
                "service_flags", "SERVICE_PERSISTENT"
            ):
                self._flux_until.pop(name, None)
                continue
            if (flags & np.uint64(FLUX)).any() and now < self._flux_until.setdefault(
                name, now + self._flux(index)
            ):
                continue
            self._flux_until.pop(name, None)
            inside = exceptions[(exceptions >= region.start) & (exceptions < region.stop)] - region.start
            self._rings.write(region, schedule.settle(words, set(inside.tolist())))
            if not int(self.tables.services[index]["flags"]) & self._constant(
                "service_flags", "SERVICE_RING"
            ):
                self._store(self.tables.services, index, {"ring_slots": 0, "ring_start": 0})

    # Backends

    def _backend_index(self, service: str, member: MemberPlan) -> int:
        key = (service, member.name)
        if key in self.indices.backends:
            return self.indices.backends[key]
        index = self.indices.add_backend(key, self._is_unused)
        load = self.tables.loads[index]
        for field in ("active", "inactive", "served"):
            load[f"{field}_correction"] = -load[field]
        load["overloaded"] = 0
        self.tables.per_cpu_zero("traffic", index)
        generation = (int(self.tables.backends[index]["generation"]) + 1) & 0xFFFF
        self._store(self.tables.backends, index, {"generation": generation})
        return index

    def _is_unused(self, backend: int) -> bool:
        return not any(self._rings.speaks_of(index, backend) for index in self.indices.services.values())

    def _store_backend(self, index: int, member: MemberPlan) -> None:
        fields: dict[str, Any] = {
            "state": self._constant("backend_state", f"BACKEND_{_STATES[member.state]}")
        }
        if member.hop:
            fields["addresses"] = member.hop.mac + member.hop.source_mac
            fields["ifindex"] = member.hop.ifindex
            fields["port"] = 0 if member.hop.local else self._port(member.hop.ifindex)
            flag = "BACKEND_LOCAL" if member.hop.local else "BACKEND_RESOLVED"
            fields["flags"] = self._constant("backend_flags", flag)
            fields["vlan"] = VLAN_AS_IT_CAME if member.hop.vlan is None else member.hop.vlan
        else:
            fields["flags"] = 0
        if member.accepts:
            fields["flags"] |= self._constant("backend_flags", "BACKEND_ACCEPTS")
        self._store(self.tables.backends, index, fields)
        load = self.tables.loads[index]
        load["upper"], load["lower"] = member.upper, member.lower

    def _remove_backend(self, key: Backend) -> None:
        index = self.indices.backends[key]
        absent = self._constant("backend_state", "BACKEND_ABSENT")
        self._store(self.tables.backends, index, {"state": absent, "flags": 0})
        self.indices.remove_backend(key)

    def _port(self, ifindex: int) -> int:
        """The place of an interface in the devmap, a free one if it has none."""
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
        return free

    # Rings and members

    def _distribute(self, service: int, plan: ServicePlan, wanted: dict[str, int], now: float) -> None:
        region = self._rings.region(service)
        before = self._rings.in_flux(region)
        if plan.scheduler.is_ring:
            region = self._distribute_ring(region, plan, wanted, is_new=not self._listening.leads_to(service))
        else:
            self._distribute_members(service, plan, wanted)
            if region:
                self._writes += self._rings.leave(region)
        if plan.persistence is None:
            self._time_flux(plan, before, self._rings.in_flux(region), now)
        fields = self._service_fields(plan, region, wanted)
        place = {name: fields[name] for name in ("ring_start", "ring_slots")}
        self._store(
            self.tables.services, service, place
        )  # first, or it would be scheduled by a ring it has not
        self._store(self.tables.services, service, fields)

    def _time_flux(self, plan: ServicePlan, before: Array, after: Array, now: float) -> None:
        """Flux lasts from its last slot's change; of one that is found under way nobody knows when it began."""
        is_new = len(before) != len(after) or bool((after & ~before).any())
        if after.any() and (is_new or plan.name not in self._flux_until):
            self._flux_until[plan.name] = now + plan.flux_seconds

    def _distribute_ring(
        self, region: slice | None, plan: ServicePlan, wanted: dict[str, int], *, is_new: bool
    ) -> slice:
        ring = self._rings.filled(plan)
        by_name = np.array([*(wanted[name] for name in ring.names), NO_BACKEND], np.uint64)
        owners = by_name[ring.owners]  # NOBODY is -1: the last
        if region and region.stop - region.start == plan.ring_slots:
            words = schedule.advance(self.tables.ring[region], owners)
            self._writes += self._rings.write(region, schedule.unrest(words) if plan.persistence else words)
            return region
        region = self._rings.allocate(self.indices.services.values(), plan.ring_slots)
        words = schedule.fresh(owners, recorded=not is_new)
        self._writes += self._rings.write(region, schedule.unrest(words) if plan.persistence else words)
        return region

    def _distribute_members(self, service: int, plan: ServicePlan, wanted: dict[str, int]) -> None:
        places = self._places()
        before = self._writes
        for place, member in enumerate(plan.members):
            fields = {"backend": wanted[member.name], "weight": member.weight if member.accepts else 0}
            self._store(self.tables.members, service * places + place, fields)
        if self._writes != before:
            self._count_served_anew(wanted.values())

    def _places(self) -> int:
        """Members that a service has room for."""
        return self.tables.entries("members") // self.tables.entries("services")

    def _require_room(self, plan: ServicePlan) -> None:
        if not plan.scheduler.is_ring and len(plan.members) > self._places():
            raise CapacityError(
                f"service '{plan.name}' has {len(plan.members)} backends; there is room for {self._places()}"
            )
        self._listening.require_room(self.indices.services.get(plan.name), plan.listeners)

    def _count_served_anew(self, backends: Iterable[int]) -> None:
        """A newcomer shall not be given all that the others have had before."""
        for backend in backends:
            load = self.tables.loads[backend]
            load["served_correction"] = -load["served"]

    # Services and listeners

    def _service_fields(
        self, plan: ServicePlan, region: slice | None, wanted: dict[str, int]
    ) -> dict[str, Any]:
        states = self.tables.enums["connection_state"]
        seconds = {"SYN": plan.timeouts.syn, "ESTABLISHED": plan.timeouts.tcp, "FIN": plan.timeouts.tcpfin,
                   "CLOSED": 10.0, "UDP": plan.timeouts.udp}  # fmt: skip
        timeouts = [0] * len(self.tables.services[0]["timeouts"])
        for name, value in seconds.items():
            timeouts[states[f"CONNECTION_{name}"]] = self.clock.jiffies(value)
        policy, cost = self.tables.enums["policy"], COSTS[plan.scheduler]
        keeps = plan.persistence or Persistence()
        return {
            "ring_start": region.start if region else 0,
            "ring_slots": region.stop - region.start if region else 0,
            "members": 0 if plan.scheduler.is_ring else len(plan.members),
            "flags": self._service_flags(plan),
            "cost_active": cost.active,
            "cost_inactive": cost.inactive,
            "cost_served": cost.served,
            "cost_fixed": cost.fixed,
            "fallback": wanted[plan.fallback] if plan.fallback else NO_BACKEND,
            "on_empty": policy[f"POLICY_{plan.on_empty.upper()}"],
            "on_down": policy[f"POLICY_{plan.on_down.upper()}"],
            "on_unknown": policy[f"POLICY_{plan.on_unknown.upper()}"],
            "timeouts": timeouts,
            "client_mask": _mask(keeps.prefix, 1)[0],
            "client_mask6": _mask(keeps.prefix6, 4),
            "persistence": self.clock.jiffies(keeps.timeout) if plan.persistence else 0,
        }

    def _service_flags(self, plan: ServicePlan) -> int:
        cost = COSTS[plan.scheduler]
        said = {
            "RING": plan.scheduler.is_ring,
            "HASH_ADDRESS": not plan.hashes_port,
            "WEIGHTED": cost.weighted,
            "IDLE_FIRST": cost.idle_first,
            "WITHIN_WEIGHT": cost.within_weight,
            "PERSISTENT": plan.persistence is not None,
            "KEEP_DRAINING": plan.persistence is not None and plan.persistence.on_drain == "keep",
            "ONE_PACKET": plan.one_packet,
        }
        return sum(
            self._constant("service_flags", f"SERVICE_{name}") for name, is_so in said.items() if is_so
        )

    def _flux(self, service: int) -> float:
        return int(self.tables.services[service]["timeouts"].max()) / self.clock.hz

    # Writing

    def _constant(self, enum: str, name: str) -> int:
        return self.tables.enums[enum][name]

    def _store(self, array: Array, index: int, fields: dict[str, Any]) -> None:
        self._writes += self.tables.store(array, index, fields)


def _mask(prefix: int, words: int) -> list[int]:
    """An address mask as the program reads it."""
    bits = (1 << 32 * words) - (1 << 32 * words - prefix)
    packed = bits.to_bytes(4 * words, "big")
    return [int.from_bytes(packed[i : i + 4], sys.byteorder) for i in range(0, len(packed), 4)]
