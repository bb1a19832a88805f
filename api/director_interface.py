# SPDX-License-Identifier: Apache-2.0
"""The seam between HTTP and the director: what the API asks of it, and nothing else.

`xdpdirector.control.director.Director` has this shape, and so has the tests' fake. All calls happen on one asyncio
loop; the reading ones are cheap and do not wait. Errors are those of `xdpdirector.errors`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol

from xdpdirector.control.events import Events
from xdpdirector.control.explain import Explain
from xdpdirector.control.status_views import ServiceSample
from xdpdirector.control.trace_sessions import TraceSessions
from xdpdirector.dataplane.inventory_types import Holdings
from xdpdirector.health.checks.metrics import Tally
from xdpdirector.lan.types import LanSource
from xdpdirector.model import Address, BackendSpec, Configuration, ServiceSpec
from xdpdirector.model.connection_query import ConnectionQuery
from xdpdirector.model.fleet import DirectorView
from xdpdirector.model.guard import DenyEntry, Prefix
from xdpdirector.model.labels import Selector
from xdpdirector.model.status import (
    BackendView,
    ConnectionPage,
    DeniedView,
    GuardView,
    Readiness,
    ServiceCounters,
    ServiceTraffic,
    ServiceView,
    Vitals,
)
from xdpdirector.state.admin_change import AdminChange
from xdpdirector.state.change_request import Intent
from xdpdirector.state.diff import Plan, RevisionView
from xdpdirector.state.revisions import Summary
from xdpdirector.sync.status import FleetView, SyncSource


class ConfigurationControl(Protocol):
    """The configuration as a whole, and its past."""

    def document(self) -> Configuration: ...

    async def apply(self, wanted: Configuration, *, intent: Intent, dry_run: bool = False) -> Plan: ...

    def summaries(self, *, before: int | None, limit: int) -> list[Summary]: ...

    def revision(self, number: int) -> RevisionView: ...

    async def roll_back(self, number: int, *, intent: Intent, dry_run: bool = False) -> Plan: ...


class GuardControl(Protocol):
    """The deny list, and what limits refused. `xdpdirector.control.guard_controller.GuardController` has this
    shape."""

    def view(self) -> GuardView: ...

    def denied(self, client: Address | None = None) -> list[Prefix]: ...

    def denial(self, prefix: Prefix) -> DeniedView: ...

    def tag(self, prefix: Prefix | None = None) -> str: ...

    async def add(self, entry: DenyEntry, *, intent: Intent) -> DeniedView: ...

    async def put(self, entry: DenyEntry, *, intent: Intent) -> DeniedView: ...

    async def remove(self, prefix: Prefix, *, intent: Intent) -> None: ...

    async def replace(self, entries: Collection[DenyEntry], *, intent: Intent) -> None: ...


class DrainControl(Protocol):
    """Admin states and drains. `xdpdirector.control.drain_controller.DrainController` has this shape."""

    async def delete_backend(
        self, service: str, name: str, *, force: bool = False, drain: float | None = None, intent: Intent
    ) -> None: ...

    async def set_admin(
        self,
        service: str,
        name: str,
        change: AdminChange,
        *,
        intent: Intent,
    ) -> BackendView: ...

    async def set_admin_of(
        self,
        selector: Selector,
        change: AdminChange,
        *,
        intent: Intent,
    ) -> list[BackendView]: ...

    async def wait_drained(self, service: str, name: str, timeout: float) -> BackendView: ...


class MaintenanceControl(Protocol):
    """Directors that leave and come back. `xdpdirector.control.maintenance.MaintenanceController` has this
    shape."""

    def view(self, name: str) -> DirectorView: ...

    def tag(self, name: str) -> str: ...

    async def drain(self, name: str, *, force: bool = False, intent: Intent) -> DirectorView: ...

    async def enable(self, name: str, *, intent: Intent) -> DirectorView: ...

    async def wait_drained(self, name: str, timeout: float) -> DirectorView: ...


class Control(Protocol):
    """Writes return when the maps hold the change; with an intent that is only to be tried they raise DryRunError.
    `patch` is an RFC 7396 merge patch, times are seconds."""

    @property
    def revision(self) -> int:
        """The number of what is wanted now."""

    @property
    def configuration(self) -> ConfigurationControl: ...

    @property
    def drains(self) -> DrainControl: ...

    @property
    def events(self) -> Events: ...

    @property
    def guard(self) -> GuardControl: ...

    @property
    def maintenance(self) -> MaintenanceControl: ...

    @property
    def explaining(self) -> Explain: ...

    @property
    def tracing(self) -> TraceSessions: ...

    @property
    def lan(self) -> LanSource: ...

    @property
    def sync(self) -> SyncSource: ...

    def fleet_view(self) -> FleetView: ...

    def tag(self, service: str | None = None, backend: str | None = None) -> str:
        """Of what is wanted there, or of all: another one after each change."""

    def names(self) -> list[str]:
        """Of the services."""

    def size(self, service: str) -> int:
        """How many backends it has; none when it is gone."""

    def services(self) -> list[ServiceView]: ...

    def service(self, name: str) -> ServiceView: ...

    def views(self, names: Sequence[str]) -> Iterator[ServiceView | None]:
        """Of these services, in pieces: None wherever others may have their turn. One that goes meanwhile is left
        out."""

    def samples(self) -> Iterator[ServiceSample | None]:
        """What metrics report of all services; else as `views`."""

    def service_counters(self) -> ServiceCounters:
        """Of all services; far cheaper than their samples."""

    def backend(self, service: str, name: str) -> BackendView: ...

    def connections(self, query: ConnectionQuery) -> Callable[[], ConnectionPage]:
        """What reads a page of them, from a place in the table on; it may take long, and be called in another
        thread."""

    async def holdings(self) -> Holdings: ...

    def service_traffic(self) -> Iterator[ServiceTraffic]:
        """Of all services, read piece by piece."""

    def vitals(self) -> Vitals:
        """The counters that cost the same for any number of backends."""

    def tallies(self) -> list[Tally]: ...

    def readiness(self) -> Readiness: ...

    async def create_service(self, name: str, spec: ServiceSpec, *, intent: Intent) -> ServiceView: ...

    async def put_service(self, name: str, spec: ServiceSpec, *, intent: Intent) -> tuple[ServiceView, bool]:
        """And whether it is new."""

    async def patch_service(self, name: str, patch: dict[str, object], *, intent: Intent) -> ServiceView: ...

    async def delete_service(self, name: str, *, intent: Intent) -> None: ...

    async def create_backend(
        self, service: str, name: str, spec: BackendSpec, *, intent: Intent
    ) -> BackendView: ...

    async def put_backend(
        self, service: str, name: str, spec: BackendSpec, *, intent: Intent
    ) -> tuple[BackendView, bool]:
        """And whether it is new."""

    async def patch_backend(
        self, service: str, name: str, patch: dict[str, object], *, intent: Intent
    ) -> BackendView: ...
