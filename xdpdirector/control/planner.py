# SPDX-License-Identifier: Apache-2.0
"""Makes the plan of a service for the data plane, from its spec, its health and its neighbours. Pure.

    admin         reachable and not down     down or unreachable
    enabled       serves, accepts            down
    drain         serves                     down
    maintenance   maintenance                maintenance

A backend that was never checked serves its connections, but accepts no new ones before its first check. A backend
that is unreachable only through a fault of the director's own network serves, too: its packets are dropped until a
frame can reach it again, and its connections are kept; new ones go to other backends, if there are any. A backend
that is up for some VIPs of its service serves and accepts for these, and is down for the others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from xdpdirector.control.weights import effective
from xdpdirector.dataplane.service_plan import Hop, MemberPlan, ServicePlan, State
from xdpdirector.model import Address, AdminState, BackendSpec, ServiceSpec
from xdpdirector.model.quic import QuicSpec
from xdpdirector.model.status import Operational
from xdpdirector.model.tunnel import Encapsulation
from xdpdirector.net.next_hop import Route
from xdpdirector.net.tunnel import tunnel_over


@dataclass(frozen=True)
class VipVerdict:
    """What the check says of a backend at one VIP: `up`, `down` or `unknown`, and why."""

    vip: Address
    operational: Operational
    reason: str = ""


NOWHERE: frozenset[Address] = frozenset()
"""The same object for all: each empty set of its own takes 216 octets."""


@dataclass(frozen=True)
class BackendStatus:
    """What is known of a backend: the check's verdict (`up` when there is no check), the way to it, and why.

    `share`: the part of its weight that it gets now, because it asks for no more, or returned a moment ago. `vips`:
    what the verdict is made of, where it need not be the same for all VIPs of the service: see `status_of`.
    `inherits`: it may have connections of another director, which a VIP without a verdict keeps.
    """

    verdict: Operational
    reason: str
    route: Route
    share: float = 1.0
    vips: tuple[VipVerdict, ...] = ()
    inherits: bool = False

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
        """Whether its connections are lost. A fault of the director's own network does not count."""
        if self.operational is not Operational.DOWN:
            return False
        return self._is_down or (self.hop is None and not self.route.fault)

    @property
    def _is_down(self) -> bool:
        """For all VIPs; for one that nothing is known of it may have connections, still."""
        if self.vips:
            return all(each.operational is Operational.DOWN for each in self.vips)
        return self.verdict is Operational.DOWN

    def at(self, vip: Address) -> VipVerdict:
        """As `operational`; also of a VIP that nothing is said of by itself."""
        known = next((each for each in self.vips if each.vip == vip), None)
        if known is None or len(self.vips) == 1:
            if known and (known.operational, known.reason) == (self.operational, self.why):
                return known
            return VipVerdict(vip, self.operational, self.why)
        alone = replace(self, verdict=known.operational, reason=known.reason, vips=())
        return VipVerdict(vip, alone.operational, alone.why)

    @property
    def out(self) -> frozenset[Address]:
        """The VIPs for which it takes nothing, and their connections end, though it is not lost."""
        lost = {Operational.DOWN}
        if self.verdict.serves and not self.inherits:
            lost.add(Operational.UNKNOWN)
        return frozenset(each.vip for each in self.vips if each.operational in lost) or NOWHERE


MOST_REASONS = 3


def status_of(
    vips: Sequence[VipVerdict], route: Route, share: float = 1.0, *, inherits: bool = False
) -> BackendStatus:
    """Of a backend from what is known of it at each VIP: `up` when it is so at all, `down` when at none."""
    states = {each.operational for each in vips}
    if states == {Operational.UP}:
        verdict = Operational.UP
    elif Operational.UP in states:
        verdict = Operational.PARTIAL
    else:
        verdict = Operational.DOWN if Operational.DOWN in states else Operational.UNKNOWN
    return BackendStatus(verdict, _reason(vips), route, share, tuple(vips), inherits)


def _reason(vips: Sequence[VipVerdict]) -> str:
    """One sentence where it is the same for all; else each VIP's, and first of those that are down."""
    if len({(each.operational, each.reason) for each in vips}) == 1:
        return vips[0].reason
    told = sorted(
        (each for each in vips if each.reason or each.operational is not Operational.UP),
        key=lambda each: each.operational is not Operational.DOWN,
    )
    left = len(told) - MOST_REASONS
    return "; ".join(map(_sentence, told[:MOST_REASONS])) + (f"; and {left} more VIPs" if left > 0 else "")


def _sentence(told: VipVerdict) -> str:
    """With the VIP that it is about, if it does not name it itself."""
    names = re.search(rf"(?<![\w.:]){re.escape(str(told.vip))}(?![\w.:])", told.reason)
    return told.reason if names else f"{told.vip}: {told.reason or 'not checked yet'}"


@lru_cache(maxsize=4096)
def _hop(route: Route) -> Hop | None:
    """Cached: it is asked for far more often than routes change."""
    if route.kind == "local":
        return Hop(bytes(6), bytes(6), route.ifindex, local=True)
    if route.mac is None or route.source_mac is None:
        return None
    return Hop(route.mac, route.source_mac, route.wire or route.ifindex, vlan=route.vlan)


def plan(
    name: str, spec: ServiceSpec, statuses: dict[str, BackendStatus], *, forbears: bool = False
) -> ServicePlan:
    """`statuses` has every backend of the spec. `forbears`: see `take_over`."""
    weights = effective(
        spec.scheduler,
        {key: backend.weight for key, backend in spec.backends.items()},
        {key: statuses[key].share for key in spec.backends},
    )
    members = {
        key: _member(
            key,
            backend,
            weights[key],
            statuses[key],
            is_fallback=key == spec.fallback,
            quic=spec.quic,
            watched=spec.passive is not None,
            encapsulation=spec.encapsulation(backend),
        )
        for key, backend in spec.backends.items()
    }
    cut_off = {key for key in members if statuses[key].route.is_cut}
    if any(member.accepts for key, member in members.items() if key not in cut_off):
        members |= {key: replace(members[key], accepts=False) for key in cut_off}
    return ServicePlan(
        name=name,
        listeners=spec.listeners,
        scheduler=spec.scheduler,
        ring_slots=spec.ring_slots,
        on_empty=spec.on_empty,
        on_down=spec.on_down,
        on_unknown="drop" if forbears else spec.on_unknown,
        timeouts=spec.timeouts,
        hashes_port=spec.hashes_port,
        fallback=spec.fallback,
        persistence=spec.persistence,
        one_packet=spec.one_packet,
        limit=spec.limit,
        quic=spec.quic,
        passive=spec.passive is not None,
        members=tuple(members.values()),
    )


def grown(before: ServicePlan | None, wanted: ServicePlan) -> ServicePlan:
    """On the way from one plan to another: all that `wanted` adds, and nothing that ends running connections. Who
    is to go, to move or to be cut off stays for these, and takes no new ones."""
    if before is None:
        return wanted
    earlier, later = ({member.name: member for member in each.members} for each in (before, wanted))
    gone = before.vips - wanted.vips
    return replace(
        wanted,
        members=(
            *(_kept(earlier.get(member.name), member, gone) for member in wanted.members),
            *(replace(member, accepts=False) for name, member in earlier.items() if name not in later),
        ),
        listeners=(
            *wanted.listeners,
            *(listener for listener in before.listeners if listener not in wanted.listeners),
        ),
    )


def _kept(before: MemberPlan | None, wanted: MemberPlan, gone: frozenset[Address]) -> MemberPlan:
    """`gone`: VIPs that are served until the end of the way."""
    if before is None:
        return wanted
    moves = before.address != wanted.address
    is_cut = wanted.state is State.MAINTENANCE and before.state is State.SERVING
    if moves or is_cut:
        return replace(before, accepts=False)
    return replace(wanted, out=wanted.out | before.out & gone) if before.out & gone else wanted


def _member(
    name: str,
    spec: BackendSpec,
    weight: int,
    status: BackendStatus,
    *,
    is_fallback: bool,
    quic: QuicSpec | None,
    watched: bool,
    encapsulation: Encapsulation | None,
) -> MemberPlan:
    if spec.admin is AdminState.MAINTENANCE:
        state = State.MAINTENANCE
    elif status.is_lost:
        state = State.DOWN
    else:
        state = State.SERVING
    accepts = (
        state is State.SERVING
        and spec.admin is AdminState.ENABLED
        and spec.weight > 0
        and status.share > 0
        and not is_fallback
        and status.operational.serves
    )
    out = status.out if state is State.SERVING else frozenset()
    return MemberPlan(
        name,
        spec.address,
        weight,
        state,
        accepts,
        status.hop,
        *spec.thresholds,
        out=out,
        router=spec.router,
        watched=watched,
        quic_id=quic.id_of(spec.address, spec.quic_id) if quic else b"",
        tunnel=tunnel_over(status.route, encapsulation, spec.address) if encapsulation else None,
    )
