# SPDX-License-Identifier: Apache-2.0
"""The maps `backends`, `tunnels` and `loads`: a backend's state, MAC addresses, interface, tunnel and connection
thresholds.

Every write compares first. Knows members of a plan and indices; not in which order backends, rings and services
change: that is `writer`.
"""

from __future__ import annotations

from typing import Any

from xdpdirector.dataplane.devmap import Devmap
from xdpdirector.dataplane.ids import Backend, Indices
from xdpdirector.dataplane.maps import Array, Tables, correct, count_of
from xdpdirector.dataplane.retired_totals import RetiredTotals
from xdpdirector.dataplane.rings import Rings
from xdpdirector.dataplane.service_plan import Hop, MemberPlan, ServicePlan, State
from xdpdirector.dataplane.tunnel_entry import tunnel_fields
from xdpdirector.dataplane.vip_ids import Fronts
from xdpdirector.model import Address
from xdpdirector.net.tunnel import Tunnel

_STATES = {State.SERVING: "SERVING", State.DOWN: "DOWN", State.MAINTENANCE: "MAINTENANCE"}
VLAN_AS_IT_CAME = 0xFFFF
NO_BOUND = 0xFFFFFFFF


def _flag(member: MemberPlan, hop: Hop) -> str:
    """What the packet path does with its packets."""
    if hop.local:
        return "BACKEND_LOCAL"
    return "BACKEND_TUNNEL" if member.tunnel else "BACKEND_RESOLVED"


class BackendMap:
    """The only writer of these maps' entries, but for counts of connections."""

    def __init__(self, tables: Tables, indices: Indices, rings: Rings, departed: RetiredTotals) -> None:
        self.threshold_writes = 0
        """Incremented with each change of a backend's thresholds."""
        self._tables, self._indices, self._rings, self._departed = tables, indices, rings, departed
        self._devmap = Devmap(tables)
        self._writes = 0
        self._stored: dict[int, tuple[MemberPlan, int, bytes]] = {}
        """By backend index: the plan and devmap index last written, and the resulting entry."""

    @property
    def writes(self) -> int:
        """Incremented with each word or entry written."""
        return self._writes + self._devmap.writes

    def adopted(self) -> dict[Backend, State]:
        """The backends in the maps with their states: the starting point of a new daemon."""
        states = {
            self._constant("backend_state", f"BACKEND_{name}"): state for state, name in _STATES.items()
        }
        return {
            key: states[int(self._tables.backends[index]["state"])]
            for key, index in self._indices.backends.items()
            if int(self._tables.backends[index]["state"]) in states
        }

    def adopted_vips(self, fronts: Fronts) -> dict[Backend, dict[Address, bool]]:
        """For the same backends: for each VIP of their service, whether they receive its packets while
        serving."""
        out = {name: fronts.out(index) for name, index in self._indices.services.items()}
        partial = self._constant("backend_flags", "BACKEND_PARTIAL")
        return {
            key: {
                vip: not (
                    int(self._tables.backends[index]["flags"]) & partial
                    and places >> int(self._tables.backends[index]["place"]) & 1
                )
                for vip, places in out.get(key[0], {}).items()
            }
            for key, index in self._indices.backends.items()
        }

    @property
    def ports(self) -> int:
        """Interfaces to which packets are redirected."""
        return len(self._devmap)

    def check(self) -> bool:
        """Compare with the devmap. False if backends have to be stored again."""
        if self._devmap.check():
            return True
        self._stored.clear()
        return False

    def assign(self, plan: ServicePlan) -> dict[str, int]:
        """The indices of a plan's backends by name; new ones begin with counters of 0. CapacityError."""
        return {member.name: self._assign(plan.name, member) for member in plan.members}

    def _assign(self, service: str, member: MemberPlan) -> int:
        key = (service, member.name)
        if key in self._indices.backends:
            return self._indices.backends[key]
        index = self._indices.add_backend(key, self._is_free)
        before = int(self._tables.backends["generation"][index])
        if before:  # else it was never used, and all its counters are 0
            load = self._tables.loads[index]
            for field in ("active", "inactive", "served"):
                correct(load, field, -count_of(load, field))
            load["unanswered"] = load["idle"] = 0
            self._tables.per_cpu_zero("traffic", index)
            self._tables.per_cpu_zero("passive", index)
        self._store(index, {"generation": before % 0xFFFF + 1})
        return index

    def _is_free(self, index: int) -> bool:
        never_used = not int(self._tables.backends[index]["generation"])
        return never_used or not self._rings.mentions(index)

    def store(self, index: int, service: str, member: MemberPlan) -> None:
        """Write a backend's entry. Most members are unchanged and cost one comparison with the map."""
        port = 0 if member.hop is None or member.hop.local else self._devmap.port(member.hop.ifindex)
        if self._stored.get(index) != (member, port, self._entry(index)):
            place = self._indices.places[service][member.name]
            owner = {"service": 1 + self._indices.services[service]}
            if member.tunnel and member.hop:
                self._store_tunnel(index, member.tunnel)
            self._store(index, self._fields(member, port, place) | owner)
            self._stored[index] = (member, port, self._entry(index))
        self._set_thresholds(self._tables.loads[index], member.upper or NO_BOUND, member.lower or NO_BOUND)

    def _entry(self, index: int) -> bytes:
        """As it is in the maps."""
        entries = (self._tables.backends[index], self._tables.tunnels[index])
        return b"".join(entry.tobytes() for entry in entries)

    def _store_tunnel(self, index: int, tunnel: Tunnel) -> None:
        """It has several words: while they change, the backend counts as unresolved."""
        fields = tunnel_fields(tunnel, self._tables.enums["tunnel_kind"])
        record = self._tables.tunnels[index].copy()
        for name, value in fields.items():
            record[name] = value
        if record != self._tables.tunnels[index]:
            self._store(index, {"flags": 0})
            self._writes += self._tables.store(self._tables.tunnels, index, fields)

    def _fields(self, member: MemberPlan, port: int, place: int) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "state": self._constant("backend_state", f"BACKEND_{_STATES[member.state]}"),
            "place": place,
        }
        if member.hop:
            fields["addresses"] = member.hop.mac + member.hop.source_mac
            fields["ifindex"] = member.hop.ifindex
            fields["port"] = port
            fields["flags"] = self._constant("backend_flags", _flag(member, member.hop))
            fields["vlan"] = VLAN_AS_IT_CAME if member.hop.vlan is None else member.hop.vlan
        else:
            fields["flags"] = 0
        if member.accepts:
            fields["flags"] |= self._constant("backend_flags", "BACKEND_ACCEPTS")
        if member.router:
            fields["flags"] |= self._constant("backend_flags", "BACKEND_ROUTER")
        if member.watched:
            fields["flags"] |= self._constant("backend_flags", "BACKEND_WATCHED")
        if member.out:
            fields["flags"] |= self._constant("backend_flags", "BACKEND_PARTIAL")
        return fields

    def _set_thresholds(self, load: Array, upper: int, lower: int) -> None:
        """The packet path chooses one of the two by its count; after a change, it starts with the upper."""
        if (int(load["upper"]), int(load["lower"])) != (upper, lower):
            load["upper"], load["lower"] = upper, lower
            load["bound"] = upper
            self.threshold_writes += 1
            self._writes += 1

    def remove(self, key: Backend) -> None:
        """Mark the backend absent, add its traffic to its service's retired totals, and free its index."""
        index = self._indices.backends[key]
        self._store(index, {"state": self._constant("backend_state", "BACKEND_ABSENT"), "flags": 0})
        self._departed.count(self._indices.services[key[0]], index)
        self._indices.remove_backend(key)
        self._stored.pop(index, None)

    def _constant(self, enum: str, name: str) -> int:
        return self._tables.enums[enum][name]

    def _store(self, index: int, fields: dict[str, Any]) -> None:
        self._writes += self._tables.store(self._tables.backends, index, fields)
