# SPDX-License-Identifier: Apache-2.0
"""What a service shall look like to packets, how a ring gets from one owner to the next, and how turns go on. Pure.

A plan is desired state joined with health and neighbours: no names of maps, no kernel, no clock in here.
The rules of flux are those of bpf/select.h: a slot that changes owner keeps the one before until every flow from
then has a record; marks that records still need stay as exceptions.
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

Words: TypeAlias = npt.NDArray[np.uint64]

NO_BACKEND = 0xFFFF
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
FLUX = 1
EXCEPTIONS = 2


class State(StrEnum):
    """What a backend does for its connections: `enum backend_state` in bpf/types.h."""

    SERVING = "serving"
    DOWN = "down"
    MAINTENANCE = "maintenance"


@dataclass(frozen=True)
class Cost:
    """What makes a member dear: `struct service` in bpf/types.h; the table in bpf/schedule.h says why."""

    active: int = 0
    inactive: int = 0
    served: int = 0
    fixed: int = 0
    weighted: bool = False
    idle_first: bool = False
    within_weight: bool = False


COSTS = {
    Scheduler.RR: Cost(served=1, fixed=1),
    Scheduler.WRR: Cost(served=1, fixed=1, weighted=True),
    Scheduler.LC: Cost(active=257, inactive=1),
    Scheduler.WLC: Cost(active=257, inactive=1, weighted=True),
    Scheduler.SED: Cost(active=1, fixed=1, weighted=True),
    Scheduler.NQ: Cost(active=1, fixed=1, weighted=True, idle_first=True),
    Scheduler.FO: Cost(fixed=1, weighted=True),
    Scheduler.OVF: Cost(fixed=1, weighted=True, within_weight=True),
    Scheduler.MH: Cost(),
    Scheduler.SH: Cost(),
}


@dataclass(frozen=True)
class Hop:
    """The way to a backend: where its frames leave, and with which addresses. `local`: it is the director.
    `vlan`: its VLAN there, 0 for none, None for that of the request."""

    mac: bytes
    source_mac: bytes
    ifindex: int
    local: bool = False
    vlan: int | None = None


@dataclass(frozen=True)
class MemberPlan:
    """A backend: `weight` is the configured one, `accepts` whether it takes new connections now. `upper`, `lower`:
    thresholds of its connections, 0 for none. `out`: the VIPs for which it is down all the same. `router`: clients'
    packets come in through it."""

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


@dataclass(frozen=True)
class ServicePlan:
    """A service as packets shall see it. Policies by name as in the model; members in configured order."""

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

    @property
    def vips(self) -> frozenset[Address]:
        return frozenset(listener.address for listener in self.listeners)

    def senders(self) -> frozenset[bytes]:
        """The MACs of machines that send frames here as to a backend, when they are directors, too."""
        hops = [(member.hop, member.router) for member in self.members if member.hop]
        if not any(hop.local for hop, _ in hops):
            return frozenset()
        return frozenset(hop.mac for hop, is_router in hops if not hop.local and not is_router)

    def passed_over(self) -> frozenset[str]:
        """The members whose new flows for some VIP are others' meanwhile. A VIP that nobody takes flows for is
        not among them: nothing of it runs anywhere."""
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
        """After this time every flow that still lives has shown a packet."""
        tcp = any(listener.protocol == "tcp" for listener in self.listeners)
        others = any(listener.protocol != "tcp" for listener in self.listeners)
        return max(
            max(self.timeouts.tcp, self.timeouts.tcpfin) if tcp else 0.0, self.timeouts.udp if others else 0.0
        )


def turns(served: Mapping[int, int], before: Mapping[int, int], after: Mapping[int, int]) -> dict[int, int]:
    """Connections that each member of an `rr` or `wrr` service counts as given to it, when its members change.

    All arguments by backend: what was counted, the weights before and now; 0: it takes none. The next connection
    goes to the least (count + 1) / weight, so counts of members that take turns differ by one connection at most,
    per weight. That is kept: who stays goes on where it was, also with another weight. Who takes connections again
    has missed one turn at most, a newcomer none: neither is given all that the others had meanwhile. And counts
    start near 0 again, lest they grow for ever.
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
    """Which slot of its service's ring each flow has: `flow_hash` of bpf/ring.h.

    Addresses and ports are as in the packet: one 32-bit number a flow for IPv4, four for IPv6. `slots`: of the
    ring, flow by flow.
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


def fresh(owners: Any, *, recorded: bool) -> Words:
    """A new ring. `recorded`: the service's flows so far have records that may disagree with it."""
    owners = np.asarray(owners, np.uint64)
    return pack(owners, NO_BACKEND, EXCEPTIONS if recorded else 0)


def advance(words: Words, owners: Any) -> Words:
    """The ring with new owners. Slots that change enter flux, unless nobody had them; the owner before stays
    the one from the first change."""
    owners = np.asarray(owners, np.uint64)
    present, flags = backends_of(words), flags_of(words)
    changed = present != owners
    in_flux = (flags & np.uint64(FLUX)) != 0
    vacant = present == np.uint64(NO_BACKEND)
    before = np.where(in_flux, before_of(words), present)
    flags = np.where(changed & ~vacant, flags | np.uint64(FLUX), flags)
    return np.where(changed, pack(owners, before, flags), words)


def unrest(words: Words) -> Words:
    """All in flux: for a service whose flows may be elsewhere than the ring says, and so are always recorded."""
    at_rest = (flags_of(words) & np.uint64(FLUX)) == 0
    owners = backends_of(words)
    return np.where(at_rest, pack(owners, owners, FLUX | EXCEPTIONS), words)


def settle(words: Words, exceptions: Collection[int]) -> Words:
    """Flux has ended: at rest, but for the slots in `exceptions`, where a record disagrees with the owner."""
    flags = np.zeros(len(words), np.uint64)
    if exceptions:
        flags[np.fromiter(exceptions, np.int64, len(exceptions))] = EXCEPTIONS
    return pack(backends_of(words), NO_BACKEND, flags)


def mark(words: Words, owners: Collection[int]) -> Words:
    """With the exceptions mark on all slots of these owners."""
    theirs = np.isin(backends_of(words), np.fromiter(owners, np.uint64, len(owners)))
    return np.where(theirs, words | np.uint64(EXCEPTIONS) << np.uint64(32), words)
