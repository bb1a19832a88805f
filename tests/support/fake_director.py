# SPDX-License-Identifier: Apache-2.0
"""A director without a data plane: the real edits, errors and drains over connections that a test writes down."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

from tests.support.fake_denylist_store import FakeDenyListStore
from tests.support.fake_lan import FakeLan
from tests.support.fake_order_store import FakeOrderStore
from tests.support.fake_plane import FakePlane
from tests.support.stage import FakeHistory
from xdpdirector.control import status_views
from xdpdirector.control.events import Events
from xdpdirector.control.explain import Explain
from xdpdirector.control.guard_controller import GuardController
from xdpdirector.control.maintenance import MaintenanceController
from xdpdirector.control.planner import BackendStatus, VipVerdict, status_of
from xdpdirector.control.preview import running
from xdpdirector.control.status_views import ServiceSample
from xdpdirector.control.trace_sessions import TraceSessions
from xdpdirector.dataplane.inventory_types import Holdings
from xdpdirector.errors import ConflictError, NotFoundError, TimedOutError
from xdpdirector.health.checks.metrics import Tally
from xdpdirector.model import Address, AdminState, BackendSpec, Configuration, Key, ServiceSpec, Sizes
from xdpdirector.model.connection_query import ConnectionQuery
from xdpdirector.model.fleet import DirectorReport
from xdpdirector.model.labels import Selector
from xdpdirector.model.lvs import LvsSpec
from xdpdirector.model.passive import PassiveView
from xdpdirector.model.status import (
    AttachmentView,
    BackendView,
    ConnectionCounts,
    ConnectionPage,
    ConnectionView,
    Fill,
    Operational,
    Readiness,
    Refused,
    ServiceCounters,
    ServiceTraffic,
    ServiceView,
    Traffic,
    VipStanding,
    Vitals,
    total,
)
from xdpdirector.net.next_hop import Route
from xdpdirector.state import edits, etag
from xdpdirector.state.admin_change import AdminChange
from xdpdirector.state.change_request import Intent
from xdpdirector.state.diff import (
    Missing,
    Plan,
    RevisionView,
    affected,
    differences,
)
from xdpdirector.state.drain_estimate import Progress
from xdpdirector.state.drains import Drains
from xdpdirector.state.dry_run import DryRunError
from xdpdirector.state.maintenance import Sight
from xdpdirector.state.revisions import Revision, RevisionDraft, Summary
from xdpdirector.sync.status import FleetView, NoSync
from xdpdirector.system import boot_time

CLIENT = "198.51.100.7"
FOUND = Route("neighbour", bytes.fromhex("020000000015"), bytes.fromhex("020000000001"), 2, "eth0")


class FakeDirector:
    """`busy`: connections of a backend; `down`: why a check fails, and `lacking` at one VIP; `absent`: what plans
    say is missing; `broken`: raised by whatever is asked next."""

    def __init__(self) -> None:
        self.events = Events()
        self.lan = FakeLan()
        self.sync = NoSync()
        self.fleet = FleetView()
        self.checked: list[Tally] = []
        self.plane = FakePlane()
        self.guard = GuardController(
            self.plane, FakeDenyListStore(), self.events, lambda: self._services, Sizes()
        )
        self.maintenance = MaintenanceController(
            "one", FakeOrderStore(), self.events, self._sight, self._directors
        )
        self.explaining = Explain(self.plane, self.service)
        self.tracing = TraceSessions(self.plane)
        self.busy: dict[Key, int] = {}
        self.down: dict[Key, str] = {}
        self.lacking: dict[tuple[str, str, Address], str] = {}
        self.absent: tuple[Missing, ...] = ()
        self.problems: tuple[str, ...] = ()
        self.lvs = LvsSpec()
        self.broken: Exception | None = None
        self.authors: list[str] = []
        self.warnings: tuple[str, ...] = ()
        self.history = FakeHistory()
        self.configuration = FakeConfiguration(self)
        self._services: Mapping[str, ServiceSpec] = {}
        self._tags = etag.Tags()
        self._drains = Drains()
        self._began = datetime(2025, 1, 1, 12, 0, tzinfo=UTC)

    @property
    def revision(self) -> int:
        return len(self.authors)

    def names(self) -> list[str]:
        return list(self._services)

    def services(self) -> list[ServiceView]:
        self._break()
        return [self.service(name) for name in self._services]

    def size(self, service: str) -> int:
        self._break()
        spec = self._services.get(service)
        return len(spec.backends) if spec else 0

    def views(self, names: Sequence[str]) -> Iterator[ServiceView | None]:
        self._break()
        yield from map(self.service, names)

    def samples(self) -> Iterator[ServiceSample | None]:
        self._break()
        for view in self.services():
            backends: Any = view.backends  # they have all that a sample has
            yield ServiceSample(
                view.name,
                view.operational,
                backends,
                view.traffic,
                view.refused,
                view.dropped,
                view.cid_packets if view.quic else None,
            )

    def service_counters(self) -> ServiceCounters:
        self._break()
        values = array("Q")
        for each in self.services():
            dropped = sum(each.dropped.values())
            values.extend((each.traffic.connections, each.traffic.packets, each.traffic.bytes, dropped))
        return ServiceCounters(tuple(self._services), values)

    def service(self, name: str) -> ServiceView:
        self._break()
        spec = edits.find_service(self._services, name)
        backends = tuple(self.backend(name, backend) for backend in spec.backends)
        return status_views.service_view(
            name,
            spec,
            backends,
            Refused(),
            dropped=self.plane.drops([name])[name],
            cids=self.plane.cids([name])[name],
        )

    def backend(self, service: str, name: str) -> BackendView:
        self._break()
        spec, key = edits.find_backend(self._services, service, name), (service, name)
        count, drain = self.busy.get(key, 0), self._drains.get(key)
        quic = self._services[service].quic
        status = self._backend_status(key)
        operational = status.operational
        if spec.admin is AdminState.DRAIN and not count:
            operational = Operational.DRAINED
        return BackendView(
            service=service,
            name=name,
            address=spec.address,
            weight=spec.weight,
            effective_weight=spec.weight,
            max_connections=spec.max_connections,
            resume_connections=spec.resume_connections,
            router=spec.router,
            forward=spec.forward,
            effective_forward=self._services[service].forward_to(spec),
            quic_id=quic.id_of(spec.address, spec.quic_id).hex() if quic else None,
            labels=spec.labels,
            admin=spec.admin,
            operational=operational,
            reason=status.why,
            since=self._began,
            mac="02:00:00:00:00:15",
            interface="eth0",
            serving=spec.admin is AdminState.ENABLED and operational.serves and spec.weight > 0,
            vips=tuple(
                VipStanding(vip=each.vip, operational=each.operational, reason=each.reason)
                for each in status.vips
            ),
            connections=ConnectionCounts(active=count),
            traffic=_traffic(1),
            drain=drain.view(count, True, Progress(), boot_time.now()) if drain else None,
            passive=PassiveView(**dict(self.plane.passive([key])[key]))
            if self._services[service].passive
            else None,
        )

    def _backend_status(self, key: Key) -> BackendStatus:
        """Up at each VIP of which nobody says otherwise."""
        vips = self._services[key[0]].vips
        why = {vip: self.down.get(key) or self.lacking.get((*key, vip), "") for vip in vips}
        return status_of(
            [VipVerdict(vip, Operational.DOWN if why[vip] else Operational.UP, why[vip]) for vip in vips],
            FOUND,
        )

    def connections(self, query: ConnectionQuery) -> Callable[[], ConnectionPage]:
        self._break()
        found = [
            ConnectionView(
                service=key[0],
                backend=key[1],
                client=ip_address(CLIENT),
                client_port=40000 + number,
                vip=self._services[key[0]].listeners[0].address,
                port=self._services[key[0]].listeners[0].ports.first,
                protocol="tcp",
                state="established",
                idle=1.5,
            )
            for key, count in self.busy.items()
            for number in range(count)
            if query.service in (None, key[0])
            and query.backend in (None, key[1])
            and query.client in (None, CLIENT)
        ]
        behind = query.place + query.limit
        return lambda: ConnectionPage(
            tuple(found[query.place : behind]), behind if behind < len(found) else None
        )

    def fleet_view(self) -> FleetView:
        return self.fleet.model_copy(update={"leaving": tuple(self.maintenance.leaving())})

    async def _sight(self) -> Sight:
        return Sight(time.monotonic(), sum(self.busy.values()), 0)

    def _directors(self) -> dict[str, DirectorReport]:
        """Those of the fleet that a test has made, and this one, `one`."""
        own = DirectorReport(name="one", ready=not self.problems, drain=self.maintenance.report())
        return {each.name: each for each in self.fleet.directors} | {"one": own}

    async def holdings(self) -> Holdings:
        return await self.plane.holdings()

    def service_traffic(self) -> Iterator[ServiceTraffic]:
        for view in self.services():
            yield ServiceTraffic(view.name, view.traffic, {each.name: each.traffic for each in view.backends})

    def vitals(self) -> Vitals:
        views = self.services()
        return Vitals(
            verdicts={"forward_new": 1234567, "drop_denied": 0, "reject_empty": 8},
            traffic=total(each.traffic for each in views),
            attachments=(AttachmentView(interface="eth0", mode="native", program_id=42),),
            maps={"backends": Fill(entries=sum(len(each.backends) for each in views), room=4096)},
            connections=sum(self.busy.values()),
            clients_turned_away=7,
            drift_repaired=0,
        )

    def tallies(self) -> list[Tally]:
        return self.checked

    def readiness(self) -> Readiness:
        return Readiness(
            ready=not self.problems,
            problems=self.problems,
            warnings=self.warnings,
            revision=len(self.authors),
        )

    @property
    def drains(self) -> FakeDirector:
        """A part of its own in a real director."""
        return self

    async def create_service(self, name: str, spec: ServiceSpec, *, intent: Intent) -> ServiceView:
        self._write(edits.create_service(self._services, name, spec), intent)
        return self.service(name)

    async def put_service(self, name: str, spec: ServiceSpec, *, intent: Intent) -> tuple[ServiceView, bool]:
        is_new = name not in self._services
        self._write(edits.put_service(self._services, name, spec), intent, *(() if is_new else (name,)))
        return self.service(name), is_new

    async def patch_service(self, name: str, patch: dict[str, Any], *, intent: Intent) -> ServiceView:
        self._write(edits.patch_service(self._services, name, patch), intent, name)
        return self.service(name)

    async def delete_service(self, name: str, *, intent: Intent) -> None:
        self._write(edits.delete_service(self._services, name), intent, name)

    async def create_backend(
        self, service: str, name: str, spec: BackendSpec, *, intent: Intent
    ) -> BackendView:
        self._write(edits.create_backend(self._services, service, name, spec), intent, service)
        return self.backend(service, name)

    async def put_backend(
        self, service: str, name: str, spec: BackendSpec, *, intent: Intent
    ) -> tuple[BackendView, bool]:
        is_new = name not in edits.find_service(self._services, service).backends
        wanted = edits.put_backend(self._services, service, name, spec)
        self._write(wanted, intent, *((service,) if is_new else (service, name)))
        return self.backend(service, name), is_new

    async def patch_backend(
        self, service: str, name: str, patch: dict[str, Any], *, intent: Intent
    ) -> BackendView:
        self._write(edits.patch_backend(self._services, service, name, patch), intent, service, name)
        return self.backend(service, name)

    async def delete_backend(
        self, service: str, name: str, *, force: bool = False, drain: float | None = None, intent: Intent
    ) -> None:
        if drain is not None and not intent.dry_run:
            await self.set_admin(service, name, AdminChange(AdminState.DRAIN), intent=intent)
            await self.wait_drained(service, name, drain)
        count = self.backend(service, name).connections.active
        if count and not force:
            raise ConflictError(f"backend '{service}/{name}' has {count} connections")
        self._write(edits.delete_backend(self._services, service, name), intent, service, name)

    async def set_admin(
        self,
        service: str,
        name: str,
        change: AdminChange,
        *,
        intent: Intent,
    ) -> BackendView:
        wanted = edits.patch_backend(self._services, service, name, {"admin": change.admin})
        self._write(wanted, intent, service, name, what=f"{change.admin} {service}/{name}")
        key = (service, name)
        if change.admin is AdminState.DRAIN:
            self._drains.begin(key, self.busy.get(key, 0), change)
        else:
            self._drains.end(key)
        if change.admin is AdminState.MAINTENANCE:
            self.busy.pop(key, None)
        return self.backend(service, name)

    async def set_admin_of(
        self,
        selector: Selector,
        change: AdminChange,
        *,
        intent: Intent,
    ) -> list[BackendView]:
        keys = edits.labelled(self._services, selector)
        self._write(edits.set_admin(self._services, keys, change.admin), intent)
        for key in keys:
            if change.admin is AdminState.DRAIN:
                self._drains.begin(key, self.busy.get(key, 0), change)
            else:
                self._drains.end(key)
        return [self.backend(*key) for key in keys]

    async def wait_drained(self, service: str, name: str, timeout: float) -> BackendView:
        until = time.monotonic() + timeout
        while (view := self.backend(service, name)).operational is not Operational.DRAINED:
            if view.admin is not AdminState.DRAIN:
                raise ConflictError(f"backend '{service}/{name}' is {view.admin}, not draining")
            if time.monotonic() >= until:
                raise TimedOutError(f"backend '{service}/{name}' is still draining")
            await asyncio.sleep(0.01)
            for key in self._drains.due(boot_time.now()):
                await self.set_admin(*key, AdminChange(AdminState.MAINTENANCE), intent=Intent("director"))
        return view

    def tag(self, service: str | None = None, backend: str | None = None) -> str:
        if service is None:
            return self._tags.of_all(self._services)
        spec = edits.find_service(self._services, service)
        if backend is None:
            return self._tags.of_service(service, spec)
        return etag.of_backend(edits.find_backend(self._services, service, backend))

    def _write(
        self, services: Mapping[str, ServiceSpec], intent: Intent, *place: str, what: str = "change"
    ) -> None:
        self._break()
        intent.require("it", self.tag(*place))
        if intent.dry_run:
            before = self._services
            cut_off = affected(before, services, lambda key: running(self.plane, before[key[0]], key))
            raise DryRunError(differences(before, services), cut_off, self.absent)
        self._services = services
        self.authors.append(intent.author)
        self.history.append(RevisionDraft(services, author=intent.author, reason=intent.because(what)))

    def _break(self) -> None:
        if self.broken is not None:
            raise self.broken


class FakeConfiguration:
    """The director's services as one document; nobody is ever cut off but who is removed."""

    def __init__(self, director: FakeDirector) -> None:
        self._director = director

    def document(self) -> Configuration:
        return Configuration(
            interfaces=("eth0",), lvs=self._director.lvs, services=dict(self._director._services)
        )

    async def apply(self, wanted: Configuration, *, intent: Intent, dry_run: bool = False) -> Plan:
        return self._replace(wanted.services, "replace the configuration", intent, dry_run)

    async def roll_back(self, number: int, *, intent: Intent, dry_run: bool = False) -> Plan:
        wanted = self._kept(number).services
        return self._replace(wanted, f"roll back to revision {number}", intent, dry_run)

    def summaries(self, *, before: int | None, limit: int) -> list[Summary]:
        return self._director.history.summaries(before=before, limit=limit)

    def revision(self, number: int) -> RevisionView:
        found = self._kept(number)
        earlier = self._director.history.revision(number - 1)
        return RevisionView(
            revision=number,
            at=found.at,
            author=found.author,
            reason=found.reason,
            services=found.services,
            changes=differences(earlier.services if earlier else {}, found.services),
        )

    def _kept(self, number: int) -> Revision:
        found = self._director.history.revision(number)
        if found is None:
            raise NotFoundError(f"there is no revision {number}")
        return found

    def _replace(self, services: Mapping[str, ServiceSpec], what: str, intent: Intent, dry_run: bool) -> Plan:
        before, busy = self._director._services, self._director.busy
        wanted = edits.replace_all(before, services)
        if dry_run:
            intent.require("it", self._director.tag())
        elif wanted is not before:
            self._director._write(wanted, intent, what=what)
        return Plan(
            dry_run=dry_run,
            revision=len(self._director.authors),
            changes=differences(before, wanted),
            affected=affected(before, wanted, lambda key: (busy.get(key, 0), False)),
            missing=self._director.absent if dry_run else (),
        )


def _traffic(times: int) -> Traffic:
    return Traffic(packets=1500 * times, bytes=2_000_000 * times, connections=20 * times)
