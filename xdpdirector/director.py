# SPDX-License-Identifier: Apache-2.0
"""The director: one object that API and daemon talk to. Decides nothing itself, but brings together those who do.

A change is validated, applied to the plane and stored, in that order, one change at a time; when a step fails,
the plane is brought back to what was. Verdicts of checks and news of neighbours make services dirty, and a dirty
service is applied at once, but not more than ten times a second. Everything happens on one asyncio loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal, Protocol

from xdpdirector import edits, reporting
from xdpdirector.drains import Drains
from xdpdirector.edits import Services
from xdpdirector.errors import ConflictError, DirectorError, InvalidRequestError, TimedOutError
from xdpdirector.health import HealthReport
from xdpdirector.model import Address, AdminState, BackendSpec, CheckSpec, ServiceSpec
from xdpdirector.neighbours import NeighbourTable
from xdpdirector.plane import Key, Plane
from xdpdirector.planning import Standing, plan
from xdpdirector.schedule import State
from xdpdirector.views import BackendView, ConnectionView, Operational, Readiness, ServiceView, Statistics
from xdpdirector.vips import VipTable

APPLY_APART = 0.1  # seconds between two applies of dirty services
SWEEP_APART = 5.0
RESOLVE_WITHIN = 1.5  # how long a start waits for neighbours
LOOK_APART = 0.1  # between two looks of somebody who waits for a drain

log = logging.getLogger(__name__)


class CheckRunner(Protocol):
    """What the director needs of `xdpdirector.monitor.Monitor`."""

    def set(
        self, key: Key, spec: CheckSpec, address: Address, port: int, earlier: HealthReport | None = None
    ) -> None: ...
    def remove(self, key: Key) -> None: ...
    def state(self, key: Key) -> HealthReport: ...
    async def close(self) -> None: ...


class History(Protocol):
    """Where desired state is kept; raises a DirectorError when it cannot. Returns the revision's number."""

    def append(self, services: Services, *, author: str, reason: str) -> int: ...


class Director:
    """Made for `services` as they shall be; `start` brings the plane there."""

    def __init__(
        self,
        services: Services,
        *,
        revision: int,
        plane: Plane,
        history: History,
        vips: VipTable,
        neighbours: Callable[[Callable[[Address], None]], NeighbourTable],
        checks: Callable[[Callable[[Key, Operational, str], None]], CheckRunner],
    ) -> None:
        self._services, self._revision = services, revision
        self._plane, self._history, self._vips = plane, history, vips
        self._neighbours = neighbours(self._on_neighbour)
        self._checks = checks(self._on_verdict)
        self._drains = Drains()
        self._watched: set[Address] = set()
        self._lock = asyncio.Lock()
        self._dirty: set[str] = set()
        self._dirt = asyncio.Event()
        self._since: dict[Key, tuple[Operational, datetime]] = {}
        self._problems: dict[str, str] = {}
        self._drift = 0
        self._tasks: list[asyncio.Task[None]] = []

    # Life

    async def start(self) -> None:
        """Adopt what the plane holds, bring it to what is wanted, and keep it there."""
        await self._neighbours.start()
        await self._vips.start()
        self._watch_neighbours()
        await self._resolve()
        adopted = {key: _health_of(state) for key, state in self._plane.adopted().items()}
        for name, spec in self._services.items():
            self._set_checks(name, spec, adopted)
            for backend, wanted in spec.backends.items():
                if wanted.admin is AdminState.DRAIN:
                    self._drains.begin((name, backend), 0)
        for name in self._plane.services() - set(self._services):
            self._plane.remove(name)
        for name in self._services:
            self._apply(name)
        await self._ensure_vips()
        self._tasks = [asyncio.create_task(self._keep_up()), asyncio.create_task(self._keep_true())]

    async def close(self) -> None:
        """Stop watching. The plane stays as it is: packets go on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._checks.close()
        await self._neighbours.close()
        await self._vips.close()

    # Reading

    def services(self) -> list[ServiceView]:
        return [self.service(name) for name in self._services]

    def service(self, name: str) -> ServiceView:
        spec = edits.find_service(self._services, name)
        return reporting.service_view(name, spec, tuple(self.backend(name, key) for key in spec.backends))

    def backend(self, service: str, name: str) -> BackendView:
        spec = edits.find_backend(self._services, service, name)
        key = (service, name)
        standing = self._standing(key, spec)
        since = self._since.get(key, (standing.operational, reporting.now()))[1]
        return reporting.backend_view(key, spec, standing, self._drains.get(key), since, self._plane)

    def connections(
        self, *, service: str | None, backend: str | None, client: str | None, limit: int
    ) -> list[ConnectionView]:
        return self._plane.connections(service=service, backend=backend, client=client, limit=limit)

    def statistics(self) -> Statistics:
        views = self.services()
        return Statistics(
            verdicts=self._plane.verdicts(),
            services={view.name: view.traffic for view in views},
            backends={view.name: {b.name: b.traffic for b in view.backends} for view in views},
            attachments=self._plane.attachments(),
            connections=self._plane.total_connections(),
            drift_repaired=self._drift,
        )

    def readiness(self) -> Readiness:
        missing = [str(vip) for vip in sorted(self._vip_addresses(), key=str) if not self._vips.present(vip)]
        problems = [*self._problems.values()]
        if missing:
            problems.append(f"VIP {', '.join(missing)} stands on no interface of this director")
        return Readiness(ready=not problems, problems=tuple(problems), revision=self._revision)

    # Writing

    async def create_service(self, name: str, spec: ServiceSpec, *, author: str) -> ServiceView:
        await self._change(
            lambda now: edits.create_service(now, name, spec), {name}, author, f"create {name}"
        )
        return self.service(name)

    async def replace_service(self, name: str, spec: ServiceSpec, *, author: str) -> ServiceView:
        await self._change(
            lambda now: edits.replace_service(now, name, spec), {name}, author, f"replace {name}"
        )
        return self.service(name)

    async def patch_service(self, name: str, patch: dict[str, Any], *, author: str) -> ServiceView:
        await self._change(lambda now: edits.patch_service(now, name, patch), {name}, author, f"patch {name}")
        return self.service(name)

    async def delete_service(self, name: str, *, author: str) -> None:
        await self._change(lambda now: edits.delete_service(now, name), {name}, author, f"delete {name}")

    async def create_backend(self, service: str, name: str, spec: BackendSpec, *, author: str) -> BackendView:
        def edit(now: Services) -> Services:
            return edits.create_backend(now, service, name, spec)

        await self._change(edit, {service}, author, f"create {service}/{name}")
        return self.backend(service, name)

    async def patch_backend(
        self, service: str, name: str, patch: dict[str, Any], *, author: str
    ) -> BackendView:
        def edit(now: Services) -> Services:
            return edits.patch_backend(now, service, name, patch)

        await self._change(edit, {service}, author, f"patch {service}/{name}")
        return self.backend(service, name)

    async def delete_backend(
        self, service: str, name: str, *, force: bool = False, drain: float | None = None, author: str
    ) -> None:
        if drain is not None:
            await self.set_admin(service, name, AdminState.DRAIN, reason="to be removed", author=author)
            await self.wait_drained(service, name, drain)
        view = self.backend(service, name)
        if view.connections.active and not force:
            raise ConflictError(
                f"backend '{service}/{name}' has {view.connections.active} connections: drain it first, or say "
                "drain=60s to wait for them, or force=true to cut them off"
            )

        def edit(now: Services) -> Services:
            return edits.delete_backend(now, service, name)

        await self._change(edit, {service}, author, f"delete {service}/{name}")

    async def set_admin(
        self,
        service: str,
        name: str,
        admin: AdminState,
        *,
        reason: str = "",
        deadline: float | None = None,
        on_deadline: Literal["keep", "cut"] = "keep",
        author: str,
    ) -> BackendView:
        connections = self.backend(service, name).connections.active
        why = f"{admin} {service}/{name}" + (f": {reason}" if reason else "")

        def edit(now: Services) -> Services:
            return edits.patch_backend(now, service, name, {"admin": admin})

        await self._change(edit, {service}, author, why)
        if admin is AdminState.DRAIN:
            self._drains.begin(
                (service, name), connections, reason=reason, deadline=deadline, on_deadline=on_deadline
            )
        return self.backend(service, name)

    async def wait_drained(self, service: str, name: str, timeout: float) -> BackendView:
        """TimedOutError says how many connections are left; ConflictError when nobody drains it."""
        until = time.monotonic() + timeout
        while (view := self.backend(service, name)).operational is not Operational.DRAINED:
            if view.admin is not AdminState.DRAIN:
                raise ConflictError(
                    f"backend '{service}/{name}' is {view.admin}, not draining: drain it first"
                )
            if time.monotonic() >= until:
                raise TimedOutError(_still_busy(view))
            await asyncio.sleep(LOOK_APART)
        return view

    # From wish to plane

    async def _change(
        self, edit: Callable[[Services], Services], touched: set[str], author: str, reason: str
    ) -> None:
        async with self._lock:
            before = self._services
            wanted = edit(before)
            self._refuse_unreachable(wanted, before)
            try:
                self._bring(wanted, touched)
                self._revision = self._history.append(wanted, author=author, reason=reason)
            except BaseException:
                self._bring(before, touched)
                raise
            await self._ensure_vips()

    def _bring(self, services: Services, touched: set[str]) -> None:
        self._services = services
        self._watch_neighbours()
        for name in touched:
            if name in services:
                self._set_checks(name, services[name])
                self._apply(name)
            elif name in self._plane.services():
                self._plane.remove(name)
        self._forget_gone()

    def _refuse_unreachable(self, wanted: Services, before: Services) -> None:
        """InvalidRequestError for a new address that direct routing cannot reach."""
        known = {backend.address for spec in before.values() for backend in spec.backends.values()}
        for name, spec in wanted.items():
            for key, backend in spec.backends.items():
                if backend.address not in known:
                    route = self._neighbours.get(backend.address)
                    if route.kind == "off-link":
                        raise InvalidRequestError(
                            f"backend '{name}/{key}': {route.why}", pointer=f"/backends/{key}/address"
                        )

    def _apply(self, name: str) -> int:
        spec = self._services[name]
        standings = {key: self._standing((name, key), backend) for key, backend in spec.backends.items()}
        try:
            writes = self._plane.apply(plan(name, spec, standings), time.monotonic())
        except DirectorError as error:
            self._problems[name] = f"service '{name}' is not in the data plane as wanted: {error.detail}"
            raise
        self._problems.pop(name, None)
        for key, standing in standings.items():
            known = self._since.get((name, key))
            if known is None or known[0] is not standing.operational:
                self._since[name, key] = (standing.operational, reporting.now())
                log.info("%s/%s is %s %s", name, key, standing.operational, standing.why)
        return writes

    def _standing(self, key: Key, spec: BackendSpec) -> Standing:
        route = self._neighbours.get(spec.address)
        if self._services[key[0]].check is None:
            return Standing(Operational.UP, "", route)
        report = self._checks.state(key)
        return Standing(report.operational, report.reason, route)

    def _set_checks(
        self, name: str, spec: ServiceSpec, adopted: dict[Key, HealthReport] | None = None
    ) -> None:
        for key, backend in spec.backends.items():
            if spec.check is None:
                self._checks.remove((name, key))
            else:
                port = spec.check.port or spec.listeners[0].port
                earlier = (adopted or {}).get((name, key))
                self._checks.set((name, key), spec.check, backend.address, port, earlier)

    def _watch_neighbours(self) -> None:
        wanted = {backend.address for spec in self._services.values() for backend in spec.backends.values()}
        for address in wanted - self._watched:
            self._neighbours.watch(address)
        for address in self._watched - wanted:
            self._neighbours.unwatch(address)
        self._watched = wanted

    def _forget_gone(self) -> None:
        present = {(name, key) for name, spec in self._services.items() for key in spec.backends}
        for key in set(self._since) - present:
            del self._since[key]
            self._checks.remove(key)
        for key in self._drains.running():
            if key not in present or self._spec(key).admin is not AdminState.DRAIN:
                self._drains.end(key)

    def _spec(self, key: Key) -> BackendSpec:
        return self._services[key[0]].backends[key[1]]

    def _vip_addresses(self) -> set[Address]:
        return {listener.address for spec in self._services.values() for listener in spec.listeners}

    async def _ensure_vips(self) -> None:
        try:
            await self._vips.ensure(self._vip_addresses())
            self._problems.pop("vips", None)
        except DirectorError as error:
            self._problems["vips"] = error.detail

    async def _resolve(self) -> None:
        """Give the kernel a moment to find the backends' MACs, so that a restart withdraws nobody."""
        until = time.monotonic() + RESOLVE_WITHIN
        while time.monotonic() < until:
            if all(self._neighbours.get(address).kind != "unresolved" for address in self._watched):
                return
            await asyncio.sleep(0.02)

    # News

    def _on_verdict(self, key: Key, operational: Operational, reason: str) -> None:
        self._touch({key[0]})

    def _on_neighbour(self, address: Address) -> None:
        self._touch(
            {
                name
                for name, spec in self._services.items()
                if any(backend.address == address for backend in spec.backends.values())
            }
        )

    def _touch(self, names: set[str]) -> None:
        self._dirty |= names
        self._dirt.set()

    async def _keep_up(self) -> None:
        """Apply what became dirty: at once, then no more than every APPLY_APART seconds."""
        while True:
            await self._dirt.wait()
            self._dirt.clear()
            dirty, self._dirty = self._dirty, set()
            async with self._lock:
                for name in dirty & set(self._services):
                    with contextlib.suppress(DirectorError):  # stays among the problems
                        self._apply(name)
            await asyncio.sleep(APPLY_APART)

    async def _keep_true(self) -> None:
        """Sweep connections, repair drift, and carry out deadlines."""
        while True:
            await asyncio.sleep(SWEEP_APART)
            try:
                await self._plane.sweep(time.monotonic())
                async with self._lock:
                    self._drift += sum(self._apply(name) for name in self._services)
                for service, name in self._drains.due(reporting.now()):
                    await self.set_admin(
                        service,
                        name,
                        AdminState.MAINTENANCE,
                        reason="its drain's deadline passed",
                        author="director",
                    )
                self._problems.pop("upkeep", None)
            except Exception as error:
                log.exception("the upkeep of the data plane failed")
                self._problems["upkeep"] = f"the upkeep of the data plane failed: {error}"


def _health_of(state: State) -> HealthReport:
    """What a backend's state in the maps says of its health: maintenance says nothing."""
    operational = {State.SERVING: Operational.UP, State.DOWN: Operational.DOWN}.get(
        state, Operational.UNKNOWN
    )
    return HealthReport(operational, "", time.time())


def _still_busy(view: BackendView) -> str:
    left = f"{view.connections.active} connections left"
    if view.drain and not view.drain.settled:
        left += ", and more may be unseen until the service's time-outs have passed"
    return f"backend '{view.service}/{view.name}' is still draining: {left}"
