# SPDX-License-Identifier: Apache-2.0
"""Keeps the data plane equal to the wanted services and to the observed state: health, neighbours, VIPs.

Changes of check results and neighbours are applied at once, but at most ten times a second. Every few seconds all
services are applied again; that repairs drift and retries what failed. Knows nothing of revisions, drains or who
wants a change. Runs on one asyncio loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import datetime

from xdpdirector.control.backend_routes import MakeNeighbours, Way, way_of, ways_of
from xdpdirector.control.backend_status import (
    BackendStatuses,
    MakeChecks,
    Memory,
    Weigh,
    health_of,
)
from xdpdirector.control.events import Events
from xdpdirector.control.passive_health import PassiveHealths
from xdpdirector.control.planner import BackendStatus
from xdpdirector.control.service_applier import ServiceApplier
from xdpdirector.control.take_over import TakeOver
from xdpdirector.control.transaction import Transactions
from xdpdirector.dataplane.interface import Plane
from xdpdirector.dataplane.service_plan import State
from xdpdirector.errors import DirectorError, InvalidRequestError
from xdpdirector.health.rise_fall import HealthReport
from xdpdirector.model import Address, Key
from xdpdirector.model.status import Operational
from xdpdirector.net.next_hop import Route
from xdpdirector.net.vips import VipTable
from xdpdirector.state.diff import Missing
from xdpdirector.state.edits import Services, touched
from xdpdirector.system.background_tasks import BackgroundTasks

APPLY_APART = 0.1  # seconds between two applies of news
LEISURE, LONGEST_LEISURE = 3.0, 0.5
"""The pause after an apply is this many times its duration, at most so many seconds: the loop has other work."""
UPKEEP_APART = 5.0
LOOKS_APART = 0.5  # seconds, at VIPs that move
RESOLVE_WITHIN = 1.5  # how long a start waits for neighbours, so that a restart withdraws nobody

log = logging.getLogger(__name__)


class Reconciler:
    """`transactions` changes the wanted services, under the `lock`."""

    def __init__(
        self,
        services: Services,
        *,
        plane: Plane,
        vips: VipTable,
        neighbours: MakeNeighbours,
        checks: MakeChecks,
        events: Events | None = None,
        tasks: BackgroundTasks | None = None,
        patience: float = 10.0,
        has_peers: bool = False,
        take_over: TakeOver | None = None,
    ) -> None:
        """`patience`: seconds to wait, at most, for the first check results before the director is ready.
        `has_peers`: a VIP that no interface here has may be on another director, or stands here only while this one
        is ready. `take_over`: what it may answer, and when."""
        self._patience, self._has_peers = patience, has_peers
        self.events = events or Events()
        self.tasks = tasks or BackgroundTasks()
        self.last_round = time.monotonic()
        """When the last round of the upkeep ended, with or without errors; monotonic seconds."""
        self.lock = asyncio.Lock()
        """Held while the wanted services are changed or applied."""
        self.drift_repaired = 0
        self._plane, self._vips = plane, vips
        self._take_over = take_over or TakeOver()
        self._news = asyncio.Event()
        self._statuses = BackendStatuses(neighbours, checks, self._news.set)
        self._applier = ServiceApplier(services, plane, self._statuses, self.events)
        self.passive = PassiveHealths(
            lambda: self.services, plane, self.events, self._serves, self._statuses.put_back
        )
        self._statuses.adjust = self.passive.adjusted
        self.transactions = Transactions(self._applier, plane, self._statuses)
        self._vips_of: tuple[Services, set[Address]] = {}, set()
        self._ensured: set[Address] | None = None
        """The VIPs that were put where they should be last."""
        self._vip_trouble = self._sweep_trouble = ""
        self._faults: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._next_round = 0.0

    @property
    def services(self) -> Services:
        """The services that are wanted now."""
        return self._applier.services

    # Life

    async def start(self, *, strict: bool = False, ready: Callable[[], None] = lambda: None) -> None:
        """Adopt the content of the data plane, bring it to the wanted services, and keep it there. `ready` is
        called when the data plane can take packets, before the VIPs are announced.

        `strict`: InvalidRequestError, before anything is changed, for a backend on another network. Otherwise such
        a backend is down: a network that is gone for a while must not keep a director from starting.
        """
        await self._statuses.start()
        if strict:
            self.refuse_unreachable(self.services, {})
        await self._vips.start()
        adopted = self._plane.adopted()
        takes_over = self._take_over.follows_vips
        self._statuses.follow(self.services, Memory(self._adopted_health(adopted), inherits=takes_over))
        self._statuses.await_first_checks(self._patience, confirm=takes_over)
        down = {key for key, state in adopted.items() if state is State.DOWN}
        await self._statuses.resolve(RESOLVE_WITHIN, but=down)
        for name in self._plane.services() - set(self.services):
            self._plane.remove(name)
        self._take_news()  # all of it is applied here
        self._applier.forbearing = self._forbearing()
        for name in self.services:
            self._applier.apply(name)
        ready()
        self._take_over.forwards(time.monotonic())
        await self.ensure_vips()
        self.last_round = time.monotonic()
        self._tasks = [
            self.tasks.start("applying news of health and neighbours", self._keep_up),
            self.tasks.start("the sweep and repair of the data plane", self._keep_true),
        ]
        if self._take_over.goes_on:
            self._tasks.append(self.tasks.start("looking where the VIPs are", self._keep_looking))

    def _adopted_health(self, adopted: Mapping[Key, State]) -> dict[Key, dict[Address, HealthReport]]:
        """A data plane that does not distinguish VIPs served all of them."""
        vips = self._plane.adopted_vips()
        return {
            key: health_of(state, vips.get(key) or dict.fromkeys(self.services[key[0]].vips, True))
            for key, state in adopted.items()
            if key[0] in self.services
        }

    async def close(self) -> None:
        """Stop all tasks. The data plane stays as it is and forwards packets."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._statuses.close()
        await self._vips.close()

    # What is known

    def backend_status(self, key: Key) -> BackendStatus:
        """Health of a wanted backend, and the route to it. A new verdict shows only once the data plane has it: a
        client that reads `up` can connect."""
        known, applied = self._statuses.of(key), self._applier.applied(key)
        return applied if applied and _shown_part(applied) != _shown_part(known) else known

    def _serves(self, key: Key) -> bool:
        status = self._statuses.unadjusted(key)
        return status.operational.serves and status.share > 0

    def route(self, address: Address, routed: bool = False) -> Route:
        """The route to an address, also to one that no backend has."""
        return self._statuses.route(address, routed)

    def verdicts_here(self) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
        """See `BackendStatuses.verdicts_here`."""
        return self._statuses.verdicts_here()

    def weigh_verdicts(self, weigh: Weigh) -> None:
        """From now on a verdict of this director counts as that says."""
        self._statuses.weigh = weigh

    def look_again(self, services: Collection[str]) -> None:
        """Verdicts on these count as something else by now."""
        self._statuses.put_back([name for name in services if name in self.services])

    def since(self, key: Key) -> datetime:
        """See `BackendStatuses.since`."""
        return self._statuses.since(key)

    def problems(self) -> list[str]:
        """A sentence for each problem."""
        missing = [
            str(vip) for vip in self._absent() if not self._vips.is_routed(vip) and not self._has_peers
        ]
        absent = f"VIP {', '.join(missing)} is on no interface of this director" if missing else ""
        troubles = (self._vip_trouble, self._sweep_trouble, absent, self._statuses.blind())
        return [
            *self._applier.failures.values(),
            *filter(None, troubles),
            *self._statuses.faults(),
            *self.tasks.problems(),
        ]

    def waiting(self) -> str:
        """What a director that has just started waits for; empty when it waits for nothing."""
        undecided = ["/".join(key) for key in self._statuses.undecided()]
        return f"the first checks have not decided yet: {_some(undecided)}" if undecided else ""

    def notes(self) -> list[str]:
        """A sentence for each thing that checks cannot see from this host, or that only an operator knows."""
        routed = [str(vip) for vip in self._absent() if self._vips.is_routed(vip)]
        words = (
            f"VIP {', '.join(routed)} is on no interface of this director, which is a router: it serves only "
            "what is routed through it"
        )
        elsewhere = [str(vip) for vip in self._absent() if not self._vips.is_routed(vip) and self._has_peers]
        standby = f"standby: VIP {', '.join(elsewhere)} is on no interface of this director"
        return [
            *self._statuses.notes(),
            *self._vips.notes(),
            *([words] if routed else []),
            *([standby] if elsewhere else []),
        ]

    def vips_here(self) -> list[str]:
        """Wanted ones that an interface of this director has."""
        return sorted(str(vip) for vip in self._wanted_vips() if self._vips.present(vip))

    def _forbearing(self) -> frozenset[str]:
        """See `TakeOver.forbearing`."""
        return self._take_over.forbearing(
            self.services, lambda vip: self._vips.present(vip) or self._vips.is_routed(vip), time.monotonic()
        )

    def _absent(self) -> list[Address]:
        return sorted((vip for vip in self._wanted_vips() if not self._vips.present(vip)), key=str)

    # Changing what is wanted

    async def missing(self, before: Services, after: Services) -> tuple[Missing, ...]:
        """See `BackendStatuses.missing`."""
        return await self._statuses.missing(before, after)

    def refuse_unreachable(self, wanted: Services, before: Services, document: str = "") -> None:
        """InvalidRequestError for a backend address, new since `before`, on another network. `document`: the
        pointer to the document that the client sent, when it is not the whole configuration."""
        known: set[Way] | None = None
        for name in touched(before, wanted):
            spec, former = wanted.get(name), before.get(name)
            if spec is None:
                continue
            for key, backend in spec.backends.items():
                own = former.backends.get(key) if former else None
                way = way_of(spec, backend)
                if own and former and way_of(former, own) == way:
                    continue
                if known is None:
                    known = ways_of(before.values())
                if way in known:
                    continue
                known.add(way)
                route = self._statuses.route(*way)
                if route.kind == "off-link":
                    pointer = f"/services/{name}/backends/{key}/address"
                    raise InvalidRequestError(
                        f"backend '{name}/{key}': {route.why}", pointer=pointer.removeprefix(document)
                    )

    async def ensure_vips(self) -> None:
        """Put the VIPs where they should be, or note the problem."""
        wanted = self._wanted_vips()
        try:
            await self._vips.ensure(wanted)
            self._vip_trouble, self._ensured = "", wanted
        except (DirectorError, OSError) as error:
            self._vip_trouble = str(error)

    async def follow_vips(self) -> None:
        """The same after a change of the services, when other VIPs are wanted than before: all interfaces and
        addresses are listed for it. Those that somebody takes off are the upkeep's."""
        if self._vip_trouble or self._wanted_vips() != self._ensured:
            await self.ensure_vips()

    def _wanted_vips(self) -> set[Address]:
        """Cached: it is asked for every second, and changes with the services' listeners only."""
        services, vips = self._vips_of
        if services is not self.services:
            same = all(
                name in services
                and name in self.services
                and services[name].listeners == self.services[name].listeners
                for name in touched(services, self.services)
            )
            self._vips_of = self.services, vips if same else _vips_of(self.services)
        return self._vips_of[1]

    def _publish_faults(self) -> None:
        """Publish faults that begin and end, also one that ends before the problems are read again."""
        before, self._faults = self._faults, self._statuses.faults()
        for sentence in self._faults:
            if sentence not in before:
                self.events.publish("network.fault", "director", sentence)
        for sentence in before:
            if sentence not in self._faults:
                self.events.publish("network.mended", "director", f"no more: {sentence}")

    def _repair(self, name: str) -> int:
        """Apply a service, or remove one that is not wanted; the number of writes. A failure stays a problem."""
        known = self._applier.failures.get(name)
        try:
            if name in self.services:
                return self._applier.apply(name)
            self._plane.remove(name)
            return 1
        except Exception as error:
            if known is None or self._applier.failures.get(name) != known:
                log.warning("%s: %s", name, error, exc_info=not isinstance(error, DirectorError))
            return 0

    # Tasks

    async def _keep_up(self) -> None:
        """Apply new check results and neighbours: at once, then at most every APPLY_APART seconds."""
        while True:
            await self._news.wait()
            async with self._round():
                begun = time.monotonic()
                self._publish_faults()
                for name in self._take_news():
                    self._repair(name)
                    await asyncio.sleep(0)
                took = time.monotonic() - begun
            self._next_round = max(self._next_round, time.monotonic() + min(LEISURE * took, LONGEST_LEISURE))

    @asynccontextmanager
    async def _round(self) -> AsyncIterator[None]:
        """Hold the lock, APPLY_APART seconds after the last round at the earliest."""
        while True:
            await asyncio.sleep(max(0.0, self._next_round - time.monotonic()))
            await self.lock.acquire()
            if time.monotonic() >= self._next_round:
                break
            self.lock.release()
        try:
            yield
        finally:
            self._next_round = time.monotonic() + APPLY_APART
            self.lock.release()

    def _take_news(self) -> list[str]:
        self._news.clear()
        return self._statuses.take_news()

    async def _keep_looking(self) -> None:
        """Until no service will forbear any more, or for ever where VIPs move."""
        while self._take_over.goes_on:
            await asyncio.sleep(LOOKS_APART)
            before, now = self._applier.forbearing, self._forbearing()
            if before != now:
                self._applier.forbearing = now
                self._statuses.put_back([name for name in before ^ now if name in self.services])

    async def _keep_true(self) -> None:
        while True:
            await asyncio.sleep(UPKEEP_APART)
            await self.upkeep()

    async def upkeep(self) -> None:
        """One round: sweep connections, repair drift, ensure the VIPs."""
        try:
            await self._plane.sweep(time.monotonic())
            self._sweep_trouble = ""
        except Exception as error:
            log.exception("the sweep of the connections failed")
            self._sweep_trouble = f"the sweep of the connections failed: {error}"
        self._judge_passively()
        async with self._round():
            await self._repair_all()
            await self.ensure_vips()
        self.last_round = time.monotonic()

    def _judge_passively(self) -> None:
        try:
            self.passive.look(time.monotonic())
        except DirectorError as error:
            log.warning("passive health cannot be judged: %s", error)

    async def _repair_all(self) -> None:
        """Apply each service once. Writes for a service that had changed, or had failed before, are no drift."""
        expected = {*self._take_news(), *self._applier.failures}
        for name in (*self.services, *(self._plane.services() - set(self.services))):
            expected.update(self._take_news())
            places = self._repair(name)
            if name in expected:
                expected.discard(name)
            elif places:
                self._publish_drift(name, places)
            await asyncio.sleep(0)  # let requests run between two services
        self._statuses.put_back(expected)  # changed after their turn

    def _publish_drift(self, name: str, places: int) -> None:
        text = f"places of the data plane that had drifted and were repaired: {places}"
        self.events.publish("dataplane.drift", name, text, places=places)
        self.drift_repaired += places


def _shown_part(status: BackendStatus) -> tuple[Operational, list[Operational]]:
    return status.operational, [each.operational for each in status.vips]


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _vips_of(services: Services) -> set[Address]:
    return {listener.address for spec in services.values() for listener in spec.listeners}
