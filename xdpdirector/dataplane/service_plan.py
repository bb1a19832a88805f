# SPDX-License-Identifier: Apache-2.0
"""The state of a service for the packet path, how ring slots change owners, and how round-robin counts
continue. Pure.

A plan is desired state joined with health and neighbours: no map names, kernel or clock here. The rules of
flux are those of bpf/select.h: a slot that changes owner keeps the previous owner until every flow from
before has a record; marks that records still need stay as exceptions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from math import ceil, floor
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from xdpdirector.model import Address, Listener, Persistence, Scheduler, Timeouts
from xdpdirector.model.guard import ServiceLimit
from xdpdirector.model.quic import QuicSpec
from xdpdirector.net.tunnel import Tunnel

Words: TypeAlias = npt.NDArray[np.uint64]

NO_BACKEND = 0xFFFF
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
FLUX = 1
EXCEPTIONS = 2


class State(StrEnum):
    """What a backend does for its existing connections: `enum backend_state` in bpf/types.h."""

    SERVING = "serving"
    DOWN = "down"
    MAINTENANCE = "maintenance"


@dataclass(frozen=True)
class Cost:
    """Weights of a member's cost: `struct service` in bpf/types.h; see the table in bpf/schedule.h."""

    active: int = 0
    inactive: int = 0
    served: int = 0
    fixed: int = 0
    weighted: bool = False
    idle_first: bool = False
    within_weight: bool = False
    choice: str = "ALL"


COSTS = {
    Scheduler.RR: Cost(served=1, fixed=1),
    Scheduler.WRR: Cost(served=1, fixed=1, weighted=True),
    Scheduler.LC: Cost(active=257, inactive=1),
    Scheduler.WLC: Cost(active=257, inactive=1, weighted=True),
    Scheduler.SED: Cost(active=1, fixed=1, weighted=True),
    Scheduler.NQ: Cost(active=1, fixed=1, weighted=True, idle_first=True),
    Scheduler.FO: Cost(fixed=1, weighted=True),
    Scheduler.OVF: Cost(fixed=1, weighted=True, within_weight=True),
    Scheduler.DH: Cost(fixed=1, choice="DESTINATION"),
    Scheduler.TWOS: Cost(active=257, inactive=1, weighted=True, choice="TWO"),
    Scheduler.LBLC: Cost(active=257, inactive=1, weighted=True, choice="LOCALITY"),
    Scheduler.LBLCR: Cost(active=257, inactive=1, weighted=True, choice="LOCALITIES"),
    Scheduler.MH: Cost(),
    Scheduler.SH: Cost(),
}


@dataclass(frozen=True, slots=True)
class Hop:
    """Next hop to a backend: egress interface and MACs. `local`: the director itself. `vlan`: VLAN id on the
    egress interface, 0 for none, None for that of the incoming frame."""

    mac: bytes
    source_mac: bytes
    ifindex: int
    local: bool = False
    vlan: int | None = None


@dataclass(frozen=True, slots=True)
class MemberPlan:
    """A backend. `weight`: as configured. `accepts`: takes new connections now. `upper`, `lower`: connection
    thresholds, 0 for none. `out`: VIPs for which it is down although it serves others. `router`: clients'
    packets arrive through it. `watched`: what its clients' packets show of it is counted. `quic_id`: in QUIC
    connection IDs; empty for none. `tunnel`: None for direct routing."""

    name: str
    address: Address
    weight: int
    state: State
    accepts: bool
    hop: Hop | None
    upper: int = 0
    lower: int = 0
    out: frozenset[Address] = frozenset()
    router: bool = False
    watched: bool = False
    quic_id: bytes = b""
    tunnel: Tunnel | None = None


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """A service as the packet path shall see it. Policies by name as in the model; members in configured
    order. `passive`: its members are watched."""

    name: str
    listeners: tuple[Listener, ...]
    scheduler: Scheduler
    ring_slots: int
    on_empty: str
    on_down: str
    on_unknown: str
    timeouts: Timeouts
    members: tuple[MemberPlan, ...]
    hashes_port: bool = True
    fallback: str | None = None
    persistence: Persistence | None = None
    one_packet: bool = False
    limit: ServiceLimit | None = None
    quic: QuicSpec | None = None
    passive: bool = False

    @property
    def vips(self) -> frozenset[Address]:
        return frozenset(listener.address for listener in self.listeners)

    def senders(self) -> frozenset[bytes]:
        """MACs of the other backends if this host is one, too: as directors, they may schedule to it. What comes
        through a tunnel has no backend's MAC, and the packet program does not see it."""
        hops = [(member.hop, member.router) for member in self.members if member.hop and not member.tunnel]
        if not any(hop.local for hop, _ in hops):
            return frozenset()
        return frozenset(hop.mac for hop, is_router in hops if not hop.local and not is_router)

    def passed_over(self) -> frozenset[str]:
        """The members that are down for some VIP, so that others take its new flows. A VIP that no member
        takes flows for does not count: it has no flows anywhere."""
        if not any(member.out for member in self.members):
            return frozenset()
        fallback = [member for member in self.members if member.name == self.fallback]
        takers = [member for member in self.members if member.accepts] + [
            member for member in fallback if member.state is State.SERVING
        ]
        served = {vip for member in takers for vip in self.vips - member.out}
        return frozenset(member.name for member in self.members if member.out & served)

    @property
    def flux_seconds(self) -> float:
        """Time after which every live flow has had a packet."""
        tcp = any(listener.shows_connections for listener in self.listeners)
        others = any(not listener.shows_connections for listener in self.listeners)
        return max(
            max(self.timeouts.tcp, self.timeouts.tcpfin) if tcp else 0.0, self.timeouts.udp if others else 0.0
        )


def turns(served: Mapping[int, int], before: Mapping[int, int], after: Mapping[int, int]) -> dict[int, int]:
    """Served counts of the members of an `rr` or `wrr` service after its members or weights change.

    All arguments by backend: counts, and weights before and after; weight 0: takes no connections. The next
    connection goes to the member with the least (count + 1) / weight, so counts per weight differ by one at
    most. The result keeps that: a member that stays continues at its position, also with another weight; a
    member that returns is at most one turn behind, and a new one not at all, so neither receives everything
    that the others received meanwhile. Counts are also reduced, so that they do not grow without bound.
    """
    taking = [backend for backend, weight in after.items() if weight]
    staying = [backend for backend in taking if before.get(backend)]
    at = max(
        (Fraction(served[backend], before.get(backend) or after[backend]) for backend in staying or taking),
        default=Fraction(0),
    )
    begin, counts = max(0, floor(at) - 2), dict(served)
    for backend in taking:
        share, weight_before = at * after[backend], before.get(backend, 0)
        if weight_before:
            count = round(Fraction(served[backend] * after[backend], weight_before))
        else:
            count = min(served[backend], floor(share))
        least = ceil(share) - (2 if backend in before else 1)
        counts[backend] = max(0, max(count, least) - begin * after[backend])
    return counts


def ring_slots_of(client: Any, client_port: Any, port: Any, *, hashes_port: Any, slots: Any) -> Words:
    """The slot of each flow in its service's ring: `flow_hash` of bpf/ring.h.

    Addresses and ports in the byte order of the packet: one 32-bit word per flow for IPv4, four for IPv6.
    `slots`: ring size per flow.
    """
    half, words = np.uint64(32), np.asarray(client, np.uint64)
    ports = np.asarray(client_port, np.uint64) << np.uint64(16) | np.asarray(port, np.uint64)
    if words.ndim == 2:
        mixed = _spread(words[:, 0] << half | words[:, 1])
        mixed = _spread(mixed ^ (words[:, 2] << half | words[:, 3]))
    else:
        mixed = words << half
    hashed = _spread(np.where(hashes_port, mixed ^ ports, mixed)) * _SPREAD >> half
    found: Words = hashed * np.asarray(slots, np.uint64) >> half
    return found


def _spread(values: Words) -> Words:
    values = values * _SPREAD
    return values ^ values >> np.uint64(32)


def pack(backend: Any, before: Any, flags: Any) -> Words:
    """Slots as 8-byte words (`struct ring_slot`, little-endian)."""
    words: Words = (
        np.asarray(backend, np.uint64)
        | np.asarray(before, np.uint64) << np.uint64(16)
        | np.asarray(flags, np.uint64) << np.uint64(32)
    )
    return words


def backends_of(words: Words) -> Words:
    return words & np.uint64(0xFFFF)


def before_of(words: Words) -> Words:
    return words >> np.uint64(16) & np.uint64(0xFFFF)


def flags_of(words: Words) -> Words:
    return words >> np.uint64(32)


def resting_owners(words: Words) -> npt.NDArray[np.uint16]:
    """What the map `owners` says of these slots: 1 + the owner of one without flags; 0 for others, and for one that
    nobody owns."""
    at_rest = flags_of(words) == 0
    owners: npt.NDArray[np.uint16] = ((backends_of(words) + np.uint64(1)) * at_rest).astype(np.uint16)
    return owners


def store(ring: Words, owners: npt.NDArray[np.uint16], words: Words) -> int:
    """Make slots of the map `ring` these, and those of `owners` what follows from them; returns how many elements
    differed.

    A packet sees what a slot was or what it is, and no mixture: either `owners` decides alone, or `ring` does.
    """
    differing = 0
    for present, wanted in ((ring, words), (owners, resting_owners(words))):
        differs = np.flatnonzero(present != wanted)
        present[differs] = wanted[differs]
        differing += len(differs)
    return differing


def fresh(owners: Any, *, recorded: bool) -> Words:
    """The slots of a new ring. `recorded`: existing flows of the service have records that may disagree with
    it."""
    owners = np.asarray(owners, np.uint64)
    return pack(owners, NO_BACKEND, EXCEPTIONS if recorded else 0)


def advance(words: Words, owners: Any) -> Words:
    """The ring with new owners. Changed slots enter flux, unless they had no owner; a slot already in flux
    keeps the previous owner of the first change."""
    owners = np.asarray(owners, np.uint64)
    present, flags = backends_of(words), flags_of(words)
    changed = present != owners
    in_flux = (flags & np.uint64(FLUX)) != 0
    vacant = present == np.uint64(NO_BACKEND)
    before = np.where(in_flux, before_of(words), present)
    flags = np.where(changed & ~vacant, flags | np.uint64(FLUX), flags)
    return np.where(changed, pack(owners, before, flags), words)


def unrest(words: Words) -> Words:
    """All slots in flux: for a service whose flows may be elsewhere than the ring says, so that all flows get
    records."""
    at_rest = (flags_of(words) & np.uint64(FLUX)) == 0
    owners = backends_of(words)
    return np.where(at_rest, pack(owners, owners, FLUX | EXCEPTIONS), words)


def settle(words: Words, exceptions: Collection[int]) -> Words:
    """The slots after flux, without previous owners. Slots in `exceptions` keep a mark: some record disagrees
    with the owner."""
    flags = np.zeros(len(words), np.uint64)
    if exceptions:
        flags[np.fromiter(exceptions, np.int64, len(exceptions))] = EXCEPTIONS
    return pack(backends_of(words), NO_BACKEND, flags)


def mark(words: Words, owners: Collection[int]) -> Words:
    """The slots with the exceptions mark set on all slots of these owners."""
    theirs = np.isin(backends_of(words), np.fromiter(owners, np.uint64, len(owners)))
    return np.where(theirs, words | np.uint64(EXCEPTIONS) << np.uint64(32), words)
