# SPDX-License-Identifier: Apache-2.0
"""The facade that the API and the daemon use: it makes the parts of `control`, hands them out, and watches them.

Decides little itself: `desired_state` changes the services, `drain_controller` runs drains, `reconciler` keeps the
data plane.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from xdpdirector import __version__
from xdpdirector.control.attach_keeper import CarrierTable
from xdpdirector.control.clock_steps import WallClock
from xdpdirector.control.configuration import ConfigurationService
from xdpdirector.control.desired_state import EVERYTHING, DesiredState, Target
from xdpdirector.control.drain_controller import DrainController
from xdpdirector.control.events import Events
from xdpdirector.control.explain import Explain
from xdpdirector.control.fleet_follower import FleetFollower
from xdpdirector.control.fleet_health import FleetHealth
from xdpdirector.control.guard_controller import GuardController
from xdpdirector.control.maintenance import MaintenanceController
from xdpdirector.control.reconciler import Reconciler
from xdpdirector.control.service_status import ServiceStatus
from xdpdirector.control.status_events import StatusEvents
from xdpdirector.control.status_views import ServiceSample
from xdpdirector.control.trace_sessions import TraceSessions
from xdpdirector.dataplane.interface import Plane
from xdpdirector.dataplane.inventory_types import Holdings
from xdpdirector.errors import DirectorError
from xdpdirector.health.checks.metrics import Tally
from xdpdirector.lan.types import LanSource
from xdpdirector.model import BackendSpec, Configuration, Key, ServiceSpec
from xdpdirector.model.connection_query import ConnectionQuery
from xdpdirector.model.fleet import DirectorReport
from xdpdirector.model.status import (
    AttachmentView,
    BackendView,
    ConnectionPage,
    Readiness,
    ServiceCounters,
    ServiceTraffic,
    ServiceView,
    Vitals,
)
from xdpdirector.state import edits
from xdpdirector.state.change_request import Intent
from xdpdirector.state.edits import Services
from xdpdirector.state.maintenance import OrderStore, Sight
from xdpdirector.state.revisions import History, SharedHistory
from xdpdirector.sync.status import FleetView, NoSync, SyncSource

WATCH_APART = 1.0  # seconds between two rounds of the watch task
STORE_EVERY = 10  # rounds between two checks of a healthy store

log = logging.getLogger(__name__)


class Director:
    """Satisfies `xdpdirector.api.director_interface.Control`."""

    def __init__(
        self,
        reconciler: Reconciler,
        plane: Plane,
        history: History,
        configuration: Configuration,
        *,
        carriers: CarrierTable,
        lan: LanSource,
        guard: GuardController,
        orders: OrderStore,
        sync: SyncSource | None = None,
        tallies: Callable[[], list[Tally]] = list,
        notes: Callable[[], list[str]] = list,
        revision: int = 0,
        shared: SharedHistory | None = None,
    ) -> None:
        """`configuration`: what the daemon was started with. `orders`: which directors are to
        leave. `notes`: further warnings, a sentence each. `shared`: the history, when others write it, too."""
        self._reconciler, self._plane, self._carriers, self.lan = reconciler, plane, carriers, lan
        self._tallies, self._notes = tallies, notes
        self._began_with = configuration
        self.guard, self._guard_spec = guard, configuration.guard
        self.sync: SyncSource = sync or NoSync()
        self._desired = DesiredState(reconciler, plane, history, configuration, revision, shared)
        self.drains = DrainController(self._desired, plane, reconciler.events, self.backend)
        self.configuration = ConfigurationService(self._desired, history, plane, configuration)
        self._fleet_health = FleetHealth(lambda: reconciler.services) if shared else None
        if self._fleet_health and configuration.health == "majority":
            reconciler.weigh_verdicts(self._fleet_health.of)
        self._has_majority = configuration.health == "majority"
        self.maintenance = MaintenanceController(
            configuration.director_name if shared is None else shared.director,
            orders,
            reconciler.events,
            self._sight,
            self._directors,
        )
        self.fleet = (
            FleetFollower(
                shared,
                self._desired,
                self.configuration,
                reconciler.events,
                reconciler.tasks,
                self._report,
                guard,
                self._take_verdicts,
                self.maintenance.follow,
            )
            if shared
            else None
        )
        if self.fleet:
            self.drains.join(self.fleet)
        self._status = ServiceStatus(reconciler, plane, self.drains.view)
        self.explaining = Explain(plane, self.service)
        self.tracing = TraceSessions(plane, reconciler.tasks)
        self._status_events, self._wall_clock = StatusEvents(reconciler.events), WallClock(reconciler.events)
        self._watching: asyncio.Task[None] | None = None

    @property
    def events(self) -> Events:
        """The event log, to subscribe to."""
        return self._reconciler.events

    @property
    def revision(self) -> int:
        return self._desired.revision

    @property
    def _services(self) -> Services:
        return self._desired.services

    async def start(self, *, strict: bool = False, ready: Callable[[], None] = lambda: None) -> None:
        """Bring the data plane to the wanted services, and keep it there. `strict`, `ready`: see
        `Reconciler.start`."""
        self._desired.resume()
        self.guard.start(self._guard_spec)
        self.maintenance.start()
        await self._reconciler.start(strict=strict, ready=ready)
        if self.fleet:
            await self.fleet.start()
        self._watching = self._reconciler.tasks.start("the watch over drains and the store", self._watch)

    def take_in(self, file_digest: str, file: Services, leaving: Collection[Key] = ()) -> None:
        """Store that the configuration file, as it is now, is merged into the desired state; retry later when the
        store fails. `leaving`: backends that the file no longer has, to be removed once they are drained."""
        if self.fleet:
            self.fleet.merge(self._began_with.model_copy(update={"services": dict(file)}), file_digest)
        else:
            self._desired.take_in(file_digest, file, leaving)

    def stop_waiting(self) -> None:
        """The daemon stops: callers that wait for a drain get an UnreachableError, and event streams end."""
        self.drains.stop_waiting()
        self.maintenance.stop_waiting()
        self.events.close()
        self.tracing.stop()

    async def close(self) -> None:
        """Stop all tasks; the data plane stays as it is."""
        if self._watching:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if self.fleet:
            await self.fleet.close()
        await self.tracing.close()
        await self.guard.close()
        await self._reconciler.close()

    # Reading

    def names(self) -> list[str]:
        return list(self._services)

    def size(self, service: str) -> int:
        """How many backends the service has; 0 when it does not exist."""
        spec = self._services.get(service)
        return len(spec.backends) if spec else 0

    def services(self) -> list[ServiceView]:
        return self._status.services()

    def service(self, name: str) -> ServiceView:
        return self._status.service(name)

    def backend(self, service: str, name: str) -> BackendView:
        return self._status.backend(service, name)

    def views(self, names: Sequence[str]) -> Iterator[ServiceView | None]:
        """See `ServiceStatus.views`."""
        return self._status.views(names)

    def samples(self) -> Iterator[ServiceSample | None]:
        """See `ServiceStatus.samples`."""
        return self._status.samples()

    def service_counters(self) -> ServiceCounters:
        """See `Plane.service_counters`."""
        return self._plane.service_counters()

    def tag(self, service: str | None = None, backend: str | None = None) -> str:
        """The ETag of a service, a backend or, without names, of all services. NotFoundError."""
        if service is not None:
            edits.find_service(self._services, service)
            if backend is not None:
                edits.find_backend(self._services, service, backend)
        return self._desired.tag(Target(service, backend)) or ""

    def connections(self, query: ConnectionQuery) -> Callable[[], ConnectionPage]:
        """See `Plane.connections`."""
        return self._plane.connections(query)

    async def holdings(self) -> Holdings:
        found = await self._plane.holdings()
        return found.model_copy(update={"drift_repaired": self._reconciler.drift_repaired})

    def service_traffic(self) -> Iterator[ServiceTraffic]:
        """See `ServiceStatus.service_traffic`."""
        return self._status.service_traffic()

    def vitals(self) -> Vitals:
        return Vitals(
            verdicts=self._plane.verdicts(),
            traffic=self._plane.total_traffic(),
            attachments=self._attachments(),
            maps=self._plane.fill(),
            connections=self._plane.total_connections(),
            clients_turned_away=self._plane.clients_turned_away(),
            drift_repaired=self._reconciler.drift_repaired + self.guard.drift_repaired,
        )

    def _attachments(self) -> tuple[AttachmentView, ...]:
        errors = self._carriers.transmit_errors()
        return tuple(
            each.model_copy(update={"transmit_errors": errors.get(each.interface)})
            for each in self._plane.attachments()
        )

    def tallies(self) -> list[Tally]:
        """Counts of the health checks and their results."""
        return self._tallies()

    def problems(self) -> list[str]:
        """A sentence for each thing for which this director is not ready."""
        return [
            *self._reconciler.problems(),
            *self._carriers.problems(),
            *(self._fleet_health.problems() if self._fleet_health and self._has_majority else []),
            *filter(
                None,
                [
                    self.maintenance.problem,
                    self.guard.trouble,
                    self._reconciler.waiting(),
                    self.sync.waiting(),
                    self._desired.behind,
                ],
            ),
        ]

    def readiness(self) -> Readiness:
        problems = self.problems()
        return Readiness(
            ready=not problems,
            problems=tuple(problems),
            warnings=(*self._warnings(), *(finding.text for finding in self.lan.findings)),
            revision=self._desired.revision,
        )

    def _warnings(self) -> list[str]:
        """All but findings on the LAN, which have events of their own."""
        guards = filter(None, [self.guard.warning, self.maintenance.warning])
        return [
            *self._desired.warnings(),
            *guards,
            *self.configuration.warnings,
            *self._reconciler.notes(),
            *self.sync.warnings(),
            *(self.fleet.warnings() if self.fleet else []),
            *self._notes(),
        ]

    def fleet_view(self) -> FleetView:
        """The other directors: those that it exchanges connections with, and those with the same desired state."""
        own = {"name": self.maintenance.name, "leaving": tuple(self.maintenance.leaving())}
        seen = self.sync.view()
        seen = seen.model_copy(update=own | ({"name": seen.name} if seen.name else {}))
        if self.fleet is None:
            return seen
        return seen.model_copy(
            update={
                "name": self.fleet.name,
                "store": self.fleet.store(),
                "directors": tuple(self.fleet.reports()),
            }
        )

    def _report(self, name: str) -> DirectorReport:
        """What this director, of that name, says to the others of its fleet."""
        problems = self.readiness().problems
        keys = {"/".join(key): key for key in self._desired.drains.running()}
        down, undecided = self._reconciler.verdicts_here()
        return DirectorReport(
            name=name,
            version=__version__,
            revision=self.revision,
            denied=self.guard.version,
            ready=not problems,
            why=problems[0] if problems else "",
            drains={text: self._plane.counts(key).active for text, key in keys.items()},
            unsettled=tuple(text for text, key in keys.items() if not self._plane.is_settled(key[0])),
            down=down,
            undecided=undecided,
            apart=self._fleet_health.is_apart() if self._fleet_health else False,
            drain=self.maintenance.report(),
        )

    def _directors(self) -> dict[str, DirectorReport]:
        """What the live ones say, by name; of this one alone where there is no fleet."""
        own = self.maintenance.name
        return {each.name: each for each in self.fleet.reports()} if self.fleet else {own: self._report(own)}

    async def _sight(self) -> Sight:
        """What this director sees of itself while it leaves."""
        flows = await self.sync.flows_here()
        if flows is None:  # nobody else has them
            keys = [(name, key) for name, spec in self._services.items() for key in spec.backends]
            flows = sum(self._plane.counts(key).active for key in keys)
        packets, vips = self._plane.total_traffic().packets, tuple(self._reconciler.vips_here())
        return Sight(time.monotonic(), flows, packets, vips)

    def _take_verdicts(self, own: DirectorReport, others: Mapping[str, DirectorReport]) -> None:
        """What the live directors find down."""
        assert self._fleet_health
        changed = self._fleet_health.take(own, others)
        if changed and self._has_majority:
            self._reconciler.look_again(changed)

    # Writing

    async def create_service(self, name: str, spec: ServiceSpec, *, intent: Intent) -> ServiceView:
        await self._desired.change(
            lambda now: edits.create_service(now, name, spec),
            f"create {name}",
            intent,
            EVERYTHING,
            document=Target(name),
        )
        return self.service(name)

    async def put_service(self, name: str, spec: ServiceSpec, *, intent: Intent) -> tuple[ServiceView, bool]:
        is_new = name not in self._services
        await self._desired.change(
            lambda now: edits.put_service(now, name, spec), f"replace {name}", intent, Target(name)
        )
        return self.service(name), is_new

    async def patch_service(self, name: str, patch: dict[str, Any], *, intent: Intent) -> ServiceView:
        await self._desired.change(
            lambda now: edits.patch_service(now, name, patch), f"patch {name}", intent, Target(name)
        )
        return self.service(name)

    async def delete_service(self, name: str, *, intent: Intent) -> None:
        await self._desired.change(
            lambda now: edits.delete_service(now, name), f"delete {name}", intent, Target(name)
        )

    async def create_backend(
        self, service: str, name: str, spec: BackendSpec, *, intent: Intent
    ) -> BackendView:
        await self._desired.change(
            lambda now: edits.create_backend(now, service, name, spec),
            f"create {service}/{name}",
            intent,
            Target(service),
            document=Target(service, name),
        )
        return self.backend(service, name)

    async def put_backend(
        self, service: str, name: str, spec: BackendSpec, *, intent: Intent
    ) -> tuple[BackendView, bool]:
        is_new = name not in edits.find_service(self._services, service).backends
        await self._desired.change(
            lambda now: edits.put_backend(now, service, name, spec),
            f"replace {service}/{name}",
            intent,
            Target(service, name),
        )
        return self.backend(service, name), is_new

    async def patch_backend(
        self, service: str, name: str, patch: dict[str, Any], *, intent: Intent
    ) -> BackendView:
        await self._desired.change(
            lambda now: edits.patch_backend(now, service, name, patch),
            f"patch {service}/{name}",
            intent,
            Target(service, name),
        )
        return self.backend(service, name)

    # Watching

    async def _watch(self) -> None:
        for turn in count():
            if turn % STORE_EVERY == 0 or self._desired.trouble:
                await self._desired.try_storing()
            await asyncio.sleep(WATCH_APART)
            await self.drains.cut_overdue()
            await self.drains.remove_drained()
            await self.maintenance.look()
            self._look()

    def _look(self) -> None:
        try:
            self._wall_clock.look()
            self.drains.watch()
            problems = (*self.readiness().problems, *self._warnings())
            self._status_events.look(problems, self.drains.drained(), self._plane.attachments())
        except Exception as error:  # tried again in a second
            known = isinstance(error, DirectorError)
            log.warning("the data plane cannot be watched: %s", error, exc_info=not known)
