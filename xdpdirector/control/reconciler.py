# SPDX-License-Identifier: Apache-2.0
"""Keeps the plane equal to what is wanted and to what is true: health, neighbours, VIPs.

News of checks and neighbours are applied at once, but not more than ten times a second. Every few seconds all
services are applied again, which repairs what drifted or could not be applied before. Knows nothing of revisions,
drains or who wants a change. Everything happens on one asyncio loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import NamedTuple

from xdpdirector.control.backend_status import (
    MakeChecks,
    MakeNeighbours,
    Memory,
    Standings,
    backends_of,
    health_of,
)
from xdpdirector.control.events import Events
from xdpdirector.control.planner import Standing, grown, plan
from xdpdirector.dataplane.interface import Plane
from xdpdirector.dataplane.service_plan import ServicePlan, State
from xdpdirector.errors import CapacityError, DataplaneError, DirectorError, InvalidRequestError
from xdpdirector.health.rise_fall import HealthReport
from xdpdirector.model import Address, Key, ServiceSpec
from xdpdirector.model.status import Operational
from xdpdirector.net.next_hop import Route
from xdpdirector.net.vips import VipTable
from xdpdirector.state.diff import Missing
from xdpdirector.state.edits import Services
from xdpdirector.system.background_tasks import BackgroundTasks

APPLY_APART = 0.1  # seconds between two applies of news
LEISURE, LONGEST_LEISURE = 3.0, 0.5
"""Between two of them there is so many times what one took, in seconds no more than that: others have work, too."""
UPKEEP_APART = 5.0
RESOLVE_WITHIN = 1.5  # how long a start waits for neighbours, so that a restart withdraws nobody

log = logging.getLogger(__name__)


class _Plan(NamedTuple):
    """A service's plan, and what it was made of."""

    spec: ServiceSpec
    standings: Mapping[str, Standing]
    plan: ServicePlan


class Reconciler:
    """`services` are what is wanted now; `trying` changes that."""

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
    ) -> None:
        """`patience`: for how many seconds, at most, it waits for its first checks before it calls itself ready.
        `has_peers`: a VIP that stands nowhere here may stand on another director."""
        self._patience, self._has_peers = patience, has_peers
        self.services = services
        self.events = events or Events()
        self.tasks = tasks or BackgroundTasks()
        self.last_round = time.monotonic()
        """When a round of the upkeep was completed, whether it found faults or not; monotonic seconds."""
        self.lock = asyncio.Lock()
        """Held by whoever changes wishes or applies them."""
        self.drift_repaired = 0
        self._plane, self._vips = plane, vips
        self._news = asyncio.Event()
        self._standings = Standings(neighbours, checks, self._news.set)
        self._applied: dict[Key, Standing] = {}
        self._plans: dict[str, _Plan] = {}
        self._vips_of: tuple[Services, set[Address]] | None = None
        self._not_applied: dict[str, str] = {}
        self._vip_trouble = self._sweep_trouble = ""
        self._faults: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._next_round = 0.0

    # Life

    async def start(self, *, strict: bool = False, ready: Callable[[], None] = lambda: None) -> None:
        """Adopt what the plane holds, bring it to what is wanted, and keep it there. `ready` is called when the
        plane can take packets, before VIPs draw them here.

        `strict`: InvalidRequestError, before anything is changed, for a backend on another network. Else such a
        one is just down: a network that is away for a while must not keep a director from starting.
        """
        await self._standings.start()
        if strict:
            self.refuse_unreachable(self.services, {})
        await self._vips.start()
        adopted = self._plane.adopted()
        self._standings.follow(self.services, Memory(self._adopted_health(adopted)))
        self._standings.await_first_checks(self._patience)
        down = {key for key, state in adopted.items() if state is State.DOWN}
        await self._standings.resolve(RESOLVE_WITHIN, but=down)
        for name in self._plane.services() - set(self.services):
            self._plane.remove(name)
        self._take_news()  # all of it is applied here
        for name in self.services:
            self._apply(name)
        ready()
        await self.ensure_vips()
        self.last_round = time.monotonic()
        self._tasks = [
            self.tasks.start("applying news of health and neighbours", self._keep_up),
            self.tasks.start("the sweep and repair of the data plane", self._keep_true),
        ]

    def _adopted_health(self, adopted: Mapping[Key, State]) -> dict[Key, dict[Address, HealthReport]]:
        """A plane that tells no VIPs apart knew all of them."""
        vips = self._plane.adopted_vips()
        return {
            key: health_of(state, vips.get(key) or dict.fromkeys(self.services[key[0]].vips, True))
            for key, state in adopted.items()
            if key[0] in self.services
        }

    async def close(self) -> None:
        """Stop watching. The plane stays as it is: packets go on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._standings.close()
        await self._vips.close()

    # What is known

    def standing(self, key: Key) -> Standing:
        """Health of a wanted backend, and the way to it. Another verdict shows once the plane holds it, so that
        who sees `up` can connect."""
        known, applied = self._standings.of(key), self._applied.get(key)
        return applied if applied and _told_apart(applied) != _told_apart(known) else known

    def route(self, address: Address) -> Route:
        """The way to an address, also to one that no backend has."""
        return self._standings.route(address)

    def since(self, key: Key) -> datetime:
        """See `Standings.since`."""
        return self._standings.since(key)

    def problems(self) -> list[str]:
        """A sentence for each thing that is not as wanted."""
        missing = [
            str(vip) for vip in self._absent() if not self._vips.is_routed(vip) and not self._has_peers
        ]
        absent = f"VIP {', '.join(missing)} stands on no interface of this director" if missing else ""
        troubles = (self._vip_trouble, self._sweep_trouble, absent, self._standings.blind())
        return [
            *self._not_applied.values(),
            *filter(None, troubles),
            *self._standings.faults(),
            *self.tasks.problems(),
        ]

    def waiting(self) -> str:
        """What a director that started a moment ago waits for; empty when it is nothing."""
        undecided = ["/".join(key) for key in self._standings.undecided()]
        return f"the first checks have not decided yet: {_some(undecided)}" if undecided else ""

    def notes(self) -> list[str]:
        """A sentence for each thing that checks cannot see from here, or that only an operator knows."""
        routed = [str(vip) for vip in self._absent() if self._vips.is_routed(vip)]
        words = (
            f"VIP {', '.join(routed)} stands on no interface of this director, which is a router: it serves only "
            "what is routed through it"
        )
        elsewhere = [str(vip) for vip in self._absent() if not self._vips.is_routed(vip) and self._has_peers]
        standby = f"standby: VIP {', '.join(elsewhere)} stands on no interface of this director"
        return [*self._standings.notes(), *([words] if routed else []), *([standby] if elsewhere else [])]

    def _absent(self) -> list[Address]:
        return sorted((vip for vip in self._wanted_vips() if not self._vips.present(vip)), key=str)

    # Changing what is wanted

    @contextmanager
    def trying(self, services: Services, touched: Collection[str]) -> Iterator[None]:
        """These are the services from now on, for the plane too; only those of `touched` differ. When the plane
        refuses them, or the block fails, everything is as it was before, running connections too: what ends them is
        done after the block.

        DataplaneError when that fails: the services are wanted by then, and the upkeep goes on trying.
        """
        self.refuse_full(services, touched)
        before, memory = self.services, self._standings.memory(touched)
        plans = {name: self._plan(name) for name in touched if name in before}
        try:
            self._want(services)
            late = self._grow(plans, touched)
            yield
        except BaseException:
            self._want(before, memory)
            self._finish(sorted(touched, key=lambda name: name in before))
            raise
        failed = self._finish(late)
        if failed:
            raise DataplaneError(
                f"the change is stored, but the data plane does not have all of it: {'; '.join(failed)}. "
                "It is tried again every few seconds"
            )

    async def missing(self, before: Services, after: Services) -> tuple[Missing, ...]:
        """See `Standings.missing`."""
        return await self._standings.missing(before, after)

    def refuse_full(self, wanted: Services, touched: Collection[str]) -> None:
        """CapacityError when the plane has no room for these of the services, as they shall be."""
        gone = [name for name in touched if name not in wanted]
        self._plane.require_room({name: wanted[name] for name in touched if name in wanted}, gone)

    def refuse_unreachable(self, wanted: Services, before: Services, document: str = "") -> None:
        """InvalidRequestError for an address, new since `before`, that stands on another network. `document`:
        the pointer to what the error's pointer leads into, when that is not all that is wanted."""
        known = {backend.address for backend in backends_of(before)}
        for name, spec in wanted.items():
            for key, backend in spec.backends.items():
                if backend.address in known:
                    continue
                known.add(backend.address)
                route = self._standings.route(backend.address)
                if route.kind == "off-link":
                    pointer = f"/services/{name}/backends/{key}/address"
                    raise InvalidRequestError(
                        f"backend '{name}/{key}': {route.why}", pointer=pointer.removeprefix(document)
                    )

    async def ensure_vips(self) -> None:
        """VIPs stand where they should, or a problem says why not."""
        try:
            await self._vips.ensure(self._wanted_vips())
            self._vip_trouble = ""
        except (DirectorError, OSError) as error:
            self._vip_trouble = str(error)

    def _wanted_vips(self) -> set[Address]:
        """Asked for every second, and the same until the services are others."""
        if self._vips_of is None or self._vips_of[0] is not self.services:
            self._vips_of = self.services, _vips_of(self.services)
        return self._vips_of[1]

    # From wish to plane

    def _want(self, services: Services, memory: Memory | None = None) -> None:
        before, self.services = self.services, services
        self._standings.follow(services, memory)
        for name, spec in before.items():
            now = services.get(name)
            if now is spec:
                continue
            for key in spec.backends:
                if now is None or key not in now.backends:
                    self._applied.pop((name, key), None)
            if now is None:
                self._not_applied.pop(name, None)
                self._plans.pop(name, None)

    def _grow(self, before: Mapping[str, ServicePlan], touched: Collection[str]) -> list[str]:
        """All that the services gain; those that have something left to lose. What has no room for what comes
        beside what goes waits until all others have gained theirs; then what goes, goes now."""
        late = [name for name in touched if name not in self.services]
        tight = []
        for name in touched:
            if name in self.services:
                wanted = self._plan(name)
                step = grown(before.get(name), wanted)
                if not self._fits(name, step, before.get(name)):
                    tight.append(name)
                elif step != wanted:
                    late.append(name)
        if tight:
            self._bring([*late, *tight])
            return []
        return late

    def _fits(self, name: str, step: ServicePlan, before: ServicePlan | None) -> bool:
        """Bring the plane to this step; False when there was no room for it, and it has the plan before again."""
        try:
            if step == self._plan(name):
                self._apply(name)
            else:
                self._plane.apply(step, time.monotonic())
        except CapacityError:
            self._not_applied.pop(name, None)
            if before:
                self._plane.apply(before, time.monotonic())
            elif name in self._plane.services():
                self._plane.remove(name)
            return False
        return True

    def _bring(self, names: Collection[str]) -> None:
        for name in names:
            if name in self.services:
                self._apply(name)
            elif name in self._plane.services():
                self._plane.remove(name)

    def _finish(self, names: Collection[str]) -> list[str]:
        """Apply or remove these; what is wrong with those that failed."""
        failed = []
        for name in names:
            try:
                self._bring([name])
            except Exception as error:
                log.exception("%s is not in the data plane as wanted", name)
                failed.append(f"{name}: {error}")
        return failed

    def _plan(self, name: str) -> ServicePlan:
        return self._planned(name).plan

    def _planned(self, name: str) -> _Plan:
        """Made anew only where it would be another one: most of the time nothing has changed."""
        spec, standings = self.services[name], self._standings.of_service(name)
        kept = self._plans.get(name)
        if kept is None or kept.spec is not spec or kept.standings != standings:
            kept = self._plans[name] = _Plan(spec, standings, plan(name, spec, standings))
        return kept

    def _apply(self, name: str) -> int:
        try:
            planned = self._planned(name)
            writes = self._plane.apply(planned.plan, time.monotonic())
        except Exception as error:
            self._not_applied[name] = f"service '{name}' is not in the data plane as wanted: {error}"
            raise
        self._not_applied.pop(name, None)
        for key, standing in planned.standings.items():
            before = self._applied.get((name, key))
            if before is not standing:
                self._tell((name, key), before, standing)
                self._applied[name, key] = standing
        return writes

    def _tell(self, key: Key, before: Standing | None, standing: Standing) -> None:
        """A backend that is new, or seen for the first time, is news only when it is down, be it for some VIPs. A
        VIP that was not checked yet is no news of one that is up for others."""
        known, now = _news_of(before) if before else None, _news_of(standing)
        if known == now or (known is None and now[0] not in (Operational.DOWN, Operational.PARTIAL)):
            return
        state, why = now[0], standing.why if now[0] is not Operational.UP or standing.share == 0 else ""
        text = f"{state}: {why}" if why else str(state)
        self.events.publish(f"backend.{state}", "/".join(key), text, before=known and known[0], reason=why)

    def _tell_faults(self) -> None:
        """Also of one that is over before the next look at all problems."""
        before, self._faults = self._faults, self._standings.faults()
        for sentence in self._faults:
            if sentence not in before:
                self.events.publish("network.fault", "director", sentence)
        for sentence in before:
            if sentence not in self._faults:
                self.events.publish("network.mended", "director", f"no more: {sentence}")

    def _repair(self, name: str) -> int:
        """Apply a service, or remove one that is not wanted; how much was to do. What fails stays a problem."""
        known = self._not_applied.get(name)
        try:
            if name in self.services:
                return self._apply(name)
            self._plane.remove(name)
            return 1
        except Exception as error:
            if known is None or self._not_applied.get(name) != known:
                log.warning("%s: %s", name, error, exc_info=not isinstance(error, DirectorError))
            return 0

    # Keeping it so

    async def _keep_up(self) -> None:
        """Apply news: at once, then no more than every APPLY_APART seconds."""
        while True:
            await self._news.wait()
            async with self._round():
                begun = time.monotonic()
                self._tell_faults()
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
        return self._standings.take_news()

    async def _keep_true(self) -> None:
        while True:
            await asyncio.sleep(UPKEEP_APART)
            await self.upkeep()

    async def upkeep(self) -> None:
        """One round: sweep connections, repair drift, see to the VIPs."""
        try:
            await self._plane.sweep(time.monotonic())
            self._sweep_trouble = ""
        except Exception as error:
            log.exception("the sweep of the connections failed")
            self._sweep_trouble = f"the sweep of the connections failed: {error}"
        async with self._round():
            await self._repair_all()
            await self.ensure_vips()
        self.last_round = time.monotonic()

    async def _repair_all(self) -> None:
        """Each service once. What there was news of, or failed before, was to come: that is no drift."""
        expected = {*self._take_news(), *self._not_applied}
        for name in (*self.services, *(self._plane.services() - set(self.services))):
            expected.update(self._take_news())
            places = self._repair(name)
            if name in expected:
                expected.discard(name)
            elif places:
                self._tell_drift(name, places)
            await asyncio.sleep(0)  # whoever asks need not wait for all of them
        self._standings.put_back(expected)  # it came after their turn

    def _tell_drift(self, name: str, places: int) -> None:
        text = f"places of the data plane that had drifted and were repaired: {places}"
        self.events.publish("dataplane.drift", name, text, places=places)
        self.drift_repaired += places


def _told_apart(standing: Standing) -> tuple[Operational, list[Operational]]:
    return standing.operational, [each.operational for each in standing.vips]


def _news_of(standing: Standing) -> tuple[Operational, list[Address]]:
    """What somebody is told of: the state, and for which VIPs the backend is down while it is up for others."""
    if standing.operational is not Operational.PARTIAL:
        return standing.operational, []
    down = [each.vip for each in standing.vips if each.operational is Operational.DOWN]
    return (Operational.PARTIAL, down) if down else (Operational.UP, [])


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _vips_of(services: Services) -> set[Address]:
    return {listener.address for spec in services.values() for listener in spec.listeners}
