# SPDX-License-Identifier: Apache-2.0
"""From what is wanted and what is known to what is shown. Builds views; changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from xdpdirector.model import Address, AdminState, BackendSpec, ServiceSpec
from xdpdirector.plane import Key
from xdpdirector.planning import Standing
from xdpdirector.views import (
    BackendView,
    ConnectionCounts,
    DrainView,
    Operational,
    Refused,
    ServiceView,
    Traffic,
    VipStanding,
    VipView,
    total,
)

NOTHING = Traffic()

_BEST_FIRST = (Operational.UP, Operational.UNKNOWN, Operational.DOWN)


def backend_view(
    key: Key,
    spec: BackendSpec,
    standing: Standing,
    counts: ConnectionCounts,
    traffic: Traffic,
    drain: DrainView | None,
    since: datetime,
    *,
    vips: Iterable[Address],
    settled: bool,
) -> BackendView:
    """`vips`: the service's; `settled`: see `Plane.is_settled`."""
    operational = standing.operational
    if spec.admin is AdminState.DRAIN and settled and not counts.active:
        operational = Operational.DRAINED
    return BackendView(
        service=key[0],
        name=key[1],
        address=spec.address,
        weight=spec.weight,
        effective_weight=round(spec.weight * standing.share, 2),
        max_connections=spec.max_connections,
        resume_connections=spec.resume_connections,
        admin=spec.admin,
        operational=operational,
        reason=standing.why,
        since=since,
        mac=standing.hop.mac.hex(":") if standing.hop and not standing.hop.local else None,
        interface=standing.route.interface or None,
        serving=spec.admin is AdminState.ENABLED
        and spec.weight > 0
        and standing.share > 0
        and standing.operational.serves,
        vips=tuple(
            VipStanding(vip=each.vip, operational=each.operational, reason=each.reason)
            for each in map(standing.at, vips)
        ),
        connections=counts,
        traffic=traffic,
        drain=drain,
    )


def service_view(
    name: str,
    spec: ServiceSpec,
    backends: tuple[BackendView, ...],
    refused: Refused,
    departed: Traffic = NOTHING,
) -> ServiceView:
    """The service is up when a backend takes new connections at each of its VIPs. `departed`: the traffic of
    backends that it has no more."""
    standings = [
        (backend.serving, {each.vip: each.operational for each in backend.vips}) for backend in backends
    ]
    vips = tuple(_vip_view(vip, [(serving, known[vip]) for serving, known in standings]) for vip in spec.vips)
    states = {each.operational for each in vips}
    if Operational.UP in states and len(states) > 1:
        operational = Operational.PARTIAL
    else:
        operational = min(states, key=_BEST_FIRST.index)
    return ServiceView(
        name=name,
        **{field: getattr(spec, field) for field in ServiceSpec.model_fields if field != "backends"},
        backends=backends,
        operational=operational,
        vips=vips,
        traffic=total([departed, *(backend.traffic for backend in backends)]),
        refused=refused,
    )


def _vip_view(vip: Address, backends: Sequence[tuple[bool, Operational]]) -> VipView:
    """Of backends: whether each serves at all, and how it is at this VIP."""
    serving = sum(serves and state is Operational.UP for serves, state in backends)
    if serving:
        operational = Operational.UP
    elif any(state is Operational.UNKNOWN for _, state in backends):
        operational = Operational.UNKNOWN
    else:
        operational = Operational.DOWN
    return VipView(vip=vip, operational=operational, serving=serving)


def now() -> datetime:
    return datetime.now(UTC)
