# SPDX-License-Identifier: Apache-2.0
"""What the model knows: backends, services, and who may have a new connection. Made from the plans that the real
maps are made from; what only the maps can know (which slot of a ring is whose) is given as words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from dataclasses import dataclass, field
from fractions import Fraction
from ipaddress import ip_address

from tests.packets.reference.frame import Packet
from xdpdirector.dataplane.service_plan import (
    EXCEPTIONS,
    FLUX,
    Cost,
    MemberPlan,
    ServicePlan,
    State,
)
from xdpdirector.model import Scheduler

PROTOCOLS = {"tcp": 6, "udp": 17, "esp": 50, "ah": 51, "gre": 47, "sctp": 132}
AT_ONCE = 0xFFFF
ALL_COMPARED = 32  # members that take connections; of more, some are drawn

# ipvsadm(8), and the sources of ip_vs_*.c: what a connection costs, and whether it is seen per weight.
COSTS = {
    Scheduler.RR: Cost(served=1, fixed=1),
    Scheduler.WRR: Cost(served=1, fixed=1, weighted=True),
    Scheduler.LC: Cost(active=257, inactive=1),
    Scheduler.WLC: Cost(active=257, inactive=1, weighted=True),
    Scheduler.SED: Cost(active=1, fixed=1, weighted=True),
    Scheduler.NQ: Cost(active=1, fixed=1, weighted=True, idle_first=True),
    Scheduler.FO: Cost(fixed=1, weighted=True),
    Scheduler.OVF: Cost(fixed=1, weighted=True, within_weight=True),
    Scheduler.TWOS: Cost(active=257, inactive=1, weighted=True),
    Scheduler.DH: Cost(),
    Scheduler.LBLC: Cost(active=257, inactive=1, weighted=True),
    Scheduler.LBLCR: Cost(active=257, inactive=1, weighted=True),
}


BY_WEIGHT_ALONE = (COSTS[Scheduler.FO], COSTS[Scheduler.OVF], COSTS[Scheduler.DH])


@dataclass(slots=True, eq=False)
class Backend:
    """One incarnation of a backend: removed and added again it is another one."""

    plan: MemberPlan
    is_present: bool = True
    active: int = 0
    inactive: int = 0
    served: int = 0
    is_full: bool = False
    packets: int = 0
    bytes: int = 0
    connections: int = 0
    index: int = 0
    shown: Counter[str] = field(default_factory=Counter)
    """What its clients' packets showed: see `passive`."""

    @property
    def serves(self) -> bool:
        """Some VIP, if not all."""
        return self.is_present and self.plan.state is State.SERVING

    def serves_at(self, vip: bytes) -> bool:
        return self.serves and ip_address(vip) not in self.plan.out

    def takes_more(self) -> bool:
        """Full from the upper threshold on, until below the lower one."""
        bound = self.plan.lower if self.is_full else self.plan.upper
        return not self.plan.upper or self.active + self.inactive < bound

    def took_one(self) -> None:
        """One more of its connections is counted."""
        count = self.active + self.inactive
        if self.plan.upper:
            self.is_full = count >= self.plan.upper or (self.is_full and count > self.plan.lower)


@dataclass(slots=True)
class Slot:
    """A slot of a ring: None is nobody."""

    owner: Backend | None
    before: Backend | None
    in_flux: bool
    has_exceptions: bool

    @property
    def was(self) -> Backend | None:
        """Where a flow without a record runs."""
        return self.before if self.in_flux else self.owner


@dataclass(slots=True, eq=False)
class Service:
    plan: ServicePlan
    backends: dict[str, Backend] = field(default_factory=dict)
    places: list[tuple[Backend, int]] = field(default_factory=list)
    seated: int = 0
    ring: list[Slot] = field(default_factory=list)
    out: dict[Backend, Set[object]] = field(default_factory=dict)
    near: dict[tuple[bytes, int], list[Backend]] = field(default_factory=dict)
    """lblc, lblcr: by VIP and protocol, who has its connections."""

    @property
    def fallback(self) -> Backend | None:
        return self.backends[self.plan.fallback] if self.plan.fallback else None

    def update(self, plan: ServicePlan) -> list[Backend]:
        """The backends that are new."""
        new = []
        self.plan = plan
        for member in plan.members:
            if member.name in self.backends:
                self.backends[member.name].plan = member
            else:
                self.backends[member.name] = Backend(member)
                new.append(self.backends[member.name])
        for name in set(self.backends) - {member.name for member in plan.members}:
            self.backends.pop(name).is_present = False
        for servers in self.near.values():
            servers[:] = [server for server in servers if server.is_present]
        if not plan.scheduler.is_ring:
            self._seat()
        return new

    def _seat(self) -> None:
        """Where a place is another's, or another's weight, turns are made to go on."""
        seats = [
            (self.backends[member.name], self._weight(member) if member.accepts else 0)
            for member in self.plan.members
        ]
        out = {backend: backend.plan.out for backend, _ in seats if backend.plan.out}
        changed = seats != self.places[: len(seats)] or out != self.out
        if changed and COSTS[self.plan.scheduler].served:
            self._go_on(dict(self.places[: self.seated]), dict(seats))
        self.places[: len(seats)], self.seated, self.out = seats, len(seats), out

    @staticmethod
    def _go_on(before: dict[Backend, int], after: dict[Backend, int]) -> None:
        """A round is one connection for each unit of weight. Who stays is in the same round with another weight.
        The latest of these counts: who comes is not ahead of it, and nobody behind by more than the connection that
        is due, or one more for who was there."""
        taking = {backend: weight for backend, weight in after.items() if weight}
        staying = [backend for backend in taking if before.get(backend)] or list(taking)
        rounds = [Fraction(b.served, before.get(b) or taking[b]) for b in staying]
        latest = max(rounds, default=Fraction(0))
        passed = max(int(latest) - 2, 0)
        for backend, weight in taking.items():
            exact = latest * weight
            due = -(-exact.numerator // exact.denominator) - 1
            if before.get(backend):
                backend.served = round(Fraction(backend.served, before[backend]) * weight)
            else:
                backend.served = min(backend.served, exact.numerator // exact.denominator)
            if backend in before:
                due -= 1
            backend.served = max(0, max(backend.served, due) - passed * weight)

    def _weight(self, member: MemberPlan) -> int:
        return member.weight if COSTS[self.plan.scheduler].weighted else 1

    def any_other(self, packet: Packet) -> Backend | None:
        """For a flow whose slot's owner is out for its VIP: one of those that are not, by their weights."""
        seed, total, drawn = ring_hash(packet, hashes_port=self.plan.hashes_port) << 16, 0, None
        for number, member in enumerate(self.plan.members):
            if not member.accepts or ip_address(packet.vip) in member.out:
                continue
            total += member.weight
            draw = (spread(seed + number) * SPREAD & MASK) >> 32
            if draw * total >> 32 < member.weight:
                drawn = self.backends[member.name]
        return drawn

    def scheduled(self, packet: Packet) -> Backend | None:
        """Who has a new connection, without a ring."""
        if self.plan.scheduler is Scheduler.DH:
            return self._of_destination(packet.vip)
        if self.plan.scheduler is Scheduler.TWOS:
            return self._cheaper_of_two(packet)
        if self.plan.scheduler in (Scheduler.LBLC, Scheduler.LBLCR):
            return self._by_locality(packet)
        seats = [seat for seat in self.places[: len(self.plan.members)] if seat[1]]
        if len(seats) > ALL_COMPARED and COSTS[self.plan.scheduler] not in BY_WEIGHT_ALONE:
            return self._best_of_drawn(packet, seats) or self._least_costly(packet.vip)
        return self._least_costly(packet.vip)

    def _best_of_drawn(self, packet: Packet, seats: list[tuple[Backend, int]]) -> Backend | None:
        """Of many, sixteen by double hashing. A weight of more than four times the mean one is there more than
        once."""
        mean = Fraction(sum(weight for _, weight in seats), len(seats))
        again = [seat[0] for seat in seats for _ in range(-(-seat[1] // (4 * mean)) - 1)]
        pot = [backend for backend, _ in seats] + again
        first = ring_hash(packet, hashes_port=True)
        second = (spread(first) * SPREAD & MASK) >> 32
        step = 1 + (second * (len(pot) // 16) >> 32)
        begin = first * len(pot) >> 32
        return self._least_costly(packet.vip, [pot[(begin + n * step) % len(pot)] for n in range(16)])

    def _of_destination(self, vip: bytes) -> Backend | None:
        """ip_vs_dh.c: 256 buckets, dealt to the servers in turn; a server that takes nothing is not replaced."""
        seats = self.places[: len(self.plan.members)]
        folded = 0
        for start in range(0, len(vip), 4):
            folded ^= int.from_bytes(vip[start : start + 4], "big")
        bucket = (folded * 0x61C88647 & 0xFFFFFFFF) >> 24
        if not seats:
            return None
        backend, weight = seats[bucket % len(seats)]
        able = weight and backend.takes_more() and ip_address(vip) not in backend.plan.out
        return backend if able else None

    def _cheaper_of_two(self, packet: Packet) -> Backend | None:
        """ip_vs_twos.c: two draws by weight, here by the flow's hash; the first, if they cost the same."""
        seed, total = ring_hash(packet, hashes_port=True) << 16, 0
        drawn: list[tuple[Fraction, Backend] | None] = [None, None]
        for number, (backend, weight) in enumerate(self.places[: len(self.plan.members)]):
            if not weight or not backend.takes_more() or ip_address(packet.vip) in backend.plan.out:
                continue
            total += weight
            price = 257 * backend.active + backend.inactive
            for which in (0, 1):
                draw = (spread(seed + 2 * number + which) * SPREAD & MASK) >> 32
                if draw * total >> 32 < weight:
                    drawn[which] = Fraction(max(0, price), weight), backend
        if drawn[0] is None or drawn[1] is None:
            return None
        return drawn[1][1] if drawn[1][0] < drawn[0][0] else drawn[0][1]

    def _by_locality(self, packet: Packet) -> Backend | None:
        """ip_vs_lblc.c, ip_vs_lblcr.c: one server, or a set of them, for each destination; another one when the
        least loaded of these has more connections than its weight, and somebody less than half of that."""
        servers = self.near.setdefault((packet.vip, packet.protocol), [])
        seats = [
            (backend, weight)
            for backend, weight in self.places[: len(self.plan.members)]
            if weight and ip_address(packet.vip) not in backend.plan.out
        ]
        usual = self._least_costly(packet.vip, [server for server, _ in seats if server in servers])
        if usual and (
            max(0, usual.active) <= usual.plan.weight
            or all(2 * max(0, backend.active) >= weight for backend, weight in seats)
        ):
            return usual
        other = self._least_costly(packet.vip)
        if other and self.plan.scheduler is Scheduler.LBLC:
            servers[:] = [other]
        elif other and other not in servers:
            servers.append(other)
        return other

    def _least_costly(self, vip: bytes, among: list[Backend] | None = None) -> Backend | None:
        """The first of those that cost least; of all, or among some in this order."""
        cost = COSTS[self.plan.scheduler]
        best, least = None, float("inf")
        weights = dict(self.places[: len(self.plan.members)])
        for backend in weights if among is None else among:
            weight = weights[backend]
            if not backend.takes_more() or not weight or ip_address(vip) in backend.plan.out:
                continue
            active, inactive = max(0, backend.active), max(0, backend.inactive)
            if cost.within_weight and active > weight:
                continue
            price = (
                cost.active * active + cost.inactive * inactive + cost.served * backend.served + cost.fixed
            )
            if cost.idle_first and not active:
                price = 0
            quotient = price / weight
            if quotient < least:
                best, least = backend, quotient
        return best

    def by_quic_id(self, raw: bytes) -> Backend | None:
        """The backend that has this ID in connection IDs."""
        return next((each for each in self.backends.values() if each.plan.quic_id == raw), None)

    def slot(self, packet: Packet) -> Slot | None:
        if not self.ring:
            return None
        return self.ring[ring_hash(packet, hashes_port=self.plan.hashes_port) * len(self.ring) >> 32]

    def client(self, packet: Packet) -> tuple[int, bytes] | None:
        """What of a client's address counts."""
        keeps = self.plan.persistence
        if keeps is None:
            return None
        bits = keeps.prefix6 if packet.is_ipv6 else keeps.prefix
        size = 8 * len(packet.client)
        return bits, (int.from_bytes(packet.client, "big") >> (size - bits)).to_bytes(16, "big")


def ring_of(words: list[int], backends: dict[int, Backend]) -> list[Slot]:
    """The ring that these words describe; `backends` by index."""
    return [
        Slot(
            backends.get(word & 0xFFFF),
            backends.get(word >> 16 & 0xFFFF),
            bool(word >> 32 & FLUX),
            bool(word >> 32 & EXCEPTIONS),
        )
        for word in words
    ]


SPREAD, MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1


def ring_hash(packet: Packet, *, hashes_port: bool) -> int:
    """Taken over from bpf/ring.h, as an oracle: any hash would do."""
    words = [int.from_bytes(packet.client[i : i + 4], "little") for i in range(0, len(packet.client), 4)]
    value = words[0] << 32
    if len(words) == 4:
        value = spread(spread(words[0] << 32 | words[1]) ^ (words[2] << 32 | words[3]))
    if hashes_port:
        ports = packet.client_port.to_bytes(2, "big"), packet.port.to_bytes(2, "big")
        value ^= int.from_bytes(ports[0], "little") << 16 | int.from_bytes(ports[1], "little")
    return (spread(value) * SPREAD & MASK) >> 32


def spread(value: int) -> int:
    value = value * SPREAD & MASK
    return value ^ value >> 32


class Listeners:
    """Address, protocol and port -> service; of ranges the narrowest counts."""

    def __init__(self, services: list[Service]) -> None:
        self._exact: dict[tuple[bytes, int, int], Service] = {}
        self._ranges: dict[tuple[bytes, int], list[tuple[int, int, Service]]] = {}
        self.vips: set[bytes] = set()
        for service in services:
            for listener in service.plan.listeners:
                vip, protocol = ip_address(str(listener.address)).packed, PROTOCOLS[listener.protocol]
                first, last = listener.ports
                self.vips.add(vip)
                if first == last:
                    self._exact[vip, protocol, first] = service
                else:
                    self._ranges.setdefault((vip, protocol), []).append((first, last, service))
        for ranges in self._ranges.values():
            ranges.sort(key=lambda entry: entry[1] - entry[0])

    def find(self, vip: bytes, protocol: int, port: int) -> Service | None:
        exact = self._exact.get((vip, protocol, port))
        if exact:
            return exact
        for first, last, service in self._ranges.get((vip, protocol), ()):
            if first <= port <= last:
                return service
        return None
