# SPDX-License-Identifier: Apache-2.0
"""Joins what is wanted with what is: from a service's spec, its health and its neighbours to its plan. Pure.

    admin         reachable and not down     down or unreachable
    enabled       serves, accepts            down
    drain         serves                     down
    maintenance   maintenance                maintenance

A backend that was never checked yet serves what it has, but accepts nothing new before its first check. One that
only the director's own network keeps away serves, too: its packets are dropped until a frame can reach it again,
and its connections live on. New ones go to others meanwhile, where there are any.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from xdpdirector.model import AdminState, BackendSpec, ServiceSpec
from xdpdirector.routes import Route
from xdpdirector.schedule import Hop, MemberPlan, ServicePlan, State
from xdpdirector.views import Operational
from xdpdirector.weights import effective


@dataclass(frozen=True)
class Standing:
    """What is known of a backend: the check's verdict (`up` when there is no check), the way to it, and why.

    `share`: the part of its weight that it gets now, because it asks for no more, or returned a moment ago.
    """

    verdict: Operational
    reason: str
    route: Route
    share: float = 1.0

    @cached_property
    def hop(self) -> Hop | None:
        """None when no frame can reach the backend."""
        return _hop(self.route)

    @cached_property
    def operational(self) -> Operational:
        """An unreachable backend is down, whatever its check last said; but for a moment, when it is the director's
        own network that fails, and unknown as long as it is asked for its MAC for the first time."""
        if self.route.is_asked and self.verdict is not Operational.DOWN:
            return Operational.UNKNOWN
        return self.verdict if self.hop or self.route.is_held else Operational.DOWN

    @property
    def why(self) -> str:
        if self.hop and self.share == 0 and not self.reason:
            return "it asks for no new connections"
        return (self.reason or self.route.fault) if self.hop else self.route.why

    @property
    def is_lost(self) -> bool:
        """Whether its connections have nobody any more: what the director's own network does is no such reason."""
        return self.operational is Operational.DOWN and not (
            self.route.fault and self.verdict is not Operational.DOWN
        )


@lru_cache(maxsize=4096)
def _hop(route: Route) -> Hop | None:
    """Asked far oftener than routes change."""
    if route.kind == "local":
        return Hop(bytes(6), bytes(6), route.ifindex, local=True)
    if route.mac is None or route.source_mac is None:
        return None
    return Hop(route.mac, route.source_mac, route.wire or route.ifindex, vlan=route.vlan)


def plan(name: str, spec: ServiceSpec, standings: dict[str, Standing]) -> ServicePlan:
    """`standings` has every backend of the spec."""
    weights = effective(
        spec.scheduler,
        {key: backend.weight for key, backend in spec.backends.items()},
        {key: standings[key].share for key in spec.backends},
    )
    members = {
        key: _member(key, backend, weights[key], standings[key], is_fallback=key == spec.fallback)
        for key, backend in spec.backends.items()
    }
    cut_off = {key for key in members if standings[key].route.is_cut}
    if any(member.accepts for key, member in members.items() if key not in cut_off):
        members |= {key: replace(members[key], accepts=False) for key in cut_off}
    return ServicePlan(
        name=name,
        listeners=spec.listeners,
        scheduler=spec.scheduler,
        ring_slots=spec.ring_slots,
        on_empty=spec.on_empty,
        on_down=spec.on_down,
        on_unknown=spec.on_unknown,
        timeouts=spec.timeouts,
        hashes_port=spec.hashes_port,
        fallback=spec.fallback,
        persistence=spec.persistence,
        one_packet=spec.one_packet,
        limit=spec.limit,
        members=tuple(members.values()),
    )


def grown(before: ServicePlan | None, wanted: ServicePlan) -> ServicePlan:
    """On the way from one plan to another: all that `wanted` adds, and nothing that ends running connections. Who
    is to go, to move or to be cut off stays for these, and takes no new ones."""
    if before is None:
        return wanted
    earlier, later = ({member.name: member for member in each.members} for each in (before, wanted))
    return replace(
        wanted,
        members=(
            *(_kept(earlier.get(member.name), member) for member in wanted.members),
            *(replace(member, accepts=False) for name, member in earlier.items() if name not in later),
        ),
        listeners=(
            *wanted.listeners,
            *(listener for listener in before.listeners if listener not in wanted.listeners),
        ),
    )


def _kept(before: MemberPlan | None, wanted: MemberPlan) -> MemberPlan:
    if before is None:
        return wanted
    moves = before.address != wanted.address
    is_cut = wanted.state is State.MAINTENANCE and before.state is State.SERVING
    return replace(before, accepts=False) if moves or is_cut else wanted


def _member(
    name: str, spec: BackendSpec, weight: int, standing: Standing, *, is_fallback: bool
) -> MemberPlan:
    if spec.admin is AdminState.MAINTENANCE:
        state = State.MAINTENANCE
    elif standing.is_lost:
        state = State.DOWN
    else:
        state = State.SERVING
    accepts = (
        state is State.SERVING
        and spec.admin is AdminState.ENABLED
        and spec.weight > 0
        and standing.share > 0
        and not is_fallback
        and standing.operational is Operational.UP
    )
    return MemberPlan(name, spec.address, weight, state, accepts, standing.hop, *spec.thresholds)
