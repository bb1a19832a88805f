# SPDX-License-Identifier: Apache-2.0
"""What the dashboard shows of the present second: computed once for all viewers, and only while there are any.

Rates come from what was counted between two looks. A look every ten seconds is kept for a quarter of an hour, also
when nobody looks, so that a page begins with what was before. Knows counters and states, no HTTP.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from xdpdirector.api.director_interface import Control
from xdpdirector.api.http.loop_turns import in_turns
from xdpdirector.control.status_views import BackendSample, ServiceSample
from xdpdirector.errors import DirectorError
from xdpdirector.model import AdminState
from xdpdirector.model.status import (
    DrainView,
    GuardView,
    Operational,
    Readiness,
    Refused,
    ServiceCounters,
    Traffic,
    Vitals,
)

APART = 1.0  # seconds between two readings while there are viewers
KEPT_APART = 10.0
KEPT = 90  # of those
MOST_SERVICES_KEPT = 1000
MOST_TROUBLED = 100
MOST_DENIED = 5000  # prefixes, of which the busiest can still be found
TOP = 20
MANY = 250  # backends, from which on all of them are not looked at each second
SLOWLY = (
    3  # looks from one to the next of what changes little and costs more; seconds, so that it is never stale
)

Document = dict[str, Any]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Counted:
    """What was counted of one thing; as rates, what a second of it was."""

    connections: float = 0
    packets: float = 0
    bytes: float = 0
    refused: float = 0

    @classmethod
    def of(cls, traffic: Traffic, refused: Refused | None = None) -> Counted:
        over = refused.by_service + refused.by_source if refused else 0
        return cls(traffic.connections, traffic.packets, traffic.bytes, over)

    def since(self, before: Counted | None, seconds: float) -> Counted | None:
        """Rates by second; None if unknown. Counters that went back were reset."""
        if before is None or seconds <= 0:
            return None
        return Counted(
            *(max(0.0, (now - then) / seconds) for now, then in zip(self.row(), before.row(), strict=True))
        )

    def row(self) -> tuple[float, ...]:
        return self.connections, self.packets, self.bytes, self.refused


@dataclass(frozen=True)
class Look:
    """One look. `at`: seconds since 1970; `moment`: monotonic ones. `sampled`: when `services` were looked at, and
    `event`: the last event of then."""

    at: float
    moment: float
    services: tuple[ServiceSample, ...]
    readiness: Readiness
    vitals: Vitals
    sampled: float
    event: int

    @property
    def totals(self) -> Counted:
        return Counted.of(self.vitals.traffic)


def _dropped(vitals: Vitals) -> float:
    return float(sum(count for name, count in vitals.verdicts.items() if name.startswith(("drop", "reject"))))


@dataclass
class Kept:
    """Of one look of those that are kept."""

    moment: float
    at: float
    totals: Counted
    dropped: float
    services: ServiceCounters | None = None


class Viewer:
    """Takes what there is of its topics, look by look; one that is slow misses some."""

    def __init__(self, pulse: Pulse, topics: frozenset[str]) -> None:
        self.topics = topics
        self._pulse, self._seen = pulse, pulse._number if pulse._looking is None else 0

    async def take(self, within: float) -> dict[str, bytes] | None:
        """By topic, and `state`, as JSON; None when nothing new comes within so many seconds."""
        found = await self._pulse._after(self._seen, within)
        if found is None:
            return None
        self._seen, parts = found
        return {name: part for name, part in parts.items() if name == "state" or name in self.topics}


class Pulse:
    """Everything happens on the loop, but for what is written down. `now`: seconds since 1970; `clock`:
    monotonic ones."""

    def __init__(
        self,
        director: Control,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._director, self._now, self._clock = director, now, clock
        self._kept: deque[Kept] = deque(maxlen=KEPT + 1)
        self._viewers: set[Viewer] = set()
        self._looking: asyncio.Task[None] | None = None
        self._news = asyncio.Condition()
        self._number = 0
        self._last: Look | None = None
        self._earlier: Look | None = None  # with which that one was compared
        self._parts: dict[str, bytes] = {}

    # Looking

    async def record(self) -> None:
        """Keep a look every ten seconds, for ever."""
        while True:
            try:
                self.keep()
            except DirectorError as error:
                log.debug("no look can be kept: %s", error.detail)
            await asyncio.sleep(KEPT_APART)

    def keep(self) -> None:
        """Costs little: it is done for ever, with thousands of services, and mostly nobody looks."""
        vitals, services = self._director.vitals(), self._director.service_counters()
        few = services if len(services.names) <= MOST_SERVICES_KEPT else None
        self._kept.append(Kept(self._clock(), self._now(), Counted.of(vitals.traffic), _dropped(vitals), few))
        if self._last is not None and self._clock() - self._last.moment > 2 * KEPT_APART:
            self._last = self._earlier = None  # nobody has looked for long, and they are large

    async def _look(self, known: Look | None = None) -> Look:
        """`known`: with that one's services, which cost most."""
        event = self._director.events.last
        services = known.services if known else tuple(await in_turns(self._director.samples()))
        readiness, vitals = self._director.readiness(), self._director.vitals()
        at, moment = self._now(), self._clock()
        sampled, event = (known.sampled, known.event) if known else (moment, event)
        return Look(at, moment, services, readiness, vitals, sampled, event)

    def _still_true(self, look: Look, topics: frozenset[str]) -> bool:
        """Many services are looked at anew when something has happened, and else as often as what costs much."""
        return (
            sum(len(each.backends) for each in look.services) > MANY
            and look.event == self._director.events.last
            and self._clock() - look.sampled < (SLOWLY - 0.5) * APART
            and {each for each in topics if _is_of_services(each)} <= self._parts.keys()
        )

    # Following

    @asynccontextmanager
    async def viewer(self, topics: Iterable[str]) -> AsyncIterator[Viewer]:
        """Of these topics; `service:NAME` is one."""
        key = Viewer(self, frozenset(topics))
        self._viewers.add(key)
        if self._looking is None:
            self._looking = asyncio.create_task(self._follow(), name="the dashboard's look")
        try:
            yield key
        finally:
            self._viewers.discard(key)
            if not self._viewers and self._looking is not None:
                looking, self._looking = self._looking, None
                self._parts = {}  # the next one gets nothing old
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)

    async def _after(self, seen: int, within: float) -> tuple[int, Mapping[str, bytes]] | None:
        """The present behind look number `seen`; None when there is none within so many seconds."""
        try:
            async with asyncio.timeout(within), self._news:
                await self._news.wait_for(lambda: self._number > seen and bool(self._parts))
                return self._number, self._parts
        except TimeoutError:
            return None

    async def _follow(self) -> None:
        while True:
            begun = self._clock()
            try:
                self._parts = await self._present()
            except DirectorError as error:
                self._parts = {"state": _written({"at": self._now(), "trouble": error.detail})}
            except Exception:
                log.exception("the dashboard cannot be shown the present")
                self._parts = {
                    "state": _written({"at": self._now(), "trouble": "The director's log says more."})
                }
            async with self._news:
                self._number += 1
                self._news.notify_all()
            await asyncio.sleep(max(0.2, APART - (self._clock() - begun)))

    async def _present(self) -> dict[str, bytes]:
        """By topic, as JSON."""
        before, topics = self._last, frozenset[str]().union(*(each.topics for each in self._viewers))
        if before is not None and self._clock() - before.moment < APART / 4:  # too close for a rate
            before = self._earlier
        if before is not None and self._clock() - before.moment > 2 * KEPT_APART:
            before = None
        parts: dict[str, bytes] = {}
        if self._last is not None and self._still_true(self._last, topics):
            look = await self._look(self._last)
            parts = {topic: part for topic, part in self._parts.items() if _is_of_services(topic)}
        else:
            look = await self._look()
        self._earlier, self._last = before, look
        for topic, show in (("guard", self._guard), ("lan", self._lan)):
            if topic in topics:
                is_due = self._number % SLOWLY == 0 or topic not in self._parts
                parts[topic] = await show() if is_due else self._parts[topic]
        findings = [each.model_dump(mode="json") for each in self._director.lan.findings[:MOST_TROUBLED]]
        beside = {
            "tag": self._director.tag(),
            "findings": findings,
            "fleet": self._director.fleet_view().model_dump(mode="json"),
        }
        unknown = topics - parts.keys()
        return parts | await asyncio.to_thread(lambda: dict(_parts(look, before, unknown, beside)))

    async def _lan(self) -> bytes:
        view = self._director.lan.view()
        return await asyncio.to_thread(lambda: view.model_dump_json().encode())

    async def _guard(self) -> bytes:
        guard = self._director.guard
        view: GuardView = guard.view()
        prefixes = guard.denied()
        top: list[Document] = []
        if len(prefixes) <= MOST_DENIED:

            def denials() -> Iterator[Document | None]:
                for prefix in prefixes:
                    try:
                        yield guard.denial(prefix).model_dump(mode="json")
                    except DirectorError:  # it went meanwhile
                        yield None

            found = await in_turns(denials())
            top = sorted(found, key=lambda each: -each["packets"])[:TOP]
        return _written(
            view.model_dump(mode="json") | {"top": top, "top_is_known": len(prefixes) <= MOST_DENIED}
        )

    # Before

    def history(self) -> Document:
        """Rates of the last quarter of an hour, ten seconds each, the latest last; null where nothing was kept."""
        kept = list(self._kept)
        pairs = list(itertools.pairwise(kept))
        counted = [each.services.rows() if each.services else {} for each in kept]
        seconds = [after.moment - before.moment for before, after in pairs]
        return {
            "step": KEPT_APART,
            "at": [round(after.at, 1) for _, after in pairs],
            "totals": _columns(
                [
                    after.totals.since(before.totals, apart)
                    for (before, after), apart in zip(pairs, seconds, strict=True)
                ]
            )
            | {
                "dropped": [
                    _short(max(0.0, after.dropped - before.dropped) / apart)
                    for (before, after), apart in zip(pairs, seconds, strict=True)
                ]
            },
            "services": {
                name: _columns(
                    [
                        Counted(*after[name]).since(Counted(*before[name]), apart)
                        if name in before and name in after
                        else None
                        for (before, after), apart in zip(itertools.pairwise(counted), seconds, strict=True)
                    ]
                )
                for name in (counted[-1] if counted else ())
            },
        }


def _columns(rates: list[Counted | None]) -> Document:
    names = ("connections", "packets", "bytes", "refused")
    return {
        name: [None if each is None else _short(each.row()[place]) for each in rates]
        for place, name in enumerate(names)
    }


def _parts(
    look: Look, before: Look | None, topics: frozenset[str], beside: Document
) -> Iterator[tuple[str, bytes]]:
    """Written beside the loop: of the present look, and of the one before for rates."""
    yield "state", _written(_state(look, before, look.moment - before.moment if before else 0.0, beside))
    if not any(map(_is_of_services, topics)):
        return
    seconds = look.sampled - before.sampled if before else 0.0
    then = {each.name: each for each in before.services} if before else {}
    if "services" in topics:
        rows = [_service(each, then.get(each.name), seconds) for each in look.services]
        yield "services", _written(rows)
    for each in look.services:
        if f"service:{each.name}" in topics:
            shown = _service(each, then.get(each.name), seconds)
            shown["backends"] = list(_backends(each, then.get(each.name), seconds))
            yield f"service:{each.name}", _written(shown)


def _is_of_services(topic: str) -> bool:
    return topic.startswith("service")


def _state(look: Look, before: Look | None, seconds: float, beside: Document) -> Document:
    verdicts, then = look.vitals.verdicts, before.vitals.verdicts if before else {}
    on_network = {finding["text"] for finding in beside["findings"]}
    rates = look.totals.since(before.totals if before else None, seconds)
    troubled = [
        _troubled(service, backend)
        for service in look.services
        for backend in service.backends
        if backend.admin is AdminState.ENABLED and backend.operational is not Operational.UP
    ]
    return {
        "at": round(look.at, 3),
        "revision": look.readiness.revision,
        "ready": look.readiness.ready,
        "problems": look.readiness.problems,
        "warnings": [each for each in look.readiness.warnings if each not in on_network],
        **beside,
        "services": len(look.services),
        "backends": sum(len(each.backends) for each in look.services),
        "serving": sum(backend.serving for each in look.services for backend in each.backends),
        "services_down": [
            {"service": each.name, "operational": each.operational, "backends": len(each.backends)}
            for each in look.services
            if each.operational is not Operational.UP
        ][:MOST_TROUBLED],
        "troubled": troubled[:MOST_TROUBLED],
        "troubled_in_all": len(troubled),
        "drains": [
            {"service": each.name, "backend": backend.name, **_drain(backend.drain)}
            for each in look.services
            for backend in each.backends
            if backend.drain
        ][:MOST_TROUBLED],
        "rates": _rates(rates),
        "connections": look.vitals.connections,
        "clients_turned_away": look.vitals.clients_turned_away,
        "drift_repaired": look.vitals.drift_repaired,
        "maps": {name: [fill.entries, fill.room] for name, fill in look.vitals.maps.items()},
        "attachments": [
            {"interface": each.interface, "mode": each.mode, "program_id": each.program_id,
             "transmit_errors": each.transmit_errors}
            for each in look.vitals.attachments
        ],
        "verdicts": {
            name: [count, None if before is None else _short(max(0, count - then.get(name, 0)) / seconds)]
            for name, count in verdicts.items()
        },
    }  # fmt: skip


def _troubled(service: ServiceSample, backend: BackendSample) -> Document:
    return {
        "service": service.name,
        "backend": backend.name,
        "address": str(backend.address),
        "operational": backend.operational,
        "reason": _reason(backend),
        "since": _moment(backend.since),
        "serving": backend.serving,
    }


def _reason(backend: BackendSample) -> str:
    """The verdict's, or that of the first VIP which is not well."""
    if backend.operational is Operational.UP:
        return ""
    return backend.reason or next((each.reason for each in backend.vips if each.reason), "")


def _service(sample: ServiceSample, before: ServiceSample | None, seconds: float) -> Document:
    now = Counted.of(sample.traffic, sample.refused)
    then = Counted.of(before.traffic, before.refused) if before else None
    states = [
        str(each.operational) if each.admin is AdminState.ENABLED or each.operational is Operational.DRAINED
        else str(each.admin)
        for each in sample.backends
    ]  # fmt: skip
    return {
        "name": sample.name,
        "operational": sample.operational,
        "backends_in_all": len(states),
        "serving": sum(each.serving for each in sample.backends),
        "states": {state: states.count(state) for state in sorted({*states})},
        "active": sum(each.connections.active for each in sample.backends),
        "rates": _rates(now.since(then, seconds)),
    }


def _backends(sample: ServiceSample, before: ServiceSample | None, seconds: float) -> Iterator[Document]:
    then = {each.name: Counted.of(each.traffic) for each in before.backends} if before else {}
    for each in sample.backends:
        yield {
            "name": each.name,
            "address": str(each.address),
            "weight": each.weight,
            "effective_weight": each.effective_weight,
            "admin": each.admin,
            "operational": each.operational,
            "reason": _reason(each),
            "since": _moment(each.since),
            "serving": each.serving,
            "connections": [each.connections.active, each.connections.inactive, each.connections.pending],
            "opened": each.traffic.connections,
            "rates": _rates(Counted.of(each.traffic).since(then.get(each.name), seconds)),
            "drain": _drain(each.drain) if each.drain else None,
        }


def _drain(view: DrainView | None) -> Document:
    return view.model_dump(mode="json") if view else {}


def _rates(rates: Counted | None) -> list[float | int] | None:
    """Connections, packets, octets and refused connections of a second."""
    return [_short(each) for each in rates.row()] if rates else None


def _short(rate: float) -> float | int:
    return round(rate) if rate >= 100 else round(rate, 1)


def _moment(when: datetime) -> float:
    return round(when.timestamp(), 1)


def _written(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
