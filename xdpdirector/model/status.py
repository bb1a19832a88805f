# SPDX-License-Identifier: Apache-2.0
"""What the director reports: desired state joined with live state, as the API and the CLI show it.

Plain frozen models without behaviour. Counters count since the data plane was loaded; `packets` and `bytes` are
requests only (replies bypass a direct-routing director), `bytes` without the Ethernet header.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal, NamedTuple, Self

from pydantic import Field

from xdpdirector.model.guard import PrefixField, ServiceLimit
from xdpdirector.model.passive import PassiveSpec, PassiveView
from xdpdirector.model.quic import QuicSpec
from xdpdirector.model.service import (
    Address,
    AdminState,
    CheckSpec,
    Frozen,
    HostAddress,
    ListenerField,
    Name,
    Persistence,
    Scheduler,
    Timeout,
    Timeouts,
)
from xdpdirector.model.tunnel import Forward, TunnelSpec


class Operational(StrEnum):
    """The health check's verdict; `partial`: up for some VIPs of the service and not for others; `drained` when a
    draining backend has no connection left."""

    UP = "up"
    PARTIAL = "partial"
    DOWN = "down"
    UNKNOWN = "unknown"
    DRAINED = "drained"

    @property
    def serves(self) -> bool:
        """Some VIP, if not all."""
        return self in (Operational.UP, Operational.PARTIAL)


class Traffic(Frozen):
    """Counters. `connections` counts opened ones: SYNs for `mh`, scheduled connections otherwise."""

    packets: int = 0
    bytes: int = 0
    connections: int = 0


def total(parts: Iterable[Traffic]) -> Traffic:
    """The sum, field by field."""
    traffics = [part for part in parts if part.packets or part.bytes or part.connections]
    if len(traffics) == 1:
        return traffics[0]
    return Traffic(
        packets=sum(part.packets for part in traffics),
        bytes=sum(part.bytes for part in traffics),
        connections=sum(part.connections for part in traffics),
    )


class ServiceTraffic(NamedTuple):
    """`traffic`: also of backends that the service has no more."""

    name: str
    traffic: Traffic
    backends: dict[str, Traffic]


COUNTERS = ("connections", "packets", "bytes", "dropped")


class ServiceCounters(NamedTuple):
    """What was counted of each service since it came, also for backends that it has no more. `values`: a row of
    COUNTERS for each of `names`; hundreds of these are kept, with thousands of names."""

    names: tuple[str, ...]
    values: array[int]

    def rows(self) -> dict[str, tuple[int, ...]]:
        values = iter(self.values)
        return dict(zip(self.names, zip(*[values] * len(COUNTERS), strict=True), strict=True))


class ConnectionCounts(Frozen):
    """Connections in the table now. `pending` have shown one packet only. With `mh` only exceptions are stored."""

    active: int = 0
    inactive: int = 0
    pending: int = 0


class DrainView(Frozen):
    """Progress of a drain. `settled` is false while an `mh` service may still have flows without a record, and
    while other directors of a fleet still have connections, or have not said that they have none; `elsewhere`: how
    many, by director.

    `oldest_at_least`: seconds; what is left is older than the drain, and how old exactly nobody keeps.
    `packets_per_second` to this backend, over the last few seconds. `estimated_end` is null while nothing ends.
    """

    since: datetime
    reason: str = ""
    deadline: datetime | None = None
    on_deadline: Literal["keep", "cut"] = "keep"
    connections_at_start: int = 0
    remaining: int = 0
    elsewhere: dict[str, int] = Field(default_factory=dict)
    settled: bool = True
    packets_per_second: float | None = None
    oldest_at_least: float | None = None
    estimated_end: datetime | None = None


class VipStanding(Frozen):
    """A backend at one VIP of its service: `up`, `down` or `unknown`. `reason`: why not up."""

    vip: Address
    operational: Operational
    reason: str


class TunnelView(Frozen):
    """The tunnel to a backend in another network. `source`: of outer packets, with the bits that the flow's hash
    fills as 0. `gateway`: the next hop, None for the backend itself. `mtu`: of the way there; `longest`: packet
    that the tunnel takes; both in bytes."""

    source: HostAddress
    gateway: HostAddress | None
    mtu: int
    longest: int


class BackendView(Frozen):
    """`operational` is `up` when it is so for all VIPs, `down` when for none. `serving`: it takes new connections,
    for one VIP at least. `effective_weight`: the part of `weight` that it has now, by its own word or because it
    returned lately. `quic_id`: in hex, what it must have in the QUIC connection IDs that it issues. `passive`: null
    if its service does not watch its backends. `forward`: null if it is the service's; `effective_forward`: how
    packets reach it; `tunnel`: None for `direct`, and while no route leads to it. `mac`: the next hop's."""

    service: Name
    name: Name
    address: HostAddress
    weight: int
    effective_weight: float
    max_connections: int | None = None
    resume_connections: int | None = None
    router: bool = False
    forward: Forward | None = None
    effective_forward: Forward = "direct"
    tunnel: TunnelView | None = None
    quic_id: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    admin: AdminState
    operational: Operational
    reason: str
    since: datetime
    mac: str | None
    interface: str | None
    serving: bool
    vips: tuple[VipStanding, ...] = ()
    connections: ConnectionCounts
    traffic: Traffic
    drain: DrainView | None = None
    passive: PassiveView | None = None


class Refused(Frozen):
    """New connections of a service that the guard refused: over the service's limit, or over their source's."""

    by_service: int = 0
    by_source: int = 0


class CidPackets(Frozen):
    """Packets of a service whose QUIC connection ID was looked at. `named`: it led to its backend, beside what the
    flow said. `unknown`: no backend has the ID; `down`: the one that has it is; both went by their flow."""

    named: int = 0
    unknown: int = 0
    down: int = 0


Dropped = dict[str, int]
"""Packets of a service that were dropped or rejected, by reason as in `Statistics.verdicts`; without reasons that
had none, and without packets that do not say which service they are for, such as later fragments of unknown
ones."""


class VipView(Frozen):
    """A VIP of a service: `up` when a backend takes new connections for it. `serving`: how many do."""

    vip: Address
    operational: Operational
    serving: int


class ServiceView(Frozen):
    """`operational` is `up` when all its VIPs are, `partial` when some are. `traffic`: of the backends that it has
    and had. `dropped`: packets that were dropped or rejected, by reason.
    `cid_packets`: by what QUIC connection IDs named."""

    name: Name
    listeners: tuple[ListenerField, ...]
    scheduler: Scheduler
    ring_slots: int
    hash: str | None
    fallback: Name | None
    persistence: Persistence | None
    one_packet: bool
    limit: ServiceLimit | None
    forward: Forward = "direct"
    tunnel: TunnelSpec = TunnelSpec()
    quic: QuicSpec | None = None
    passive: PassiveSpec | None = None
    on_empty: str
    on_down: str
    on_unknown: str
    timeouts: Timeouts
    check: CheckSpec | None
    slow_start: Timeout | None
    labels: dict[str, str] = Field(default_factory=dict)
    backends: tuple[BackendView, ...]
    operational: Operational
    vips: tuple[VipView, ...] = ()
    traffic: Traffic
    refused: Refused = Refused()
    cid_packets: CidPackets = CidPackets()
    dropped: dict[str, int] = Field(default_factory=dict)


class DeniedView(Frozen):
    """A denied prefix. `packets` were dropped since it is denied; a narrower prefix counts its own. `from_file`: it
    stands in the configuration file. `warnings`: what is under it that may not be meant."""

    prefix: PrefixField
    reason: str
    author: str
    since: datetime
    from_file: bool
    packets: int
    warnings: tuple[str, ...] = ()


class LimitView(Frozen):
    """A service's limit of new connections, None when it has none any more, and what was refused."""

    limit: ServiceLimit | None
    refused: Refused


class GuardView(Frozen):
    """`denied` prefixes, of `room` that there can be, and the packets dropped for them; limits by service."""

    denied: int
    room: int
    denied_packets: int
    limits: dict[Name, LimitView]


class ConnectionView(Frozen):
    """`client` is what the packets say: it may be an address that no host should have."""

    service: Name
    backend: Name | None
    client: Address
    client_port: int
    vip: Address
    port: int
    protocol: str
    state: str
    idle: float


class ConnectionPage(NamedTuple):
    """Some connections, and the place in the table behind them; None: there are no more. It may be short, or even
    empty, where few match."""

    items: tuple[ConnectionView, ...]
    next: int | None


class AttachmentView(Frozen):
    """`transmit_errors`: frames that were to be sent on and that the driver could not transmit, by its statistics
    (`ethtool -S`); null when it tells nothing of it."""

    interface: str
    mode: str
    program_id: int
    transmit_errors: int | None = None


class Fill(Frozen):
    """How many entries of a map are in use, of how many there is room for."""

    entries: int
    room: int


class Vitals(Frozen):
    """`verdicts`: packets by reason, named as in `enum reason` of bpf/reason.h. `traffic`: forwarded in all, also
    to what is gone. `maps`: named as in `sizes`. `clients_turned_away`: how often there was no room for one more
    client that keeps its backend."""

    verdicts: dict[str, int]
    traffic: Traffic = Traffic()
    attachments: tuple[AttachmentView, ...]
    maps: dict[str, Fill]
    connections: int
    clients_turned_away: int
    drift_repaired: int


class Statistics(Vitals):
    """Traffic besides: of each service, with the backends that it had, and of each backend in it."""

    services: dict[str, Traffic]
    backends: dict[str, dict[str, Traffic]]

    @classmethod
    def of(cls, vitals: Vitals, services: Iterable[ServiceTraffic]) -> Self:
        parts = list(services)
        return cls(
            **dict(vitals),
            services={each.name: each.traffic for each in parts},
            backends={each.name: each.backends for each in parts},
        )


class Readiness(Frozen):
    """`ready` is false while maps and desired state may differ; `problems` says why, a sentence each. `warnings`
    stand in the way of changes or of sight, not of packets: a full disk, checks that cannot ask for VIPs."""

    ready: bool
    problems: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    revision: int


def utc_now() -> datetime:
    """The time, as views tell it."""
    return datetime.now(UTC)
