# SPDX-License-Identifier: Apache-2.0
"""The map `members`: a service's backends with their weights, and the counts by which schedulers compare them.

Knows plans and indices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from xdpdirector.dataplane.ids import Indices
from xdpdirector.dataplane.maps import Tables, correct, count_of
from xdpdirector.dataplane.member_order import Order, ordered
from xdpdirector.dataplane.service_plan import COSTS, ServicePlan, turns
from xdpdirector.system.memory_order import barrier

MANY_TURNS = 1 << 40  # connections: per unit of weight, the packet path compares at most 2^47


class Listed(NamedTuple):
    """The length of a service's list of members. `resting`: how many of the last ones take no new connections."""

    members: int
    resting: int


def weights_of(plan: ServicePlan) -> list[int]:
    """Of the members, as the packet path compares them; 0: takes no new connections."""
    is_weighted = COSTS[plan.scheduler].weighted or plan.scheduler.is_ring
    return [(member.weight if is_weighted else 1) if member.accepts else 0 for member in plan.members]


class MemberMap:
    """The only writer of the map. `writes` is incremented with each word written."""

    def __init__(self, tables: Tables, indices: Indices) -> None:
        self.writes = 0
        self._tables, self._indices = tables, indices

    def store(
        self, service: int, plan: ServicePlan, wanted: dict[str, int], *, thresholds_changed: bool
    ) -> Listed:
        """Write the members; a ring service needs them for flows whose slot owner is down. `wanted`: backend
        indices by name. Call it before the service's entry is written, which names the scheduler of before.
        `thresholds_changed`: of a backend, or for which VIPs backends are down. Returns how long the list is."""
        writes, before = self.writes, self._weights(service)
        weights = weights_of(plan)
        listed = self._list(plan, weights)
        self._write(service, plan, listed, weights, wanted)
        if not COSTS[plan.scheduler].served:
            return Listed(len(listed.places), listed.resting)
        begins = not int(self._tables.services["cost_served"][service])
        if begins:  # served counts of another scheduler do not matter
            before = {}
            for backend in wanted.values():
                load = self._tables.loads[backend]
                correct(load, "served", -count_of(load, "served"))
        if begins or thresholds_changed or self.writes != writes:
            after = zip(plan.members, weights, strict=True)
            self._go_on(before, {wanted[member.name]: weight for member, weight in after})
        return Listed(len(listed.places), listed.resting)

    def _list(self, plan: ServicePlan, weights: Sequence[int]) -> Order:
        cost = COSTS[plan.scheduler]
        return ordered(
            weights,
            exact=self._tables.enums["comparison"]["EXACT"],
            is_drawn=not plan.scheduler.is_ring and cost.choice == "ALL",
            is_by_weight=not (cost.active or cost.inactive or cost.served),
        )

    def _write(
        self,
        service: int,
        plan: ServicePlan,
        listed: Order,
        weights: Sequence[int],
        wanted: Mapping[str, int],
    ) -> None:
        """Only entries that differ, each by one store of 8 octets."""
        room = self._tables.members_each
        members = self._tables.members[service * room : service * room + len(listed.places)]
        places = self._indices.places[plan.name] if plan.members else {}
        said = np.zeros(len(plan.members), members.dtype)
        said["backend"] = [wanted[member.name] for member in plan.members]
        said["weight"] = weights
        said["place"] = [places[member.name] for member in plan.members]
        words, stored = said[listed.places].view(np.uint64), members.view(np.uint64)
        differs = np.flatnonzero(words != stored)
        barrier()  # the backends, which were stored before, are seen before
        stored[differs] = words[differs]
        self.writes += len(differs)

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
