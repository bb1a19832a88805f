# SPDX-License-Identifier: Apache-2.0
"""The observed status of the wanted backends: the results of their checks at each VIP, and the routes to them.

Exactly the wanted backends are checked and followed; services whose status may have changed are collected for the
caller. Knows nothing of plans or the data plane. Runs on one asyncio loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from xdpdirector.control.backend_routes import BackendRoutes, MakeNeighbours, way_of
from xdpdirector.control.planner import BackendStatus, VipVerdict, status_of
from xdpdirector.dataplane.service_plan import State
from xdpdirector.health.checks import CheckImpossible, Target
from xdpdirector.health.checks.dialer import RouteOf
from xdpdirector.health.monitor import NOTHING
from xdpdirector.health.rise_fall import HealthReport
from xdpdirector.health.runner import first_verdict_within
from xdpdirector.health.slow_start import RING_STEPS, STEPS, SlowStart
from xdpdirector.health.targets import asked, known_before, targets, verdict_on
from xdpdirector.model import Address, AdminState, Key, ServiceSpec
from xdpdirector.model.checks import CheckSpec
from xdpdirector.model.status import Operational, utc_now
from xdpdirector.net.next_hop import Route
from xdpdirector.state.diff import Missing
from xdpdirector.state.edits import Services, touched

FIRST_MARGIN = 1.0  # seconds that the first checks have on top of their timeouts
RESOLVE_WITHIN = 1.5  # how long to wait for neighbours, where it is worth it
PLAN_PATIENCE = 5.0  # for the answers that a plan asks for

log = logging.getLogger(__name__)


class CheckRunner(Protocol):
    """What is needed of `xdpdirector.health.monitor.Monitor`."""

    def set(
        self,
        key: Key,
        spec: CheckSpec,
        targets: Sequence[Target],
        earlier: Mapping[Address, HealthReport] = NOTHING,
        *,
        confirm: bool = False,
    ) -> None: ...
    def remove(self, key: Key) -> None: ...
    def reports(self, key: Key) -> Mapping[Address, HealthReport]: ...
    async def ask(self, spec: CheckSpec, target: Target) -> str: ...
    def notes(self) -> list[str]: ...
    def blind(self) -> str: ...
    async def close(self) -> None: ...


MakeChecks = Callable[[Callable[[Key, Operational, str], None], RouteOf], CheckRunner]


Adjust = Callable[[Key, ServiceSpec, BackendStatus], BackendStatus]
Weigh = Callable[[Key, Address, HealthReport], HealthReport]


def _as_it_is(_key: Key, _vip: Address, found: HealthReport) -> HealthReport:
    return found


def _unadjusted(_key: Key, _service: ServiceSpec, status: BackendStatus) -> BackendStatus:
    return status


@dataclass(frozen=True)
class Memory:
    """The earlier status of some backends, by VIP, to continue with. `inherits`: the others may have connections
    of another director, so that a first failure has to be confirmed (`xdpdirector.health.rise_fall`), and a VIP
    without a verdict keeps them."""

    health: Mapping[Key, Mapping[Address, HealthReport]] = field(default_factory=dict)
    since: Mapping[Key, tuple[Operational, datetime]] = field(default_factory=dict)
    inherits: bool = False


class BackendStatuses:
    """`on_news` is called when a check or a neighbour changed, perhaps often: `take_news` returns the services."""

    def __init__(self, neighbours: MakeNeighbours, checks: MakeChecks, on_news: Callable[[], None]) -> None:
        self._services: Services = {}
        self._on_news = on_news
        self._judged: set[str] = set()
        self._checked: set[Key] = set()
        self._inheriting: set[Key] = set()
        self._since: dict[Key, tuple[Operational, datetime]] = {}
        self._slow = SlowStart()
        self._first: set[Key] = set()
        self._first_until = 0.0
        self._steps: dict[str, asyncio.TimerHandle] = {}
        self._routes = BackendRoutes(neighbours, on_news)
        self._checks = checks(self._on_verdict, self.route)
        self._earlier: dict[Key, Mapping[Address, HealthReport]] = {}
        self.weigh: Weigh = _as_it_is
        """What a verdict of this director counts as, for a backend and a VIP."""
        self.adjust: Adjust = _unadjusted
        """A backend's status with what else is known of it."""
        self._told: tuple[dict[str, tuple[str, ...]], tuple[str, ...]] | None = None

    async def start(self) -> None:
        """From now on `route` answers."""
        await self._routes.start()

    async def close(self) -> None:
        """Stop checking and following."""
        for step in self._steps.values():
            step.cancel()
        await self._checks.close()
        await self._routes.close()

    # What to check

    def follow(self, services: Services, memory: Memory | None = None) -> None:
        """From now on the backends of these services, and no others. What `memory` says of a backend holds until
        there is something newer."""
        memory, self._told = memory or Memory(), None
        before, self._services = self._services, services
        changed = touched(before, services)
        earlier, later = (
            {(name, key) for name in changed if name in each for key in each[name].backends}
            for each in (before, services)
        )
        known = {**self._known({name: before[name] for name in changed if name in before}), **memory.health}
        self._routes.follow(before, services, changed)
        for name in changed:
            if name in services:
                self._set_checks(name, known, memory.inherits)
        self._follow_returns(before, earlier - later, later - earlier)
        for key in self._checked & earlier - {key for key in later if services[key[0]].check}:
            self._checks.remove(key)
            self._checked.discard(key)
            self._earlier.pop(key, None)
        for key in earlier - later:
            self._since.pop(key, None)
        self._inheriting -= earlier - later
        if memory.inherits:
            self._inheriting |= later
        self._since |= {key: at for key, at in memory.since.items() if self._is_followed(key)}

    def _is_followed(self, key: Key) -> bool:
        return key[0] in self._services and key[1] in self._services[key[0]].backends

    def _follow_returns(self, before: Services, gone: set[Key], new: set[Key]) -> None:
        self._slow.forget(gone)
        for key in new:
            cold = key[0] in before and self._services[key[0]].slow_start is not None
            self._slow.know([key], cold=cold)

    def _known(self, before: Services) -> dict[Key, Mapping[Address, HealthReport]]:
        """What is known of these, as far as it is true of the services now: of the same machines. One that was not
        checked was taken to be up."""
        after = self._services
        return {
            (name, key): self._verdicts(name, spec, key)
            for name, spec in before.items()
            for key, backend in spec.backends.items()
            if name in after and key in after[name].backends
            if after[name].backends[key].address == backend.address
        }

    def _verdicts(self, name: str, spec: ServiceSpec, key: str) -> dict[Address, HealthReport]:
        """By VIP."""
        if spec.check is None:
            return dict.fromkeys(spec.vips, HealthReport(Operational.UP, "", time.time()))
        reports = self._checks.reports((name, key))
        return {vip: self._verdict((name, key), vip, reports) for vip in spec.vips}

    def _verdict(self, key: Key, vip: Address, reports: Mapping[Address, HealthReport]) -> HealthReport:
        """A VIP that is not asked itself keeps what was known of it until those that are have answers."""
        found = verdict_on(vip, reports)
        if found.operational is Operational.UNKNOWN and vip not in reports:
            return self._earlier.get(key, NOTHING).get(vip, found)
        return found

    def _set_checks(
        self, name: str, known: Mapping[Key, Mapping[Address, HealthReport]], confirm: bool
    ) -> None:
        spec = self._services[name]
        if spec.check is None:
            return
        check = asked(spec.check)
        for key, backend in spec.backends.items():
            where = targets(spec, backend)
            self._earlier[name, key] = known.get((name, key), NOTHING)
            earlier = known_before(where, self._earlier[name, key])
            self._checks.set((name, key), check, where, earlier, confirm=confirm)
            self._checked.add((name, key))

    def await_first_checks(self, most: float, *, confirm: bool) -> None:
        """From now on `undecided` returns the backends whose check has no verdict yet: of those that are checked
        now, until each had the time for one attempt, or for as many as confirm a first failure, or for `most`
        seconds."""
        self._first = {key for key in self._checked if self._is_wanted(key) and self._is_undecided(key)}
        checks = [
            check for name in {name for name, _ in self._first} if (check := self._services[name].check)
        ]
        times = [first_verdict_within(check, confirm=confirm) for check in checks]
        self._first_until = time.monotonic() + min(max(times, default=0.0) + FIRST_MARGIN, most)

    def undecided(self) -> list[Key]:
        """See `await_first_checks`."""
        if time.monotonic() >= self._first_until:
            self._first.clear()
        self._first = {key for key in self._first & self._checked if self._is_undecided(key)}
        return sorted(self._first)

    def _is_wanted(self, key: Key) -> bool:
        return self._services[key[0]].backends[key[1]].admin is AdminState.ENABLED

    def _is_undecided(self, key: Key) -> bool:
        reports = self._checks.reports(key).values()
        return any(report.operational is Operational.UNKNOWN for report in reports)

    def notes(self) -> list[str]:
        """See `Monitor.notes`."""
        return self._checks.notes()

    def faults(self) -> list[str]:
        """A sentence for each thing that is wrong with the director's own network, and keeps backends away."""
        return self._routes.faults()

    def blind(self) -> str:
        """See `Monitor.blind`."""
        return self._checks.blind()

    async def resolve(self, within: float, *, but: Collection[Key] = ()) -> None:
        """Give the kernel that many seconds to find the MACs of all backends but these."""
        awaited = {
            way_of(spec, backend)
            for name, spec in self._services.items()
            for key, backend in spec.backends.items()
            if (name, key) not in but
        }
        await self._routes.resolve(awaited, within)

    # Dry run

    async def missing(self, before: Services, after: Services) -> tuple[Missing, ...]:
        """What checks would not find if `after` took the place of `before`: each thing that is not asked now is
        asked once, of all that are not in maintenance. Takes PLAN_PATIENCE seconds at most."""
        known = set(_questions(before))
        asked = [each for each in _questions(after) if each not in known]
        with self._routes.watching((target.backend, target.is_routed) for _, _, target in asked) as unknown:
            await self._routes.resolve(unknown, RESOLVE_WITHIN)
            answers = await asyncio.gather(*(self._ask(check, target) for _, check, target in asked))
        return tuple(
            Missing(service=key[0], backend=key[1], address=target.address, why=why)
            for (key, _, target), why in zip(asked, answers, strict=True)
            if why
        )

    async def _ask(self, check: CheckSpec, target: Target) -> str:
        try:
            async with asyncio.timeout(PLAN_PATIENCE):
                return await self._checks.ask(check, target)
        except TimeoutError:
            return "there was no time to ask it"
        except CheckImpossible as reason:
            return f"it could not be asked: {reason}"
        except Exception as error:  # a defect of a check is none of the plan's
            log.warning("the %s check of %s failed itself", check.type, target, exc_info=True)
            return f"the {check.type} check itself failed: {error!r}"

    # Status

    def route(self, address: Address, routed: bool = False) -> Route:
        """The route to an address, also to one that is not watched. `routed`: it may be behind a gateway."""
        return self._routes.get(address, routed)

    def of(self, key: Key) -> BackendStatus:
        """Of a wanted backend."""
        return self.adjust(key, self._services[key[0]], self.unadjusted(key))

    def unadjusted(self, key: Key) -> BackendStatus:
        """The same by checks, routes and slow start alone."""
        service = self._services[key[0]]
        route = self.route(*way_of(service, service.backends[key[1]]))
        now = time.monotonic()
        grown = self._slow.share(key, service.slow_start, steps=_steps(service), now=now)
        if service.check is None:
            return BackendStatus(Operational.UP, "", route, grown)
        reports = self._checks.reports(key)
        verdicts = [(vip, self.weigh(key, vip, self._verdict(key, vip, reports))) for vip in service.vips]
        shares = [report.share for report in reports.values() if report.operational is Operational.UP]
        share = min(shares or [report.share for report in reports.values()])
        return status_of(
            [VipVerdict(vip, report.operational, report.reason) for vip, report in verdicts],
            route,
            share * grown,
            inherits=key in self._inheriting,
        )

    def of_service(self, name: str) -> dict[str, BackendStatus]:
        """Of all backends of a wanted service, noting when they change."""
        self._note_returns(name, self._services[name])
        statuses = {key: self.of((name, key)) for key in self._services[name].backends}
        for key, status in statuses.items():
            known = self._since.get((name, key))
            if known is None or known[0] is not status.operational:
                self._since[name, key] = (status.operational, utc_now())
        return statuses

    def _note_returns(self, name: str, spec: ServiceSpec) -> None:
        """Who serves again gets its weight in steps, each of which is news."""
        if spec.slow_start is None:
            return
        now, steps = time.monotonic(), []
        for key, backend in spec.backends.items():
            up = self.of((name, key)).operational.serves
            self._slow.see((name, key), up and backend.admin is AdminState.ENABLED, now)
            step = self._slow.next_step((name, key), spec.slow_start, steps=_steps(spec), now=now)
            steps += [step] if step is not None else []
        if name in self._steps:
            self._steps.pop(name).cancel()
        if steps:
            loop = asyncio.get_running_loop()
            self._steps[name] = loop.call_later(min(steps) - now, self._on_step, name)

    def since(self, key: Key) -> datetime:
        """When the operational state of a backend changed last; now, if it was never read."""
        return self._since[key][1] if key in self._since else utc_now()

    def memory(self, names: Collection[str]) -> Memory:
        """All that is known of the backends of these services."""
        return Memory(
            {
                (name, key): self._verdicts(name, self._services[name], key)
                for name in names
                if name in self._services
                for key in self._services[name].backends
                if (name, key) in self._checked
            },
            {
                (name, key): self._since[name, key]
                for name in names
                if name in self._services
                for key in self._services[name].backends
                if (name, key) in self._since
            },
        )

    # Changes

    def take_news(self) -> list[str]:
        """The services of which something may have changed since this was asked last."""
        judged, self._judged = self._judged, set()
        news = judged | self._routes.take_news()
        return [name for name in self._services if name in news] if news else []

    def put_back(self, names: Collection[str]) -> None:
        """These services are still to be applied."""
        self._judged.update(names)
        if names:
            self._on_news()

    def verdicts_here(self) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
        """What this director's own checks find down, by `service/backend` the VIPs; and what they have no verdict
        on yet."""
        if self._told is None:
            self._told = self._own_verdicts()
        return self._told

    def _own_verdicts(self) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
        down: dict[str, tuple[str, ...]] = {}
        undecided: list[str] = []
        for key in sorted(self._checked):
            reports = self._checks.reports(key)
            found = {vip: self._verdict(key, vip, reports) for vip in self._services[key[0]].vips}
            if any(each.operational is Operational.UNKNOWN for each in found.values()):
                undecided.append("/".join(key))
            vips = tuple(str(vip) for vip, each in found.items() if each.operational is Operational.DOWN)
            if vips:
                down["/".join(key)] = vips
        return down, tuple(undecided)

    def _on_verdict(self, key: Key, operational: Operational, reason: str) -> None:
        self._told = None
        self._judged.add(key[0])
        self._on_news()

    def _on_step(self, name: str) -> None:
        self._steps.pop(name, None)
        self._judged.add(name)
        self._on_news()


def _questions(services: Services) -> list[tuple[Key, CheckSpec, Target]]:
    """All check targets of these services."""
    return [
        ((name, key), asked(spec.check), target)
        for name, spec in services.items()
        for key, backend in spec.backends.items()
        if spec.check and backend.admin is not AdminState.MAINTENANCE
        for target in targets(spec, backend)
    ]


def _steps(service: ServiceSpec) -> int:
    return RING_STEPS if service.scheduler.is_ring else STEPS


def health_of(state: State, vips: Mapping[Address, bool]) -> dict[Address, HealthReport]:
    """What the maps say of a backend's health: its state, of which maintenance says nothing, and for which VIPs it
    would serve."""
    operational = {State.SERVING: Operational.UP, State.DOWN: Operational.DOWN}.get(
        state, Operational.UNKNOWN
    )
    return {
        vip: HealthReport(
            Operational.DOWN if operational is Operational.UP and not serves else operational, "", time.time()
        )
        for vip, serves in vips.items()
    }
