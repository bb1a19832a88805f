# SPDX-License-Identifier: Apache-2.0
"""The JSON that the dashboard's pages show, from a snapshot of the director and the one before it. Pure.

`web/src/api/live.ts` has the same types.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from xdpdirector.api.live.rates import Counts, short
from xdpdirector.control.status_views import BackendSample, ServiceSample
from xdpdirector.model import AdminState
from xdpdirector.model.passive import PassiveState
from xdpdirector.model.status import DrainView, Operational, Readiness, Vitals

MOST_TROUBLED = 100

Document = dict[str, Any]


@dataclass(frozen=True)
class Snapshot:
    """What the director showed at one moment. `at`: seconds since 1970; `moment`: monotonic ones. `sampled`: when
    `services` were read, and `event`: the last event of then."""

    at: float
    moment: float
    services: tuple[ServiceSample, ...]
    readiness: Readiness
    vitals: Vitals
    sampled: float
    event: int

    @property
    def totals(self) -> Counts:
        return Counts.of_all(self.vitals)


def by_topic(
    snapshot: Snapshot, before: Snapshot | None, topics: frozenset[str], beside: Document
) -> Iterator[tuple[str, bytes]]:
    """Written beside the loop: of the present snapshot, and of the one before for rates."""
    passed = snapshot.moment - before.moment if before else 0.0
    yield "state", encoded(_state(snapshot, before, passed, beside))
    if not any(map(is_of_services, topics)):
        return
    seconds = snapshot.sampled - before.sampled if before else 0.0
    then = {each.name: each for each in before.services} if before else {}
    if "services" in topics:
        rows = [_service(each, then.get(each.name), seconds) for each in snapshot.services]
        yield "services", encoded(rows)
    for each in snapshot.services:
        if f"service:{each.name}" in topics:
            shown = _service(each, then.get(each.name), seconds)
            shown["verdicts"] = _of_service(each, then.get(each.name), seconds)
            shown["backends"] = list(_backends(each, then.get(each.name), seconds))
            yield f"service:{each.name}", encoded(shown)


def is_of_services(topic: str) -> bool:
    return topic.startswith("service")


def _state(snapshot: Snapshot, before: Snapshot | None, seconds: float, beside: Document) -> Document:
    verdicts, then = snapshot.vitals.verdicts, before.vitals.verdicts if before else None
    on_network = {finding["text"] for finding in beside["findings"]}
    rates = snapshot.totals.since(before.totals if before else None, seconds)
    troubled = [
        _troubled(service, backend)
        for service in snapshot.services
        for backend in service.backends
        if backend.admin is AdminState.ENABLED and backend.operational is not Operational.UP
    ]
    return {
        "at": round(snapshot.at, 3),
        "revision": snapshot.readiness.revision,
        "ready": snapshot.readiness.ready,
        "problems": snapshot.readiness.problems,
        "warnings": [each for each in snapshot.readiness.warnings if each not in on_network],
        **beside,
        "services": len(snapshot.services),
        "backends": sum(len(each.backends) for each in snapshot.services),
        "serving": sum(backend.serving for each in snapshot.services for backend in each.backends),
        "services_down": [
            {"service": each.name, "operational": each.operational, "backends": len(each.backends)}
            for each in snapshot.services
            if each.operational is not Operational.UP
        ][:MOST_TROUBLED],
        "troubled": troubled[:MOST_TROUBLED],
        "troubled_in_all": len(troubled),
        "drains": [
            {"service": each.name, "backend": backend.name, **_drain(backend.drain)}
            for each in snapshot.services
            for backend in each.backends
            if backend.drain
        ][:MOST_TROUBLED],
        "rates": _rates(rates),
        "connections": snapshot.vitals.connections,
        "clients_turned_away": snapshot.vitals.clients_turned_away,
        "drift_repaired": snapshot.vitals.drift_repaired,
        "maps": {name: [fill.entries, fill.room] for name, fill in snapshot.vitals.maps.items()},
        "attachments": [
            {"interface": each.interface, "mode": each.mode, "program_id": each.program_id,
             "transmit_errors": each.transmit_errors}
            for each in snapshot.vitals.attachments
        ],
        "verdicts": _verdicts(verdicts, then, seconds),
    }  # fmt: skip


def _verdicts(now: Mapping[str, int], then: Mapping[str, int] | None, seconds: float) -> Document:
    """Of each: how many, and how many of a second."""
    if then is None or seconds <= 0:
        return {name: [count, None] for name, count in now.items()}
    return {name: [count, short(max(0, count - then.get(name, 0)) / seconds)] for name, count in now.items()}


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
    if backend.operational is Operational.UP and not _passive(backend):
        return ""
    return backend.reason or next((each.reason for each in backend.vips if each.reason), "")


def _passive(backend: BackendSample) -> str | None:
    """What passive health has against it, and the part of its SYNs that were sent again; None for nothing, and
    where something else is wrong with it."""
    judged = backend.passive
    if judged is None or judged.state is PassiveState.NORMAL or backend.admin is not AdminState.ENABLED:
        return None
    if not backend.operational.serves:
        return None
    return f"{judged.state} {judged.share:.0%}" if judged.share is not None else str(judged.state)


def _service(sample: ServiceSample, before: ServiceSample | None, seconds: float) -> Document:
    now = Counts.of(sample.traffic, sample.dropped)
    then = Counts.of(before.traffic, before.dropped) if before else None
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


def _of_service(sample: ServiceSample, before: ServiceSample | None, seconds: float) -> Document:
    """What became of its packets: why each was forwarded is counted for all services together."""
    now, then = (
        {"forward": each.traffic.packets, **each.dropped} if each else None for each in (sample, before)
    )
    return _verdicts(now or {}, then, seconds)


def _backends(sample: ServiceSample, before: ServiceSample | None, seconds: float) -> Iterator[Document]:
    then = {each.name: Counts.of(each.traffic) for each in before.backends} if before else {}
    for each in sample.backends:
        yield {
            "name": each.name,
            "address": str(each.address),
            "forward": each.effective_forward,
            "weight": each.weight,
            "effective_weight": each.effective_weight,
            "admin": each.admin,
            "operational": each.operational,
            "reason": _reason(each),
            "since": _moment(each.since),
            "serving": each.serving,
            "connections": [each.connections.active, each.connections.inactive, each.connections.pending],
            "opened": each.traffic.connections,
            "rates": _rates(Counts.of(each.traffic).since(then.get(each.name), seconds)),
            "drain": _drain(each.drain) if each.drain else None,
            "passive": _passive(each),
        }


def _drain(view: DrainView | None) -> Document:
    return view.model_dump(mode="json") if view else {}


def _rates(rates: Counts | None) -> list[float | int] | None:
    """Connections, packets, octets, and dropped or rejected packets of a second."""
    return [short(each) for each in rates.row()] if rates else None


def _moment(when: datetime) -> float:
    return round(when.timestamp(), 1)


def encoded(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
