# SPDX-License-Identifier: Apache-2.0
"""The drains under way. Pure but for the time: knows neither maps nor tasks. The wall clock may jump meanwhile.

running --(no connection left, and none can be hidden)--> drained
running --(deadline, on_deadline = keep)--> running, overdue
running --(deadline, on_deadline = cut)--> due: the caller puts the backend into maintenance
drained, or due, and it leaves: the caller removes the backend
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal

from xdpdirector.model import AdminState, Key, ServiceSpec
from xdpdirector.model.status import BackendView, DrainView, Operational
from xdpdirector.state.admin_change import DRAIN, AdminChange
from xdpdirector.state.drain_estimate import Progress
from xdpdirector.system import boot_time
from xdpdirector.system.boot_time import Moment, Now


@dataclass(frozen=True)
class Drain:
    """One drain; `at_start` are the connections the backend had when it began. `within`: the seconds that were
    given to it, until the deadline. `leaves`: the backend goes when it is drained, as the configuration file does
    not have it any more."""

    since: Moment
    reason: str
    deadline: Moment | None
    on_deadline: Literal["keep", "cut"]
    at_start: int
    leaves: bool = False
    within: float | None = None

    def view(self, remaining: int, settled: bool, progress: Progress, now: Now) -> DrainView:
        """The view for the API. A connection that is left is at least as old as the drain, since no new ones come;
        its exact age is not recorded."""
        ends_in = progress.ends_in(remaining) if settled else None
        ends = None if ends_in is None else now.wall + timedelta(seconds=ends_in)
        deadline = self.deadline.told(now) if self.deadline else None
        if self.on_deadline == "cut" and deadline and remaining:
            ends = min(ends or deadline, deadline)
        return DrainView(
            since=self.since.told(now),
            reason=self.reason,
            deadline=deadline,
            on_deadline=self.on_deadline,
            connections_at_start=max(self.at_start, progress.most),
            remaining=remaining,
            settled=settled,
            packets_per_second=progress.packets_per_second,
            oldest_at_least=round(now.at - self.since.at, 3) if remaining else None,
            estimated_end=ends,
        )


class Drains:
    """By (service, backend)."""

    def __init__(self, running: Mapping[Key, Drain] | None = None) -> None:
        self._running = dict(running or {})

    def copy(self) -> Drains:
        """To be changed beside this one."""
        return Drains(self._running)

    def begin(
        self,
        key: Key,
        connections: int,
        change: AdminChange = DRAIN,
    ) -> None:
        """Start one, or give the running one another reason and deadline."""
        now = Moment(*boot_time.now())
        earlier = self._running.get(key)
        self._running[key] = Drain(
            since=earlier.since if earlier else now,
            reason=change.reason,
            deadline=None if change.deadline is None else now.later(change.deadline),
            within=change.deadline,
            on_deadline=change.on_deadline,
            at_start=earlier.at_start if earlier else connections,
            leaves=earlier.leaves if earlier else False,
        )

    def leave(self, key: Key, connections: int) -> None:
        """The backend drains, and goes then; one that drains already keeps its deadline."""
        if key not in self._running:
            self.begin(key, connections)
        drain = self._running[key]
        reason = drain.reason or "the configuration file does not have it any more"
        self._running[key] = replace(drain, leaves=True, reason=reason)

    def leaving(self) -> frozenset[Key]:
        """Those that go when they are drained."""
        return frozenset(key for key, drain in self._running.items() if drain.leaves)

    def end(self, key: Key) -> None:
        self._running.pop(key, None)

    def running(self) -> dict[Key, Drain]:
        """All of them."""
        return dict(self._running)

    def get(self, key: Key) -> Drain | None:
        return self._running.get(key)

    def due(self, now: Now) -> list[Key]:
        """Whose deadline has passed and who shall be cut then."""
        return [
            key
            for key, drain in self._running.items()
            if drain.on_deadline == "cut" and drain.deadline and drain.deadline.at <= now.at
        ]


def hides_connections(spec: ServiceSpec, *, settled: bool) -> bool:
    """Whether a backend of the service may have connections without a record. A ring records few of them, but for a
    persistent service; and from a ring that was, some may be left until it is settled."""
    return not settled or (spec.scheduler.is_ring and not spec.persistence)


def busy(view: BackendView, spec: ServiceSpec, *, settled: bool) -> str:
    """What running connections a backend of this service has; empty when there are none. Of connections without a
    record only a drain can tell."""
    if view.connections.active:
        return f"has {view.connections.active} connections"
    serves = view.admin is not AdminState.MAINTENANCE and (
        view.operational.serves or view.operational is Operational.UNKNOWN
    )
    if serves and view.traffic.packets and hides_connections(spec, settled=settled):
        return f"may have connections that '{spec.scheduler}' keeps no record of"
    return ""


def still_busy(view: BackendView) -> str:
    left = f"{view.connections.active} connections left"
    if view.drain and not view.drain.settled:
        left += ", and more may be unseen until the service's time-outs have passed"
    return f"backend '{view.service}/{view.name}' is still draining: {left}"


def announced(view: BackendView) -> str:
    """What a drain that begins has to say; empty when there is none."""
    if view.drain is None:
        return ""
    text = f"draining, connections now: {view.drain.connections_at_start}"
    if view.drain.deadline:
        text += f", {view.drain.on_deadline} them at {view.drain.deadline:%H:%M:%S} UTC"
    return text + (f" ({view.drain.reason})" if view.drain.reason else "")
