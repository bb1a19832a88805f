# SPDX-License-Identifier: Apache-2.0
"""Directors that leave for maintenance and come back: this one and, where a fleet shares its state, the others.

A director that is to leave is not ready: keepalived or the VIPs' own interface moves its traffic elsewhere. What it
forwards meanwhile, it forwards as before. `xdpdirector.state.maintenance` has the states.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Literal

from xdpdirector.control.desired_state import MOST_TRIES
from xdpdirector.control.events import Events
from xdpdirector.errors import (
    ConflictError,
    DirectorError,
    StoreError,
    SupersededError,
    TimedOutError,
    UnreachableError,
)
from xdpdirector.model.fleet import DirectorDrainReport, DirectorReport, DirectorView, DrainState
from xdpdirector.model.status import utc_now
from xdpdirector.state import etag
from xdpdirector.state.change_request import Intent
from xdpdirector.state.diff import Difference
from xdpdirector.state.dry_run import DryRunError, beside
from xdpdirector.state.maintenance import (
    DirectorDrain,
    Order,
    Orders,
    OrderStore,
    Sight,
    require_known,
    require_successor,
)
from xdpdirector.system.threads import to_its_end

LOOK_APART = 0.1  # seconds between two checks while a caller waits

log = logging.getLogger(__name__)


class MaintenanceController:
    """Of the director called `name`. `sight`: what it sees of itself; `reports`: what the live directors say, this
    one with them, by name. Everything happens on one asyncio loop."""

    def __init__(
        self,
        name: str,
        store: OrderStore,
        events: Events,
        sight: Callable[[], Awaitable[Sight]],
        reports: Callable[[], Mapping[str, DirectorReport]],
    ) -> None:
        self.name = name
        self.warning = ""
        """Why it is not known which directors are drained; empty when it is."""
        self._store, self._events, self._sight, self._reports = store, events, sight, reports
        self._orders: Orders = {}
        self._drain = DirectorDrain()
        self._drained: frozenset[str] = frozenset()
        self._turn = asyncio.Lock()
        """Held while orders are changed."""
        self._stopping = False

    # Life

    def start(self) -> None:
        """Obey what was ordered before."""
        self._load()

    def follow(self) -> None:
        """Obey what was ordered meanwhile, here or through another director, as far as it is known here."""
        before = self._orders
        self._load()
        if self._orders is before:
            return
        for name, order in self._orders.items():
            if name not in before:
                text = f"the director leaves for maintenance{_why(order)}"
                self._events.publish("fleet.drain", name, text, author=order.author, reason=order.reason)
        for name in before.keys() - self._orders.keys():
            self._events.publish("fleet.enable", name, "the director takes traffic again")

    def _load(self) -> None:
        try:
            self._orders, self.warning = self._store.load(), ""
        except StoreError as error:
            self.warning = f"it is not known which directors are drained: {error.detail}"
        self._drain.order(self.name in self._orders)

    async def look(self) -> None:
        """To be called every second: how far this director is, and which others are done."""
        self.follow()
        if self._drain.state is not DrainState.ENABLED:
            try:
                self._drain.see(await self._sight())
            except DirectorError as error:  # tried again in a second
                log.warning("it cannot be seen what is left at this director: %s", error.detail)
        self._publish_drained()

    def _publish_drained(self) -> None:
        if not self._orders and not self._drained:
            return
        before = self._drained
        self._drained = frozenset(
            name for name in self._orders if self._view(name).state is DrainState.DRAINED
        )
        for name in sorted(self._drained - before):
            self._events.publish("fleet.drained", name, "no traffic comes to the director any more")

    def stop_waiting(self) -> None:
        """Callers that wait get an UnreachableError."""
        self._stopping = True

    # Reading

    @property
    def problem(self) -> str:
        """Why this director is not ready; empty when it may be."""
        order = self._orders.get(self.name)
        return f"this director leaves for maintenance{_why(order)}" if order else ""

    def report(self) -> DirectorDrainReport | None:
        """What is said of this director to the others; None when it is enabled."""
        order, drain = self._orders.get(self.name), self._drain
        if order is None:
            return None
        return DirectorDrainReport(
            state=drain.state,
            since=order.since,
            flows=drain.last.flows if drain.last else 0,
            flows_at_start=drain.at_start,
            packets_per_second=round(drain.packets_per_second, 1),
            obstacles=tuple(drain.obstacles()),
        )

    def view(self, name: str) -> DirectorView:
        """NotFoundError."""
        require_known(name, self._reports(), self._orders)
        return self._view(name)

    def leaving(self) -> list[DirectorView]:
        """Those that are to leave, or have left, by name."""
        return [self._view(name) for name in sorted(self._orders)]

    def _view(self, name: str) -> DirectorView:
        report, order = self._reports().get(name), self._orders.get(name)
        admin: Literal["enabled", "drain"] = "drain" if order else "enabled"
        view = DirectorView(name=name, admin=admin, this=name == self.name, live=report is not None)
        if order:
            told = {"since": order.since, "author": order.author, "reason": order.reason}
            view = view.model_copy(update=told)
        if report is None:
            return view
        said = report.drain
        view = view.model_copy(update={"ready": report.ready, "why": report.why, "state": DrainState.ENABLED})
        if said is None or order is None or said.since != order.since:  # it has not heard of it yet
            return view
        return view.model_copy(update=dict(said))

    def tag(self, name: str) -> str:
        """The ETag of what is wanted of a director."""
        order = self._orders.get(name)
        return etag.tag("director", name, *([order.since.isoformat(), order.reason] if order else ()))

    # Writing

    async def drain(self, name: str, *, force: bool = False, intent: Intent) -> DirectorView:
        """Let a director leave. NotFoundError; ConflictError when no other one is ready, unless forced."""

        def wanted() -> Order:
            reports, before = self._reports(), self._orders.get(name)
            if not force:
                ready = {each: report.ready for each, report in reports.items()}
                require_successor(name, ready, self._orders)
            return Order(intent.author, intent.reason, before.since if before else utc_now())

        return await self._change(name, wanted, intent)

    async def enable(self, name: str, *, intent: Intent) -> DirectorView:
        """Let a director come back. NotFoundError."""
        return await self._change(name, lambda: None, intent)

    async def _change(self, name: str, wanted: Callable[[], Order | None], intent: Intent) -> DirectorView:
        for left in range(MOST_TRIES - 1, -1, -1):
            await to_its_end(self._store.refresh)
            async with self._turn:
                self.follow()
                if self.warning:
                    raise StoreError(self.warning)
                require_known(name, self._reports(), self._orders)
                intent.require(f"director '{name}'", self.tag(name))
                order, before = wanted(), self._orders.get(name)
                if intent.dry_run:
                    raise DryRunError(_differences(name, before, order))
                if order == before:
                    return self._view(name)
                try:
                    await to_its_end(partial(self._store.keep, name, order))
                except SupersededError:
                    if not left:
                        raise
                else:
                    self.follow()
                    return self._view(name)
            await asyncio.sleep(random.uniform(0, 0.02))
        raise AssertionError

    async def wait_drained(self, name: str, timeout: float) -> DirectorView:
        """TimedOutError says what is left; ConflictError when it is not to leave; UnreachableError when the daemon
        stops; NotFoundError."""
        until = time.monotonic() + timeout
        while (view := self.view(name)).state is not DrainState.DRAINED:
            if view.admin == "enabled":
                raise ConflictError(f"director '{name}' is enabled, not draining: drain it first")
            if self._stopping:
                raise UnreachableError(
                    f"the daemon is stopping; director '{name}' goes on draining: ask again when it runs"
                )
            if time.monotonic() >= until:
                raise TimedOutError(f"director '{name}' is still draining: {left(view)}")
            await asyncio.sleep(LOOK_APART)
        return view


def left(view: DirectorView) -> str:
    """What keeps a director from being drained, in words."""
    if not view.live:
        return "it is not heard of"
    return "; ".join(view.obstacles) or "it has not heard of it yet"


def _why(order: Order) -> str:
    return f", as {order.author} says" + (f": {order.reason}" if order.reason else "")


def _differences(name: str, before: Order | None, after: Order | None) -> tuple[Difference, ...]:
    """Of a dry run."""
    if before == after:
        return ()
    return (beside("fleet", name, _told(before), _told(after)),)


def _told(order: Order | None) -> dict[str, str] | None:
    return {"admin": "drain", "reason": order.reason, "author": order.author} if order else None
