# SPDX-License-Identifier: Apache-2.0
"""Keeps the plane equal to what is wanted and to what is true: health, neighbours, VIPs.

Verdicts of checks and news of neighbours make services dirty; a dirty service is applied at once, but not more
than ten times a second. Every few seconds all of them are applied again, which repairs what drifted. Knows
nothing of revisions, drains or who wants a change. Everything happens on one asyncio loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Protocol

from xdpdirector import reporting
from xdpdirector.edits import Services
from xdpdirector.errors import DirectorError, InvalidRequestError
from xdpdirector.health import HealthReport
from xdpdirector.model import Address, BackendSpec, CheckSpec, ServiceSpec
from xdpdirector.neighbours import NeighbourTable
from xdpdirector.plane import Key, Plane
from xdpdirector.planning import Standing, plan
from xdpdirector.schedule import State
from xdpdirector.views import Operational
from xdpdirector.vips import VipTable

APPLY_APART = 0.1  # seconds between two applies of dirty services
SWEEP_APART = 5.0
RESOLVE_WITHIN = 1.5  # how long a start waits for neighbours

log = logging.getLogger(__name__)


class CheckRunner(Protocol):
    """What is needed of `xdpdirector.monitor.Monitor`."""

    def set(
        self, key: Key, spec: CheckSpec, address: Address, port: int, earlier: HealthReport | None = None
    ) -> None: ...
    def remove(self, key: Key) -> None: ...
    def state(self, key: Key) -> HealthReport: ...
    async def close(self) -> None: ...


class Reconciler:
    """`services` are what is wanted now; `bring` changes that."""

    def __init__(
        self,
        services: Services,
        *,
        plane: Plane,
        vips: VipTable,
        neighbours: Callable[[Callable[[Address], None]], NeighbourTable],
        checks: Callable[[Callable[[Key, Operational, str], None]], CheckRunner],
    ) -> None:
        self.services = services
        self.lock = asyncio.Lock()
        """Held while wishes change, so that nothing applies half of a change."""
        self.drift_repaired = 0
        self._plane, self._vips = plane, vips
        self._neighbours = neighbours(self._on_neighbour)
        self._checks = checks(self._on_verdict)
        self._watched: set[Address] = set()
        self._dirty: set[str] = set()
        self._dirt = asyncio.Event()
        self._since: dict[Key, tuple[Operational, datetime]] = {}
        self._problems: dict[str, str] = {}
        self._tasks: list[asyncio.Task[None]] = []

    # Life

    async def start(self, *, strict: bool = False) -> None:
        """Adopt what the plane holds, bring it to what is wanted, and keep it there.

        `strict`: InvalidRequestError, before anything is changed, for a backend on another network. Else such a
        one is just down: a network that is away for a while must not keep a director from starting.
        """
        await self._neighbours.start()
        if strict:
            self.refuse_unreachable(self.services, {})
        await self._vips.start()
        self._watch_neighbours()
        await self._resolve()
        adopted = {key: _health_of(state) for key, state in self._plane.adopted().items()}
        for name, spec in self.services.items():
            self._set_checks(name, spec, adopted)
        for name in self._plane.services() - set(self.services):
            self._plane.remove(name)
        for name in self.services:
            self._apply(name)
        await self.ensure_vips()
        self._tasks = [asyncio.create_task(self._keep_up()), asyncio.create_task(self._keep_true())]

    async def close(self) -> None:
        """Stop watching. The plane stays as it is: packets go on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._checks.close()
        await self._neighbours.close()
        await self._vips.close()

    # What is known

    def standing(self, key: Key) -> Standing:
        """Health of a wanted backend, and the way to it."""
        service = self.services[key[0]]
        route = self._neighbours.get(service.backends[key[1]].address)
        if service.check is None:
            return Standing(Operational.UP, "", route)
        report = self._checks.state(key)
        return Standing(report.operational, report.reason, route)

    def since(self, key: Key) -> datetime:
        """When its operational state last changed."""
        return self._since[key][1] if key in self._since else reporting.now()

    def problems(self) -> list[str]:
        """A sentence for each thing that is not as wanted."""
        missing = [
            str(vip) for vip in sorted(_vips_of(self.services), key=str) if not self._vips.present(vip)
        ]
        absent = [f"VIP {', '.join(missing)} stands on no interface of this director"] if missing else []
        return [*self._problems.values(), *absent]

    # Changing what is wanted

    def bring(self, services: Services, touched: Iterable[str]) -> None:
        """These are the services now, and those of `touched` differ; DirectorError when the plane has no room."""
        self.services = services
        self._watch_neighbours()
        for name in touched:
            if name in services:
                self._set_checks(name, services[name])
                self._apply(name)
            elif name in self._plane.services():
                self._plane.remove(name)
                self._problems.pop(name, None)
        self._forget_gone()

    def refuse_unreachable(self, wanted: Services, before: Services) -> None:
        """InvalidRequestError for an address, new since `before`, that stands on another network."""
        known = {backend.address for backend in _backends_of(before)}
        for name, spec in wanted.items():
            for key, backend in spec.backends.items():
                route = self._neighbours.get(backend.address)
                if backend.address not in known and route.kind == "off-link":
                    raise InvalidRequestError(f"backend '{name}/{key}': {route.why}", pointer="/address")

    async def ensure_vips(self) -> None:
        """VIPs stand where they should, or a problem says why not."""
        try:
            await self._vips.ensure(_vips_of(self.services))
            self._problems.pop("vips", None)
        except DirectorError as error:
            self._problems["vips"] = error.detail

    # From wish to plane

    def _apply(self, name: str) -> int:
        spec = self.services[name]
        standings = {key: self.standing((name, key)) for key in spec.backends}
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

    def _set_checks(
        self, name: str, spec: ServiceSpec, adopted: dict[Key, HealthReport] | None = None
    ) -> None:
        for key, backend in spec.backends.items():
            if spec.check is None:
                self._checks.remove((name, key))
            else:
                port = spec.check_port
                assert port is not None  # the model sees to it
                earlier = (adopted or {}).get((name, key))
                self._checks.set((name, key), spec.check, backend.address, port, earlier)

    def _watch_neighbours(self) -> None:
        wanted = {backend.address for backend in _backends_of(self.services)}
        for address in wanted - self._watched:
            self._neighbours.watch(address)
        for address in self._watched - wanted:
            self._neighbours.unwatch(address)
        self._watched = wanted

    def _forget_gone(self) -> None:
        present = {(name, key) for name, spec in self.services.items() for key in spec.backends}
        for key in set(self._since) - present:
            del self._since[key]
            self._checks.remove(key)

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
                for name, spec in self.services.items()
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
            async with self.lock:
                for name in dirty & set(self.services):
                    with contextlib.suppress(DirectorError):  # stays among the problems
                        self._apply(name)
            await asyncio.sleep(APPLY_APART)

    async def _keep_true(self) -> None:
        """Sweep connections and repair drift."""
        while True:
            await asyncio.sleep(SWEEP_APART)
            try:
                await self._plane.sweep(time.monotonic())
                async with self.lock:
                    self.drift_repaired += sum(self._apply(name) for name in self.services)
                self._problems.pop("upkeep", None)
            except Exception as error:
                log.exception("the upkeep of the data plane failed")
                self._problems["upkeep"] = f"the upkeep of the data plane failed: {error}"


def _backends_of(services: Services) -> list[BackendSpec]:
    return [backend for spec in services.values() for backend in spec.backends.values()]


def _vips_of(services: Services) -> set[Address]:
    return {listener.address for spec in services.values() for listener in spec.listeners}


def _health_of(state: State) -> HealthReport:
    """What a backend's state in the maps says of its health: maintenance says nothing."""
    operational = {State.SERVING: Operational.UP, State.DOWN: Operational.DOWN}.get(
        state, Operational.UNKNOWN
    )
    return HealthReport(operational, "", time.time())
