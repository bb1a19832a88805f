# SPDX-License-Identifier: Apache-2.0
"""From what is wanted and what is known to what is shown. Builds views; changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from xdpdirector.control.planner import BackendStatus, VipVerdict
from xdpdirector.model import Address, AdminState, BackendSpec, Key, ServiceSpec
from xdpdirector.model.passive import PassiveView
from xdpdirector.model.status import (
    BackendView,
    CidPackets,
    ConnectionCounts,
    DrainView,
    Dropped,
    Operational,
    Refused,
    ServiceView,
    Traffic,
    TunnelView,
    VipStanding,
    VipView,
    total,
)
from xdpdirector.model.tunnel import Forward, overhead
from xdpdirector.net.tunnel import tunnel_over

NOTHING = Traffic()
NONE_DROPPED: Dropped = {}
NO_CIDS = CidPackets()


@dataclass(frozen=True, slots=True)
class BackendSample:
    """The part of a `BackendView` that metrics and the dashboard need, made in a fraction of the time."""

    service: str
    name: str
    address: Address
    effective_forward: Forward
    weight: int
    effective_weight: float
    admin: AdminState
    operational: Operational
    reason: str
    since: datetime
    serving: bool
    vips: tuple[VipVerdict, ...]
    connections: ConnectionCounts
    traffic: Traffic
    drain: DrainView | None
    passive: PassiveView | None = None


@dataclass(frozen=True, slots=True)
class ServiceSample:
    """The same of a `ServiceView`. `cid_packets`: None without `quic`."""

    name: str
    operational: Operational
    backends: tuple[BackendSample, ...]
    traffic: Traffic
    refused: Refused
    dropped: Dropped
    cid_packets: CidPackets | None = None


_BEST_FIRST = (Operational.UP, Operational.UNKNOWN, Operational.DOWN)


def backend_view(
    key: Key,
    spec: BackendSpec,
    status: BackendStatus,
    counts: ConnectionCounts,
    traffic: Traffic,
    drain: DrainView | None,
    since: datetime,
    *,
    service: ServiceSpec,
    settled: bool,
    passive: PassiveView | None = None,
) -> BackendView:
    """`service`: the backend's; `settled`: see `Plane.is_settled`."""
    quic = service.quic
    return BackendView(
        service=key[0],
        name=key[1],
        address=spec.address,
        weight=spec.weight,
        effective_weight=round(spec.weight * status.share, 2),
        max_connections=spec.max_connections,
        resume_connections=spec.resume_connections,
        router=spec.router,
        forward=spec.forward,
        effective_forward=service.forward_to(spec),
        tunnel=_tunnel(service, spec, status),
        quic_id=quic.id_of(spec.address, spec.quic_id).hex() if quic else None,
        labels=spec.labels,
        admin=spec.admin,
        operational=_operational(spec, status, counts, settled),
        reason=status.why,
        since=since,
        mac=status.hop.mac.hex(":") if status.hop and not status.hop.local else None,
        interface=status.route.interface or None,
        serving=_serves(spec, status),
        vips=tuple(
            VipStanding(vip=each.vip, operational=each.operational, reason=each.reason)
            for each in map(status.at, service.vips)
        ),
        connections=counts,
        traffic=traffic,
        drain=drain,
        passive=passive,
    )


def _tunnel(service: ServiceSpec, spec: BackendSpec, status: BackendStatus) -> TunnelView | None:
    how = service.encapsulation(spec)
    tunnel = tunnel_over(status.route, how, spec.address) if how else None
    if how is None or tunnel is None:
        return None
    return TunnelView(
        source=tunnel.source,
        gateway=status.route.gateway,
        mtu=tunnel.mtu,
        longest=tunnel.mtu - overhead(how.kind, spec.address.version),
    )


def backend_sample(
    key: Key,
    spec: BackendSpec,
    status: BackendStatus,
    counts: ConnectionCounts,
    traffic: Traffic,
    drain: DrainView | None,
    since: datetime,
    *,
    service: ServiceSpec,
    settled: bool,
    passive: PassiveView | None = None,
) -> BackendSample:
    """As `backend_view`."""
    return BackendSample(
        service=key[0],
        name=key[1],
        address=spec.address,
        effective_forward=service.forward_to(spec),
        weight=spec.weight,
        effective_weight=round(spec.weight * status.share, 2),
        admin=spec.admin,
        operational=_operational(spec, status, counts, settled),
        reason=status.why,
        since=since,
        serving=_serves(spec, status),
        vips=tuple(map(status.at, service.vips)),
        connections=counts,
        traffic=traffic,
        drain=drain,
        passive=passive,
    )


def _operational(
    spec: BackendSpec, status: BackendStatus, counts: ConnectionCounts, settled: bool
) -> Operational:
    drained = spec.admin is AdminState.DRAIN and settled and not counts.active
    return Operational.DRAINED if drained else status.operational


def _serves(spec: BackendSpec, status: BackendStatus) -> bool:
    return (
        spec.admin is AdminState.ENABLED
        and spec.weight > 0
        and status.share > 0
        and status.operational.serves
    )


def service_sample(
    name: str,
    spec: ServiceSpec,
    backends: tuple[BackendSample, ...],
    refused: Refused,
    departed: Traffic = NOTHING,
    dropped: Dropped = NONE_DROPPED,
    cids: CidPackets = NO_CIDS,
) -> ServiceSample:
    """As `service_view`."""
    _, operational = _at_vips(spec, backends)
    traffic = total([departed, *(backend.traffic for backend in backends)])
    return ServiceSample(name, operational, backends, traffic, refused, dropped, cids if spec.quic else None)


def service_view(
    name: str,
    spec: ServiceSpec,
    backends: tuple[BackendView, ...],
    refused: Refused,
    departed: Traffic = NOTHING,
    dropped: Dropped = NONE_DROPPED,
    cids: CidPackets = NO_CIDS,
) -> ServiceView:
    """The service is up when a backend takes new connections at each of its VIPs. `departed`: the traffic of
    backends that it has no more."""
    vips, operational = _at_vips(spec, backends)
    return ServiceView(
        name=name,
        **{field: getattr(spec, field) for field in ServiceSpec.model_fields if field != "backends"},
        backends=backends,
        operational=operational,
        vips=tuple(VipView(vip=vip, operational=state, serving=serving) for vip, state, serving in vips),
        traffic=total([departed, *(backend.traffic for backend in backends)]),
        refused=refused,
        cid_packets=cids,
        dropped=dropped,
    )


def _at_vips(
    spec: ServiceSpec, backends: Sequence[BackendView] | Sequence[BackendSample]
) -> tuple[list[tuple[Address, Operational, int]], Operational]:
    """How the service is at each VIP, and how many backends serve there; and how it is in all. Backends have the
    VIPs of the service, in its order."""
    vips = [
        (vip, *_at_vip([(backend.serving, backend.vips[place].operational) for backend in backends]))
        for place, vip in enumerate(spec.vips)
    ]
    states = {state for _, state, _ in vips}
    if Operational.UP in states and len(states) > 1:
        return vips, Operational.PARTIAL
    return vips, min(states, key=_BEST_FIRST.index)


def _at_vip(backends: Sequence[tuple[bool, Operational]]) -> tuple[Operational, int]:
    """Of backends: whether each serves at all, and how it is at this VIP."""
    serving = sum(serves and state is Operational.UP for serves, state in backends)
    if serving:
        return Operational.UP, serving
    if any(state is Operational.UNKNOWN for _, state in backends):
        return Operational.UNKNOWN, 0
    return Operational.DOWN, 0
