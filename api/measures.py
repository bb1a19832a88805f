# SPDX-License-Identifier: Apache-2.0
"""Which metrics there are, made out of one look at the director. Pure.

Names follow node_exporter's ipvs collector where it has the metric (`node_ipvs_connections_total`,
`node_ipvs_backend_connections_active` ...). Labels are the operator's own names, and addresses of his own machines:
never a client's, which would grow without bound.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
    SummaryMetricFamily,
)

from xdpdirector import __version__
from xdpdirector.checks import Target
from xdpdirector.checks.measured import Tally
from xdpdirector.lan.view import Finding, FindingKind
from xdpdirector.listener import Address
from xdpdirector.model import AdminState
from xdpdirector.reporting import total
from xdpdirector.views import BackendView, Operational, Readiness, ServiceView, Traffic, Vitals

_BACKEND = ("service", "backend", "address")
_CHECK = ("type", "target", "backend")
_OPERATIONAL, _ADMIN = list(Operational), list(AdminState)


@dataclass(frozen=True)
class Look:
    """All that a scrape tells. `mac_changes`: by a backend's address."""

    readiness: Readiness
    services: list[ServiceView]
    vitals: Vitals
    checks: list[Tally]
    findings: tuple[Finding, ...]
    mac_changes: Mapping[Address, int]

    @property
    def backends(self) -> list[BackendView]:
        return [backend for service in self.services for backend in service.backends]


@dataclass(frozen=True)
class _Row:
    """One number of a backend; none of those for whom `value` says None."""

    name: str
    text: str
    value: Callable[[BackendView], float | None]


_GAUGES = (
    _Row("connections_active", "Active connections", lambda each: each.connections.active),
    _Row("connections_inactive", "Connections that have ended", lambda each: each.connections.inactive),
    _Row("connections_pending", "Connections of one packet yet", lambda each: each.connections.pending),
    _Row("weight", "Configured weight", lambda each: each.weight),
    _Row("effective_weight", "The part of it that it has now", lambda each: each.effective_weight),
    _Row("serving", "1 when new connections may go there", lambda each: each.serving),
    _Row(
        "state_changed_timestamp_seconds",
        "When the operational state changed last",
        lambda each: each.since.timestamp(),
    ),
    _Row(
        "drain_connections",
        "Connections left of a drain",
        lambda each: each.drain.remaining if each.drain else None,
    ),
    _Row(
        "drain_started_timestamp_seconds",
        "When the drain began",
        lambda each: each.drain.since.timestamp() if each.drain else None,
    ),
    _Row(
        "drain_deadline_timestamp_seconds",
        "When the drain shall be over",
        lambda each: each.drain.deadline.timestamp() if each.drain and each.drain.deadline else None,
    ),
)
_COUNTERS = (
    _Row("incoming_packets", "Packets forwarded", lambda each: each.traffic.packets),
    _Row("incoming_bytes", "Bytes forwarded, from the IP header on", lambda each: each.traffic.bytes),
    _Row("connections", "Connections opened", lambda each: each.traffic.connections),
)


def build() -> Metric:
    return InfoMetricFamily("xdpdirector_build", "The director's version", value={"version": __version__})


def up(value: bool) -> Metric:
    return GaugeMetricFamily("xdpdirector_up", "1 when the data plane could be read", value=int(value))


def families(look: Look) -> Iterator[Metric]:
    """Everything but `build` and `up`."""
    yield from _director(look)
    yield from _plane(look.vitals)
    yield from _traffic(total(service.traffic for service in look.services))
    yield from _services(look.services)
    backends = [((each.service, each.name, str(each.address)), each) for each in look.backends]
    for row in _GAUGES:
        yield _filled(
            GaugeMetricFamily(f"xdpdirector_backend_{row.name}", row.text, labels=_BACKEND), row, backends
        )
    for row in _COUNTERS:
        yield _filled(
            CounterMetricFamily(f"xdpdirector_backend_{row.name}", row.text, labels=_BACKEND), row, backends
        )
    yield from _states(backends)
    yield from _checks(look.checks)
    yield from _network(look)


def _director(look: Look) -> Iterator[Metric]:
    ready = look.readiness
    yield GaugeMetricFamily(
        "xdpdirector_ready", "1 when packets are directed as wanted", value=int(ready.ready)
    )
    yield GaugeMetricFamily("xdpdirector_problems", "Why it is not ready", value=len(ready.problems))
    yield GaugeMetricFamily("xdpdirector_warnings", "What else is wrong", value=len(ready.warnings))
    yield GaugeMetricFamily("xdpdirector_revision", "Of what is wanted", value=ready.revision)


def _plane(vitals: Vitals) -> Iterator[Metric]:
    verdicts = CounterMetricFamily("xdpdirector_verdicts", "Packets by verdict", labels=["verdict", "reason"])
    for reason, count in vitals.verdicts.items():
        verdicts.add_metric([reason.partition("_")[0], reason], count)
    entries = GaugeMetricFamily("xdpdirector_map_entries", "Entries in use", labels=["map"])
    capacity = GaugeMetricFamily("xdpdirector_map_capacity", "Entries that there is room for", labels=["map"])
    for name, fill in vitals.maps.items():
        entries.add_metric([name], fill.entries)
        capacity.add_metric([name], fill.room)
    programs = InfoMetricFamily(
        "xdpdirector_program", "The packet program by interface", labels=["interface"]
    )
    for each in vitals.attachments:
        programs.add_metric([each.interface], {"mode": each.mode, "program_id": str(each.program_id)})
    errors = CounterMetricFamily(
        "xdpdirector_interface_transmit_errors",
        "Frames that XDP could not transmit, by the driver's statistics",
        labels=["interface"],
    )
    for each in vitals.attachments:
        if each.transmit_errors is not None:
            errors.add_metric([each.interface], each.transmit_errors)
    yield from (verdicts, entries, capacity, programs, errors)
    yield GaugeMetricFamily(
        "xdpdirector_connections_stored", "Connections in the table", value=vitals.connections
    )
    yield CounterMetricFamily(
        "xdpdirector_drift_repaired",
        "Places of the maps that were found different and repaired",
        value=vitals.drift_repaired,
    )


def _traffic(traffic: Traffic) -> Iterator[Metric]:
    yield CounterMetricFamily("xdpdirector_connections", "Connections opened", value=traffic.connections)
    yield CounterMetricFamily("xdpdirector_incoming_packets", "Packets forwarded", value=traffic.packets)
    yield CounterMetricFamily("xdpdirector_incoming_bytes", "Bytes forwarded", value=traffic.bytes)


def _services(services: list[ServiceView]) -> Iterator[Metric]:
    labels = ["service"]
    operational = StateSetMetricFamily(
        "xdpdirector_service_operational", "Whether it is served", labels=labels
    )
    present = GaugeMetricFamily("xdpdirector_service_backends", "Backends", labels=labels)
    serving = GaugeMetricFamily(
        "xdpdirector_service_backends_serving", "Backends that new connections may go to", labels=labels
    )
    refused = CounterMetricFamily(
        "xdpdirector_service_refused", "New connections over a limit", labels=["service", "limit"]
    )
    for each in services:
        operational.add_metric([each.name], {state: state is each.operational for state in _OPERATIONAL})
        present.add_metric([each.name], len(each.backends))
        serving.add_metric([each.name], sum(backend.serving for backend in each.backends))
        refused.add_metric([each.name, "service"], each.refused.by_service)
        refused.add_metric([each.name, "source"], each.refused.by_source)
    yield from (operational, present, serving, refused)


_Labelled = list[tuple[tuple[str, str, str], BackendView]]


def _filled(
    family: GaugeMetricFamily | CounterMetricFamily, row: _Row, backends: _Labelled
) -> GaugeMetricFamily | CounterMetricFamily:
    for labels, backend in backends:
        value = row.value(backend)
        if value is not None:
            family.add_metric(labels, value)
    return family


def _states(backends: _Labelled) -> Iterator[Metric]:
    operational = StateSetMetricFamily(
        "xdpdirector_backend_operational", "The health check's verdict", labels=_BACKEND
    )
    admin = StateSetMetricFamily("xdpdirector_backend_admin", "What the operator wants", labels=_BACKEND)
    for labels, backend in backends:
        operational.add_metric(labels, {state: state is backend.operational for state in _OPERATIONAL})
        admin.add_metric(labels, {state: state is backend.admin for state in _ADMIN})
    yield operational
    yield admin
    yield _at_vips(backends)


def _at_vips(backends: _Labelled) -> Metric:
    """Where they may differ: of services with several VIPs."""
    family = GaugeMetricFamily(
        "xdpdirector_backend_vip_up",
        "1 when the backend is up for the VIP; of services with several",
        labels=[*_BACKEND, "vip"],
    )
    for labels, backend in backends:
        for each in backend.vips if len(backend.vips) > 1 else ():
            family.add_metric([*labels, str(each.vip)], each.operational is Operational.UP)
    return family


def _checks(checks: Iterable[Tally]) -> Iterator[Metric]:
    duration = SummaryMetricFamily("xdpdirector_check_duration_seconds", "How long tries took", labels=_CHECK)
    failures = CounterMetricFamily("xdpdirector_check_failures", "Tries that failed", labels=_CHECK)
    impossible = CounterMetricFamily(
        "xdpdirector_check_impossible", "Tries that this director could not make", labels=_CHECK
    )
    for each in checks:
        labels = [each.type, _place(each.target), str(each.target.backend)]
        duration.add_metric(labels, each.tries, each.seconds)
        failures.add_metric(labels, each.failures)
        impossible.add_metric(labels, each.impossible)
    yield duration
    yield failures
    yield impossible


def _place(target: Target) -> str:
    """`192.0.2.10:80`, `[2001:db8::10]:80`; an address alone for a check without a port."""
    if not target.port:
        return str(target.address)
    return (
        f"[{target.address}]:{target.port}"
        if target.address.version == 6
        else f"{target.address}:{target.port}"
    )


def _network(look: Look) -> Iterator[Metric]:
    findings = GaugeMetricFamily("xdpdirector_lan_findings", "What is wrong on the network", labels=["kind"])
    counts = Counter(finding.kind for finding in look.findings)
    for kind in FindingKind:
        findings.add_metric([kind], counts[kind])
    changes = CounterMetricFamily(
        "xdpdirector_lan_mac_changes", "How often the MAC of a backend changed", labels=["address"]
    )
    for address, count in look.mac_changes.items():
        changes.add_metric([str(address)], count)
    yield findings
    yield changes
