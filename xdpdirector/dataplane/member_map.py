# SPDX-License-Identifier: Apache-2.0
"""The map `members`: a service's backends with their weights, and the counts by which schedulers compare them.

Knows plans and indices.
"""

from __future__ import annotations

import numpy as np

from xdpdirector.dataplane.ids import Indices
from xdpdirector.dataplane.maps import Tables, correct, count_of
from xdpdirector.dataplane.service_plan import COSTS, ServicePlan, turns

MANY_TURNS = 1 << 40  # connections: per unit of weight, the packet path compares at most 2^47


class MemberMap:
    """The only writer of the map. `writes` is incremented with each word written."""

    def __init__(self, tables: Tables, indices: Indices) -> None:
        self.writes = 0
        self._tables, self._indices = tables, indices

    def store(
        self, service: int, plan: ServicePlan, wanted: dict[str, int], *, thresholds_changed: bool
    ) -> None:
        """Write the members; a ring service needs them for flows whose slot owner is down. `wanted`: backend
        indices by name. Call it before the service's entry is written, which names the scheduler of before.
        `thresholds_changed`: of a backend, or for which VIPs backends are down."""
        room, writes, before = self._tables.members_each, self.writes, self._weights(service)
        is_weighted = COSTS[plan.scheduler].weighted or plan.scheduler.is_ring
        weights = {
            member.name: (member.weight if is_weighted else 1) if member.accepts else 0
            for member in plan.members
        }
        members = self._tables.members[service * room : (service + 1) * room]
        for number, member in enumerate(plan.members[:room]):
            fields = {
                "backend": wanted[member.name],
                "weight": weights[member.name],
                "place": self._indices.places[plan.name][member.name],
            }
            self.writes += self._tables.store(members, number, fields)
        if not COSTS[plan.scheduler].served:
            return
        begins = not int(self._tables.services["cost_served"][service])
        if begins:  # served counts of another scheduler do not matter
            before = {}
            for backend in wanted.values():
                load = self._tables.loads[backend]
                correct(load, "served", -count_of(load, "served"))
        if begins or thresholds_changed or self.writes != writes:
            self._go_on(before, {wanted[member.name]: weights[member.name] for member in plan.members})

    def even_turns(self) -> None:
        """Called periodically: a backend that was over its threshold must not catch up on missed turns."""
        indices = np.array(list(self._indices.services.values()), np.int64)
        services = self._tables.services[indices]
        flag = self._tables.enums["service_flags"]["SERVICE_UNBOUNDED"]
        counted = self._tables.loads["served"] + self._tables.loads["served_correction"]
        due = ((services["flags"] & flag) == 0) | (counted.max() > MANY_TURNS)
        for index in indices[due & (services["cost_served"] != 0)].tolist():
            weights = self._weights(index)
            self._go_on(weights, weights)

    def _go_on(self, before: dict[int, int], after: dict[int, int]) -> None:
        """See `service_plan.turns`. The correction preserves connections counted meanwhile."""
        served = {index: count_of(self._tables.loads[index], "served") for index in after}
        for index, count in turns(served, before, after).items():
            correct(self._tables.loads[index], "served", count - served[index])

    def _weights(self, service: int) -> dict[int, int]:
        """Weights of a service's members by backend, from the map; 0: takes no new connections."""
        room = self._tables.members_each
        start, count = service * room, min(room, int(self._tables.services["members"][service]))
        members = self._tables.members[start : start + count]
        return dict(zip(members["backend"].tolist(), members["weight"].tolist(), strict=True))
