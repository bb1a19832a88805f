# SPDX-License-Identifier: Apache-2.0
"""Which metrics there are, made out of one snapshot of the director. Pure.

Names follow node_exporter's ipvs collector where it has the metric (`node_ipvs_connections_total`,
`node_ipvs_backend_connections_active` ...). Labels are the operator's own names, and addresses of his own machines:
never a client's, which would grow without bound.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from xdpdirector import __version__
from xdpdirector.api.auth.request_counts import RequestCounts
from xdpdirector.api.metrics.exposition import Family, Kind, labels
from xdpdirector.control.status_views import BackendSample, ServiceSample
from xdpdirector.health.checks import Target
from xdpdirector.health.checks.metrics import Tally
from xdpdirector.lan.types import Finding, FindingKind
from xdpdirector.model import AdminState
from xdpdirector.model.fleet import DrainState
from xdpdirector.model.listener import Address
from xdpdirector.model.passive import PassiveState, PassiveView
from xdpdirector.model.status import Operational, Readiness, Traffic, Vitals
from xdpdirector.sync.status import FleetView, PeerState

_OPERATIONAL, _ADMIN = list(map(str, Operational)), list(map(str, AdminState))


@dataclass(frozen=True)
class Snapshot:
    """All that a scrape reports. `mac_changes`: by a backend's address."""

    readiness: Readiness
    services: list[ServiceSample]
    vitals: Vitals
    checks: list[Tally]
    findings: tuple[Finding, ...]
    mac_changes: Mapping[Address, int]
    fleet: FleetView = field(default_factory=FleetView)

    @property
    def backends(self) -> list[BackendSample]:
        return [backend for service in self.services for backend in service.backends]


@dataclass(frozen=True)
class _Row:
    """One number for each backend; none where `value` is None."""

    name: str
    text: str
    value: Callable[[BackendSample], float | None]


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
_PASSIVE = {
    "syns": "SYNs of new connections; of services with `passive`, as are the next ones",
    "syn_retransmissions": "SYNs that came again",
    "syns_retransmitted": "SYNs that came again once or more",
    "handshakes": "First ACKs",
    "client_resets": "RSTs of clients before the end of their connections",
    "unanswered_connections": "Connections that timed out with nothing but SYNs",
    "idle_connections": "Established connections that timed out",
}
_KINDS: dict[Kind, tuple[_Row, ...]] = {"gauge": _GAUGES, "counter": _COUNTERS}


def build() -> Family:
    return Family("xdpdirector_build", "info", "The director's version").add(1, labels(version=__version__))


def up(value: bool) -> Family:
    return _gauge("xdpdirector_up", "1 when the data plane could be read", int(value))


def of_api(request_counts: RequestCounts) -> Iterator[Family]:
    """What the API itself did."""
    requests = Family("xdpdirector_api_requests", "counter", "Requests by what they asked for and the status")
    for (operation, status), count in sorted(request_counts.requests.items()):
        requests.add(count, labels(operation=operation, status=str(status)))
    seconds = Family("xdpdirector_api_request_duration_seconds", "summary", "How long requests took")
    counts: Counter[str] = Counter()
    for (operation, _), count in request_counts.requests.items():
        counts[operation] += count
    for operation, count in sorted(counts.items()):
        seconds.add(count, labels(operation=operation), "_count")
        seconds.add(float(request_counts.seconds[operation]), labels(operation=operation), "_sum")
    yield requests
    yield seconds
    yield _gauge(
        "xdpdirector_api_requests_under_way", "Requests that are being answered", request_counts.under_way
    )
    yield _counter(
        "xdpdirector_api_authentication_failures",
        "Requests with a token that is not valid",
        request_counts.failed_logins.failures,
    )


def families(snapshot: Snapshot) -> Iterator[Family]:
    """Everything but `build` and `up`."""
    yield from _director(snapshot)
    yield from _plane(snapshot.vitals)
    yield from _traffic(snapshot.vitals.traffic)
    yield from _services(snapshot.services)
    backends = [
        (labels(service=each.service, backend=each.name, address=str(each.address)), each)
        for each in snapshot.backends
    ]
    for kind, rows in _KINDS.items():
        for row in rows:
            yield _filled(Family(f"xdpdirector_backend_{row.name}", kind, row.text), row, backends)
    yield from _states(backends)
    yield from _passive([(labelled, each.passive) for labelled, each in backends if each.passive])
    yield from _checks(snapshot.checks)
    yield from _network(snapshot)
    yield from _peers(snapshot)
    yield from _lvs(snapshot)
    yield from _fleet(snapshot)


def _gauge(name: str, text: str, value: float) -> Family:
    return Family(name, "gauge", text).add(value)


def _counter(name: str, text: str, value: float) -> Family:
    return Family(name, "counter", text).add(value)


def _director(snapshot: Snapshot) -> Iterator[Family]:
    ready = snapshot.readiness
    yield _gauge("xdpdirector_ready", "1 when packets are directed as wanted", int(ready.ready))
    yield _gauge("xdpdirector_problems", "Why it is not ready", len(ready.problems))
    yield _gauge("xdpdirector_warnings", "What else is wrong", len(ready.warnings))
    yield _gauge("xdpdirector_revision", "Of what is wanted", ready.revision)


def _plane(vitals: Vitals) -> Iterator[Family]:
    verdicts = Family("xdpdirector_verdicts", "counter", "Packets by verdict")
    for reason, count in vitals.verdicts.items():
        verdicts.add(count, labels(verdict=reason.partition("_")[0], reason=reason))
    entries = Family("xdpdirector_map_entries", "gauge", "Entries in use")
    capacity = Family("xdpdirector_map_capacity", "gauge", "Entries that there is room for")
    for name, fill in vitals.maps.items():
        entries.add(fill.entries, labels(map=name))
        capacity.add(fill.room, labels(map=name))
    programs = Family("xdpdirector_program", "info", "The packet program by interface")
    for each in vitals.attachments:
        programs.add(1, labels(interface=each.interface, mode=each.mode, program_id=str(each.program_id)))
    errors = Family(
        "xdpdirector_interface_transmit_errors",
        "counter",
        "Frames that XDP could not transmit, by the driver's statistics",
    )
    for each in vitals.attachments:
        if each.transmit_errors is not None:
            errors.add(each.transmit_errors, labels(interface=each.interface))
    yield from (verdicts, entries, capacity, programs, errors)
    yield _gauge("xdpdirector_connections_stored", "Connections in the table", vitals.connections)
    yield _counter(
        "xdpdirector_clients_turned_away",
        "Clients that there was no room for, to keep their backend",
        vitals.clients_turned_away,
    )
    yield _counter(
        "xdpdirector_drift_repaired",
        "Places of the maps that were found different and repaired",
        vitals.drift_repaired,
    )


def _traffic(traffic: Traffic) -> Iterator[Family]:
    yield _counter("xdpdirector_connections", "Connections opened", traffic.connections)
    yield _counter("xdpdirector_incoming_packets", "Packets forwarded", traffic.packets)
    yield _counter("xdpdirector_incoming_bytes", "Bytes forwarded", traffic.bytes)


def _services(services: list[ServiceSample]) -> Iterator[Family]:
    operational = Family("xdpdirector_service_operational", "stateset", "Whether it is served")
    present = Family("xdpdirector_service_backends", "gauge", "Backends")
    serving = Family(
        "xdpdirector_service_backends_serving", "gauge", "Backends that new connections may go to"
    )
    refused = Family("xdpdirector_service_refused", "counter", "New connections over a limit")
    dropped = Family("xdpdirector_service_dropped_packets", "counter", "Packets dropped or rejected")
    cids = Family(
        "xdpdirector_service_quic_packets",
        "counter",
        "Packets by what QUIC connection IDs named; of services with them",
    )
    for each in services:
        name = labels(service=each.name)
        for named, number in each.cid_packets.model_dump().items() if each.cid_packets else ():
            cids.add(number, f'{name},cid="{named}"')
        operational.add_states(each.operational, _OPERATIONAL, name)
        present.add(len(each.backends), name)
        serving.add(sum(backend.serving for backend in each.backends), name)
        refused.add(each.refused.by_service, f'{name},limit="service"')
        refused.add(each.refused.by_source, f'{name},limit="source"')
        for reason, count in each.dropped.items():
            dropped.add(count, f'{name},reason="{reason}"')
    yield from (operational, present, serving, refused, dropped, cids)


_Labelled = list[tuple[str, BackendSample]]


def _filled(family: Family, row: _Row, backends: _Labelled) -> Family:
    return family.add_all((labelled, row.value(backend)) for labelled, backend in backends)


def _states(backends: _Labelled) -> Iterator[Family]:
    operational = Family("xdpdirector_backend_operational", "stateset", "The health check's verdict")
    admin = Family("xdpdirector_backend_admin", "stateset", "What the operator wants")
    for labelled, backend in backends:
        operational.add_states(backend.operational, _OPERATIONAL, labelled)
        admin.add_states(backend.admin, _ADMIN, labelled)
    yield operational
    yield admin
    yield _at_vips(backends)


def _passive(watched: list[tuple[str, PassiveView]]) -> Iterator[Family]:
    """Of backends that are watched."""
    rows = {name: Family(f"xdpdirector_backend_{name}", "counter", text) for name, text in _PASSIVE.items()}
    state = Family("xdpdirector_backend_passive", "stateset", "What passive health says")
    seconds = Family("xdpdirector_backend_handshake_duration_seconds", "histogram", "From SYN to ACK")
    for labelled, each in watched:
        counts = (each.syns, each.retransmissions, each.retransmitted, each.handshakes)
        others = (each.resets, each.unanswered, each.idle)
        for family, value in zip(rows.values(), (*counts, *others), strict=True):
            if value is not None:
                family.add(value, labelled)
        state.add_states(each.state, list(map(str, PassiveState)), labelled)
        _add_times(seconds, labelled, each)
    yield from rows.values()
    yield state
    yield seconds


def _add_times(family: Family, labelled: str, passive: PassiveView) -> None:
    count = 0
    for each in passive.times or ():
        count += each.count
        bound = "+Inf" if each.at_most is None else repr(each.at_most)
        family.add(count, f'{labelled},le="{bound}"', "_bucket")
    if passive.times and passive.seconds is not None:
        family.add(count, labelled, "_count")
        family.add(passive.seconds, labelled, "_sum")


def _at_vips(backends: _Labelled) -> Family:
    """Where they may differ: of services with several VIPs."""
    family = Family(
        "xdpdirector_backend_vip_up",
        "gauge",
        "1 when the backend is up for the VIP; of services with several",
    )
    for labelled, backend in backends:
        for each in backend.vips if len(backend.vips) > 1 else ():
            family.add(int(each.operational is Operational.UP), f'{labelled},vip="{each.vip}"')
    return family


def _checks(checks: Iterable[Tally]) -> Iterator[Family]:
    duration = Family("xdpdirector_check_duration_seconds", "summary", "How long tries took")
    failures = Family("xdpdirector_check_failures", "counter", "Tries that failed")
    impossible = Family("xdpdirector_check_impossible", "counter", "Tries that this director could not make")
    for each in checks:
        labelled = labels(type=each.type, target=_place(each.target), backend=str(each.target.backend))
        duration.add(each.tries, labelled, "_count")
        duration.add(each.seconds, labelled, "_sum")
        failures.add(each.failures, labelled)
        impossible.add(each.impossible, labelled)
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


def _network(snapshot: Snapshot) -> Iterator[Family]:
    findings = Family("xdpdirector_lan_findings", "gauge", "What is wrong on the network")
    counts = Counter(finding.kind for finding in snapshot.findings)
    for kind in FindingKind:
        findings.add(counts[kind], labels(kind=kind))
    changes = Family("xdpdirector_lan_mac_changes", "counter", "How often the MAC of a backend changed")
    for address, count in snapshot.mac_changes.items():
        changes.add(count, labels(address=str(address)))
    yield findings
    yield changes


def _peers(snapshot: Snapshot) -> Iterator[Family]:
    """Of connection sync; without peers no sample."""
    synced = Family(
        "xdpdirector_sync_synced", "gauge", "1 when a peer has all connections, and changes follow"
    )
    sent = Family(
        "xdpdirector_sync_records", "counter", "Connection records sent to a peer, or taken from it"
    )
    lag = Family(
        "xdpdirector_sync_lag_seconds", "gauge", "From a scan of the table until the peer had merged it"
    )
    merged = Family("xdpdirector_sync_merged_records", "counter", "What became of a peer's records")
    for peer in snapshot.fleet.peers:
        for name, direction in (("out", peer.outgoing), ("in", peer.incoming)):
            by = labels(peer=peer.address, direction=name)
            synced.add(int(direction.state is PeerState.SYNCED), by)
            sent.add(direction.records, by)
        if peer.outgoing.lag is not None:
            lag.add(peer.outgoing.lag, labels(peer=peer.address))
        for outcome in ("inserted", "updated", "kept", "conflicts", "unknown", "full"):
            merged.add(getattr(peer, outcome), labels(peer=peer.address, outcome=outcome))
    yield from (synced, sent, lag, merged)


def _lvs(snapshot: Snapshot) -> Iterator[Family]:
    """Of the sync protocol of LVS; without `lvs.sync` no sample."""
    up = Family("xdpdirector_lvs_sync_up", "gauge", "1 when the socket of this direction is open")
    datagrams = Family("xdpdirector_lvs_sync_datagrams", "counter", "Datagrams to and from LVS directors")
    merged = Family(
        "xdpdirector_lvs_sync_merged_records", "counter", "What became of what LVS directors sent"
    )
    rejected = Family("xdpdirector_lvs_sync_rejected_records", "counter", "What nothing here fits, by reason")
    lvs = snapshot.fleet.lvs
    if lvs and (came := lvs.incoming):
        up.add(int(not came.why), labels(direction="in"))
        results = {
            "taken": came.datagrams,
            "foreign": came.foreign,
            "malformed": came.malformed,
            "lost": came.lost,
        }
        for outcome, count in results.items():
            datagrams.add(count, labels(direction="in", outcome=outcome))
        for kind, taken in (("connection", came.connections), ("template", came.templates)):
            for outcome, count in taken:
                merged.add(count, labels(kind=kind, outcome=outcome))
        for each in came.rejected:
            rejected.add(each.entries, labels(reason=each.reason))
    if lvs and (went := lvs.outgoing):
        up.add(int(not went.why), labels(direction="out"))
        for outcome, count in (("sent", went.datagrams), ("unsent", went.unsent)):
            datagrams.add(count, labels(direction="out", outcome=outcome))
    yield from (up, datagrams, merged, rejected)


def _fleet(snapshot: Snapshot) -> Iterator[Family]:
    """Of a desired state that several directors share; without such no sample."""
    reached = Family("xdpdirector_store_reached", "gauge", "1 when the fleet's store answered last time")
    age = Family("xdpdirector_store_age_seconds", "gauge", "Since the fleet's store answered")
    revision = Family(
        "xdpdirector_fleet_revision", "gauge", "The revision that a live director of the fleet has applied"
    )
    ready = Family("xdpdirector_fleet_ready", "gauge", "1 when a live director of the fleet is ready")
    if snapshot.fleet.store.type == "etcd":
        reached.add(int(snapshot.fleet.store.reached))
        if snapshot.fleet.store.age is not None:
            age.add(snapshot.fleet.store.age)
    for each in snapshot.fleet.directors:
        by = labels(director=each.name)
        revision.add(each.revision, by)
        ready.add(int(each.ready), by)
    draining = Family(
        "xdpdirector_fleet_drained", "gauge", "1 when no traffic comes to a director that leaves"
    )
    flows = Family("xdpdirector_fleet_drain_flows", "gauge", "Connections that are left at it")
    for leaving in snapshot.fleet.leaving:
        by = labels(director=leaving.name)
        draining.add(int(leaving.state is DrainState.DRAINED), by)
        if leaving.flows is not None:
            flows.add(leaving.flows, by)
    yield from (reached, age, revision, ready, draining, flows)
