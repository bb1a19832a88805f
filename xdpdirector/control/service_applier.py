# SPDX-License-Identifier: Apache-2.0
"""Applies the services to the data plane, one by one, and remembers what is applied and what failed.

Makes the plan of each service from its spec and the status of its backends, once for each state of both. Knows
nothing of why or when a service is applied: `transaction` does that for a change, `reconciler` for new verdicts and
for repairs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping
from typing import NamedTuple

from xdpdirector.control.backend_status import BackendStatuses, Memory
from xdpdirector.control.events import Events
from xdpdirector.control.planner import BackendStatus, plan
from xdpdirector.dataplane.interface import Plane
from xdpdirector.dataplane.service_plan import ServicePlan
from xdpdirector.errors import CapacityError
from xdpdirector.model import Address, Key, ServiceSpec
from xdpdirector.model.status import Operational
from xdpdirector.state.edits import Services, touched

log = logging.getLogger(__name__)


class PlannedService(NamedTuple):
    """A service's plan, and what it was made of."""

    spec: ServiceSpec
    statuses: Mapping[str, BackendStatus]
    plan: ServicePlan
    forbears: bool = False


class ServiceApplier:
    """`services`: the services that are wanted now. `failures`: a sentence for each that could not be applied.
    `forbearing`: those that do not answer yet what they do not know, see `take_over`."""

    def __init__(self, services: Services, plane: Plane, statuses: BackendStatuses, events: Events) -> None:
        self.services = services
        self.failures: dict[str, str] = {}
        self.forbearing: frozenset[str] = frozenset()
        self._plane, self._statuses, self._events = plane, statuses, events
        self._applied: dict[Key, BackendStatus] = {}
        self._plans: dict[str, PlannedService] = {}

    def switch(self, services: Services, memory: Memory | None = None) -> None:
        """From now on these services are wanted. `memory`: see `BackendStatuses.follow`."""
        before, self.services = self.services, services
        self._statuses.follow(services, memory)
        for name in touched(before, services):
            spec, now = before.get(name), services.get(name)
            for key in spec.backends if spec else ():
                if now is None or key not in now.backends:
                    self._applied.pop((name, key), None)
            if now is None:
                self.failures.pop(name, None)
                self._plans.pop(name, None)

    def applied(self, key: Key) -> BackendStatus | None:
        """The status of a backend that the data plane holds; None when it was never applied."""
        return self._applied.get(key)

    def planned(self, name: str) -> PlannedService:
        """The plan of a wanted service now. It is made again only when what it is made of has changed."""
        spec, statuses = self.services[name], self._statuses.of_service(name)
        kept, forbears = self._plans.get(name), name in self.forbearing
        if kept is None or kept.spec is not spec or kept.statuses != statuses or kept.forbears != forbears:
            made = plan(name, spec, statuses, forbears=forbears)
            kept = self._plans[name] = PlannedService(spec, statuses, made, forbears)
        return kept

    def apply(self, name: str, planned: PlannedService | None = None) -> int:
        """Bring a wanted service to the data plane, by this plan or by the one of now; the number of writes."""
        try:
            planned = planned or self.planned(name)
            writes = self._plane.apply(planned.plan, time.monotonic())
        except Exception as error:
            self.failures[name] = f"service '{name}' is not in the data plane as wanted: {error}"
            raise
        self.failures.pop(name, None)
        for key, status in planned.statuses.items():
            before = self._applied.get((name, key))
            if before is not status:
                self._publish((name, key), before, status)
                self._applied[name, key] = status
        return writes

    def apply_or_remove(self, names: Collection[str]) -> None:
        """Bring each to the data plane that is wanted; remove the others."""
        for name in names:
            if name in self.services:
                self.apply(name)
            else:
                self.remove(name)

    def apply_addition(
        self, name: str, before: ServicePlan | None, addition: ServicePlan, planned: PlannedService
    ) -> bool:
        """Apply `addition`, the first part of a change from the plan `before` to what is planned. False when the
        data plane has no room for it: then it holds the plan `before` again."""
        try:
            if addition == planned.plan:
                self.apply(name, planned)
            else:
                self._plane.apply(addition, time.monotonic())
        except CapacityError:
            self.failures.pop(name, None)
            if before:
                self._plane.apply(before, time.monotonic())
            else:
                self.remove(name)
            return False
        return True

    def remove(self, name: str) -> None:
        """Remove a service from the data plane if it is there."""
        if name in self._plane.services():
            self._plane.remove(name)

    def _publish(self, key: Key, before: BackendStatus | None, status: BackendStatus) -> None:
        """Publish a change of a backend's state; of a new backend, only that it is down or partial."""
        known, now = _published_part(before) if before else None, _published_part(status)
        if known == now or (known is None and now[0] not in (Operational.DOWN, Operational.PARTIAL)):
            return
        state, why = now[0], status.why if now[0] is not Operational.UP or status.share == 0 else ""
        text = f"{state}: {why}" if why else str(state)
        self._events.publish(f"backend.{state}", "/".join(key), text, before=known and known[0], reason=why)


def _published_part(status: BackendStatus) -> tuple[Operational, list[Address]]:
    """What events report: the state, and the VIPs for which the backend is down while it is up for others. A VIP
    that was not checked yet is no reason for an event about a backend that is up for others."""
    if status.operational is not Operational.PARTIAL:
        return status.operational, []
    down = [each.vip for each in status.vips if each.operational is Operational.DOWN]
    return (Operational.PARTIAL, down) if down else (Operational.UP, [])
