# SPDX-License-Identifier: Apache-2.0
"""Passive health of all services that want it: reads what was counted, judges, publishes, and lowers weights.

How backends are judged is `xdpdirector.health.passive`; that of a backend which is ejected follows its weight's way
into the plan, as slow start does: running connections stay.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import datetime

from xdpdirector.control.events import Events
from xdpdirector.control.planner import BackendStatus
from xdpdirector.dataplane.interface import Plane
from xdpdirector.health.passive import NO_FIGURES, Change, Figures, Opened, PassiveHealth
from xdpdirector.model import AdminState, Key, ServiceSpec
from xdpdirector.model.passive import PassiveCounts, PassiveState, PassiveView
from xdpdirector.model.status import utc_now
from xdpdirector.state.edits import Services


class PassiveHealths:
    """`on_change` is called with the services of which a backend gets another part of its weight."""

    def __init__(
        self,
        services: Callable[[], Services],
        plane: Plane,
        events: Events,
        serves: Callable[[Key], bool],
        on_change: Callable[[Collection[str]], None],
    ) -> None:
        """`serves`: whether a backend takes connections, but for its admin state and passive health."""
        self._services, self._plane, self._events = services, plane, events
        self._serves, self._on_change = serves, on_change
        self._healths: dict[str, PassiveHealth] = {}
        self._told: dict[Key, tuple[datetime, str]] = {}
        """Since when a backend is what it is, and the sentence for it."""

    def look(self, now: float) -> None:
        """Judge all. `now`: monotonic seconds."""
        services, changed = self._services(), []
        for name in [name for name in self._healths if not _is_watched(services.get(name))]:
            del self._healths[name]
        for name, spec in services.items():
            if _is_watched(spec):
                changed += [name] if self._look_at(name, spec, now) else []
        self._told = {
            key: told for key, told in self._told.items() if self._state(key) is not PassiveState.NORMAL
        }
        if changed:
            self._on_change(changed)

    def _look_at(self, name: str, spec: ServiceSpec, now: float) -> bool:
        assert spec.passive
        health = self._healths.setdefault(name, PassiveHealth())
        keys = [
            (name, key)
            for key, backend in spec.backends.items()
            if backend.admin is AdminState.ENABLED and backend.weight > 0 and key != spec.fallback
        ]
        counts = self._plane.passive(keys)
        totals = {key: Opened(counts[name, key].syns, counts[name, key].retransmitted) for _, key in keys}
        changes = health.look(
            totals, {key for _, key in keys if self._serves((name, key))}, spec.passive, now
        )
        for change in changes:
            self._publish(name, change)
        return bool(changes)

    def _publish(self, service: str, change: Change) -> None:
        key, why = (service, change.backend), sentence(change.figures)
        self._told[key] = utc_now(), f"{change.after}: {why}"
        text = f"{change.after}: {why}" if why else str(change.after)
        self._events.publish(f"passive.{change.after}", "/".join(key), text, before=change.before, reason=why)

    def _state(self, key: Key) -> PassiveState:
        health = self._healths.get(key[0])
        return health.state(key[1]) if health else PassiveState.NORMAL

    def adjusted(self, key: Key, service: ServiceSpec, status: BackendStatus) -> BackendStatus:
        """The status of a backend with the part of its weight that passive health leaves it, and why."""
        health = self._healths.get(key[0])
        if health is None or service.passive is None or health.state(key[1]) is PassiveState.NORMAL:
            return status
        told = self._told[key][1] if key in self._told else ""
        return replace(
            status,
            share=status.share * health.part(key[1], service.passive),
            reason=status.reason or told,
        )

    def view(self, key: Key, counts: PassiveCounts) -> PassiveView:
        """Of a backend whose service watches it."""
        health = self._healths.get(key[0])
        figures = health.figures(key[1]) if health else NO_FIGURES
        return PassiveView(
            **dict(counts),
            state=self._state(key),
            since=self._told[key][0] if key in self._told else None,
            connections=figures.own.connections,
            share=figures.own.share,
            siblings=figures.siblings.share,
        )

    def views(self, spec: ServiceSpec, keys: Collection[Key]) -> Mapping[Key, PassiveView]:
        """Of some backends of a service; empty if it does not watch them."""
        if spec.passive is None:
            return {}
        return {key: self.view(key, counts) for key, counts in self._plane.passive(keys).items()}


def _is_watched(spec: ServiceSpec | None) -> bool:
    return spec is not None and spec.passive is not None


def sentence(figures: Figures) -> str:
    """What a backend was judged by; empty without connections."""
    own, siblings = figures
    if not own.connections:
        return ""
    words = f"{own.repeated} of its last {own.connections} connections had to send their SYN again"
    if siblings.share is None:
        return words
    return f"{words} ({own.share or 0:.0%}; its siblings' {siblings.share:.1%})"
