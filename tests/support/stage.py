# SPDX-License-Identifier: Apache-2.0
"""A director on a stage: the real director and reconciler between fakes, for stories without root.

Backends are named hosts. Their MACs are known from the start, so that nothing waits for neighbours.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any, ParamSpec

from tests.support.fake_carriers import FakeCarriers
from tests.support.fake_denylist_store import FakeDenyListStore
from tests.support.fake_lan import FakeLan
from tests.support.fake_neighbours import FakeNeighbours
from tests.support.fake_order_store import FakeOrderStore
from tests.support.fake_plane import FakePlane
from tests.support.fake_vips import FakeVips
from xdpdirector.control.backend_status import CheckRunner
from xdpdirector.control.director import Director
from xdpdirector.control.guard_controller import GuardController
from xdpdirector.control.reconciler import Reconciler
from xdpdirector.control.take_over import TakeOver
from xdpdirector.dataplane.service_plan import MemberPlan, ServicePlan
from xdpdirector.errors import DirectorError, StoreError
from xdpdirector.health.checks import Target
from xdpdirector.health.checks.dialer import RouteOf
from xdpdirector.health.monitor import NOTHING
from xdpdirector.health.rise_fall import HealthReport
from xdpdirector.model import Address, BackendSpec, Configuration, Key, ServiceSpec
from xdpdirector.model.checks import CheckSpec
from xdpdirector.model.status import Operational
from xdpdirector.net.neighbours import (
    Route,
)
from xdpdirector.state.change_request import Intent
from xdpdirector.state.denylist import (
    DenyListStore,
    SharedDenyListStore,
)
from xdpdirector.state.diff import Plan
from xdpdirector.state.drains import Drain
from xdpdirector.state.maintenance import OrderStore
from xdpdirector.state.revisions import History, Revision, RevisionDraft, SharedHistory, Summary

P = ParamSpec("P")
DEADLINE = 10.0

VIP, OTHER_VIP = ip_address("192.0.2.10"), ip_address("192.0.2.11")
HOSTS: dict[str, Address] = {f"web{number}": ip_address(f"192.0.2.{20 + number}") for number in range(1, 5)}
MACS = {name: bytes.fromhex("0200000000") + address.packed[-1:] for name, address in HOSTS.items()}
FAR = ip_address("198.51.100.21")
FAR_AWAY = Route("off-link", why=f"{FAR} is behind the gateway 192.0.2.1 on eth0")
WEB1, WEB2, WEB3, MAIL3 = ("web", "web1"), ("web", "web2"), ("web", "web3"), ("mail", "web3")
CHECK = {"type": "tcp", "port": 80}
ME = Intent("operator")
BASE = Configuration(interfaces=("eth0",))
DISK_FULL = StoreError("the disk is full")


def story(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Runs a test that is a coroutine, and sees that it leaves no task behind."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def main() -> None:
            await test(*args, **kwargs)
            assert asyncio.all_tasks() == {asyncio.current_task()}

        asyncio.run(main())

    return run


async def until(condition: Callable[[], object]) -> None:
    """Wait for something to become true; TimeoutError when it does not."""
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.001)


def backend(name: str, **fields: Any) -> BackendSpec:
    return BackendSpec.model_validate({"address": str(HOSTS[name]), **fields})


def service(*names: str, listener: str = f"{VIP}:80/tcp", **fields: Any) -> ServiceSpec:
    """Of these hosts, without a check; `fields` are the model's."""
    backends = {name: backend(name) for name in names} | fields.pop("backends", {})
    return ServiceSpec.model_validate({"listeners": [listener], **fields, "backends": backends})


def mail(*names: str, **fields: Any) -> ServiceSpec:
    """As `service`, at the VIP's port 25."""
    return service(*names, listener=f"{VIP}:25/tcp", **fields)


def configuration(**services: ServiceSpec) -> Configuration:
    return BASE.model_copy(update={"services": services})


CHANGED = configuration(
    web=service("web1", "web3", scheduler="rr", timeouts={"tcp": "60s"}), mail=mail("web2", on_empty="drop")
)
"""`web` with another scheduler, time-out and backend than that of `web_stage`, and a new service."""


def differences(plan: Plan) -> list[tuple[str, str]]:
    return [(each.action, each.pointer) for each in plan.changes]


class FakeChecks:
    """A CheckRunner whose verdicts a test speaks. `running` is what would be probed; `began` counts by key how
    often a check began anew; `to_be_confirmed`: whether a first failure of it has to be."""

    def __init__(self, on_change: Callable[[Key, Operational, str], None]) -> None:
        self.running: dict[Key, tuple[CheckSpec, list[Target]]] = {}
        self.began: dict[Key, int] = {}
        self.to_be_confirmed: dict[Key, bool] = {}
        self._on_change = on_change
        self._reports: dict[Key, dict[Address, HealthReport]] = {}
        self.asked: list[Target] = []
        self.failures: dict[tuple[Address, Address], str] = {}
        """What one try finds, by backend and VIP."""
        self.broken: Exception | None = None
        """Raised by each try."""

    def set(
        self,
        key: Key,
        spec: CheckSpec,
        targets: Sequence[Target],
        earlier: Mapping[Address, HealthReport] = NOTHING,
        *,
        confirm: bool = False,
    ) -> None:
        wanted = (spec, list(targets))
        before = self.running.get(key)
        if before == wanted:
            return
        self.running[key] = wanted
        self.to_be_confirmed[key] = confirm
        self.began[key] = self.began.get(key, 0) + 1
        asked, known = before[1] if before else [], self._reports.get(key, {})
        self._reports[key] = {
            target.address: known[target.address]
            if target in asked
            else earlier.get(target.address) or HealthReport(Operational.UNKNOWN, "", time.time())
            for target in targets
        }

    def remove(self, key: Key) -> None:
        self.running.pop(key, None)
        self._reports.pop(key, None)

    def reports(self, key: Key) -> dict[Address, HealthReport]:
        return dict(self._reports.get(key, {}))

    async def ask(self, spec: CheckSpec, target: Target) -> str:
        self.asked.append(target)
        if self.broken:
            raise self.broken
        return self.failures.get((target.backend, target.address), "")

    def notes(self) -> list[str]:
        return []

    def blind(self) -> str:
        return ""

    async def close(self) -> None:
        self.running.clear()

    def say(
        self,
        key: Key,
        operational: Operational,
        reason: str = "",
        *,
        share: float = 1.0,
        at: Address | None = None,
    ) -> None:
        """The verdict from now on, of all that is asked, or of one address; announced where it is another one."""
        for address, before in list(self._reports[key].items()):
            if at in (None, address):
                after = replace(before, operational=operational, reason=reason, share=share)
                self._reports[key][address] = after
                if (before.operational, before.share) != (operational, share):
                    self._on_change(key, operational, reason)


class FakeHistory:
    """Remembers revisions and drains; `full`: what is raised instead of remembering more; `before_writing`: called
    before each revision."""

    def __init__(self) -> None:
        self.revisions: list[Revision] = []
        self.kept_drains: dict[Key, Drain] = {}
        self.kept_file: dict[str, ServiceSpec] | None = None
        self.full: DirectorError | None = None
        self.notes: tuple[str, ...] = ()
        self.before_writing: Callable[[], object] = lambda: None

    def latest(self) -> Revision | None:
        return self.revisions[-1] if self.revisions else None

    def revision(self, number: int) -> Revision | None:
        return next((each for each in self.revisions if each.id == number), None)

    def summaries(self, *, before: int | None, limit: int) -> list[Summary]:
        found = [each for each in reversed(self.revisions) if before is None or each.id < before]
        return [Summary(each.id, each.at, each.author, each.reason) for each in found[:limit]]

    def drains(self) -> dict[Key, Drain]:
        return dict(self.kept_drains)

    def file(self) -> dict[str, ServiceSpec] | None:
        return self.kept_file

    def append(self, draft: RevisionDraft) -> Revision:
        self.try_writing()
        self.before_writing()
        number, names, last = len(self.revisions) + 1, frozenset(draft.file_services or ()), self.latest()
        file_digest = draft.file_digest
        if file_digest is not None:
            self.kept_file = dict(draft.file_services or {})
        elif last:
            file_digest, names = last.file_digest, last.file_services
        now = datetime.now(UTC)
        self.revisions.append(
            Revision(number, now, draft.author, draft.reason, dict(draft.services), file_digest, names)
        )
        if draft.drains is not None:
            self.kept_drains = dict(draft.drains)
        return self.revisions[-1]

    def look(self) -> None:
        if self.full:
            raise self.full

    def try_writing(self) -> None:
        if self.full:
            raise self.full


class Stage:
    """The director runs inside the `async with`; before it, the fakes can be prepared."""

    checks: FakeChecks
    neighbours: FakeNeighbours
    routed: FakeNeighbours
    """Of backends behind tunnels."""

    def __init__(
        self,
        plane: FakePlane | None = None,
        patience: float = 0.0,
        kept: tuple[History, DenyListStore] | None = None,
        shared: SharedHistory | None = None,
        shared_denials: SharedDenyListStore | None = None,
        base: Configuration | None = None,
        orders: OrderStore | None = None,
        has_peers: bool = False,
        take_over: TakeOver | None = None,
        **services: ServiceSpec,
    ) -> None:
        """`patience`, `take_over`: see Reconciler. `kept`: where revisions and denials are kept, when that is no
        fake. `shared`, `shared_denials`, `orders`: the stores of a fleet. `base`: the parts of the configuration
        beside the services. `has_peers`: its VIPs may stand on another director."""
        self.plane, self.vips, self.history = plane or FakePlane(), FakeVips(), FakeHistory()
        self.denials, self.orders = FakeDenyListStore(), FakeOrderStore()
        history, denials = kept or (shared or self.history, shared_denials or self.denials)
        latest = history.latest()
        self.reconciler = Reconciler(
            services,
            plane=self.plane,
            vips=self.vips,
            neighbours=self._neighbours,
            checks=self._checks,
            patience=patience,
            has_peers=has_peers,
            take_over=take_over,
        )
        self.carriers, self.lan = FakeCarriers(), FakeLan()
        self.director = Director(
            self.reconciler,
            self.plane,
            history,
            base or BASE,
            carriers=self.carriers,
            lan=self.lan,
            guard=GuardController(
                self.plane,
                denials,
                self.reconciler.events,
                lambda: self.reconciler.services,
                BASE.sizes,
                shared=shared_denials,
            ),
            orders=orders or self.orders,
            revision=latest.id if latest else 0,
            shared=shared,
        )
        for name, address in HOSTS.items():
            self.neighbours.learn(address, MACS[name])
        self.neighbours.put(FAR, FAR_AWAY)

    async def __aenter__(self) -> Stage:
        await self.director.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.director.close()

    def _neighbours(self, on_change: Callable[[Address], None], routed: bool) -> FakeNeighbours:
        table = FakeNeighbours(on_change)
        if routed:
            self.routed = table
        else:
            self.neighbours = table
        return table

    def _checks(self, on_change: Callable[[Key, Operational, str], None], _route: RouteOf) -> CheckRunner:
        self.checks = FakeChecks(on_change)
        return self.checks

    def member(self, key: Key) -> MemberPlan:
        """As the plane was told last."""
        return next(member for member in self.plane.plans[key[0]].members if member.name == key[1])

    def accepting(self, name: str = "web") -> list[str]:
        """The service's backends that take new connections."""
        return [member.name for member in self.plane.plans[name].members if member.accepts]

    def wanted(self) -> dict[str, ServiceSpec]:
        return dict(self.reconciler.services)

    def shown(self) -> tuple[dict[str, ServicePlan], dict[str, ServiceSpec], set[Key], set[Address]]:
        """All that a change that fails must leave alone: plans, wishes, what is checked, what is followed."""
        return (
            dict(self.plane.plans),
            self.wanted(),
            set(self.checks.running),
            set(self.neighbours.watched),
        )


def web_stage(**fields: Any) -> Stage:
    """A director with the service `web` on web1 and web2; `fields` are the service's."""
    return Stage(web=service("web1", "web2", **fields))


def web_and_mail_stage(plane: FakePlane | None = None) -> Stage:
    """`web` on web1 and web2, `mail` on web3; all are checked."""
    return Stage(plane, web=service("web1", "web2", check=CHECK), mail=mail("web3", check=CHECK))
