# SPDX-License-Identifier: Apache-2.0
"""What becomes of a frame: verdict, reason, the frame that leaves, and what is remembered and counted.

The rules are those of the design, section 4. No time passes in here: nothing times out.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from struct import pack
from typing import NamedTuple

from tests.packets.reference import answers, quic, tunnel
from tests.packets.reference.frame import (
    ACK,
    COOKIE_ECHO,
    FIN,
    RST,
    SCTP,
    TCP,
    UDP,
    Flow,
    Packet,
    Piece,
    dissect,
    is_icmp,
    quoted_flow,
)
from tests.packets.reference.guard import Guard
from tests.packets.reference.passive import Watch
from tests.packets.reference.state import (
    COSTS,
    Backend,
    Listeners,
    Service,
    Slot,
    ring_of,
)
from xdpdirector.dataplane.service_plan import Cost, ServicePlan
from xdpdirector.net.tunnel import Tunnel

DROP, PASS, TX, REDIRECT = 1, 2, 3, 4


class Fate(NamedTuple):
    """`may_be_silent`: it is an answer of which only so many go out at a time (DROP, drop_answer otherwise).
    `any_id_at`: the place of an IPv4 header whose identification may be anything."""

    verdict: int
    reason: str
    frame: bytes
    may_be_silent: bool = False
    any_id_at: int = 0


@dataclass(slots=True, eq=False)
class Record:
    """A connection: `stage` is syn, established, reopened, fin, closed or udp. `is_pending`: it has shown one
    packet. While its slot is in flux: `opening`, the sequence number of the SYN that opened it, and `later`, those
    of others that came before the handshake's end."""

    backend: Backend
    stage: str
    is_pending: bool = True
    opening: int | None = None
    later: set[int] = field(default_factory=set)
    seen: int = 0
    """The director's moment at its last packet."""

    @property
    def is_running(self) -> bool:
        return self.stage in ("established", "udp") and not self.is_pending

    @property
    def is_active(self) -> bool:
        return self.stage not in ("fin", "closed")


class Director:
    """`ingress`: the interface that frames come in on, and `own_mac` its address; `secondary_macs`: of what stands
    on it."""

    def __init__(self, ingress: int, own_mac: bytes) -> None:
        self._ingress, self._own_mac = ingress, own_mac
        self.secondary_macs: set[bytes] = set()
        self.services: dict[str, Service] = {}
        self.counts: Counter[str] = Counter()
        self.drops: Counter[tuple[str, str]] = Counter()
        """By service and reason, of packets that say which service they are for."""
        self.cids: Counter[tuple[str, str]] = Counter()
        """By service: packets whose QUIC connection ID named a backend, or none, or one that was down."""
        self._asked: Service | None = None
        """For which the last packet was."""
        self.guard = Guard()
        self._watch = Watch()
        self._stage = ""
        """Of the record that the last packet found."""
        self._listeners = Listeners([])
        self.records: dict[Flow, Record] = {}
        self.moment = 0
        """Told by who has several directors: records note it with each packet."""
        self._clients: dict[tuple[str, int, bytes], Backend] = {}
        """Who has confirmed a connection; the others are newcomers."""
        self._newcomers: dict[tuple[str, int, bytes], Backend] = {}
        self._fragments: dict[tuple[bytes, ...], Backend | str] = {}
        """Where the first one went: to a backend, or to the host for that reason."""
        self._backends: dict[int, Backend] = {}

    # What the operator does

    def apply(self, plan: ServicePlan, indices: dict[str, int], words: list[int]) -> None:
        """`indices`: of the backends, by name, and `words`: of the ring, as the maps have them now."""
        service = self.services.get(plan.name)
        if service is None or service.plan.listeners != plan.listeners:
            service = self.services.setdefault(plan.name, Service(plan))
            service.plan = plan
            self._listeners = Listeners(list(self.services.values()))
        if service.plan.limit != plan.limit:
            self.guard.renew(plan.name)
        service.update(plan)
        self._backends |= {indices[name]: backend for name, backend in service.backends.items()}
        for name, backend in service.backends.items():
            backend.index = indices[name]
        service.ring = ring_of(words, self._backends)

    def forget(self) -> None:
        """No connections, no clients, no fragments, and nobody has had any."""
        self.guard.fill_buckets()
        for memory in (self.records, self._clients, self._newcomers, self._fragments):
            memory.clear()
        self._watch.forget()
        self.drops.clear()
        self.cids.clear()
        for service in self.services.values():
            service.near.clear()
            for backend in service.backends.values():
                backend.active = backend.inactive = backend.served = 0
                backend.packets = backend.bytes = backend.connections = 0
                backend.is_full = False
                backend.shown.clear()

    # What comes in

    def direct(self, frame: bytes) -> Fate:
        """What becomes of this frame. `count` it afterwards."""
        packet, self._asked = dissect(frame), None
        if packet is None:
            return Fate(PASS, "pass_not_ip", frame)
        if packet.vip not in self._listeners.vips:
            return Fate(PASS, "pass_not_vip", frame)
        port = packet.plain_port
        if port is not None and not self._listeners.find(packet.vip, packet.protocol, port):
            return Fate(PASS, "pass_no_listener", frame)
        if frame[:6] != self._own_mac:
            if frame[:6] in self.secondary_macs:
                return Fate(PASS, "pass_other_host", frame)
            return Fate(DROP, "drop_other_host", frame)
        if packet.fault:
            self._asked = None if port is None else self._listeners.find(packet.vip, packet.protocol, port)
            return Fate(DROP, packet.fault, frame)
        if packet.piece is Piece.LATER:
            return self._follow_first(frame, packet)
        service = self._listeners.find(packet.vip, packet.protocol, packet.port)
        self._asked = service
        if service:
            return self._serve(frame, packet, service)
        if is_icmp(packet):
            return self._follow_quoted(frame, packet)
        return self._pass(frame, packet, "pass_no_listener")

    def count(self, reason: str) -> None:
        self.counts[reason] += 1
        if self._asked and reason.startswith(("drop", "reject")):
            self.drops[self._asked.plan.name, reason] += 1

    def _pass(self, frame: bytes, packet: Packet, reason: str) -> Fate:
        if packet.piece is Piece.FIRST:
            self._fragments[packet.whole] = reason
        return Fate(PASS, reason, frame)

    def _follow_first(self, frame: bytes, packet: Packet) -> Fate:
        backend = self._fragments.get(packet.whole)
        if isinstance(backend, str):
            return Fate(PASS, backend, frame)
        if backend and backend.serves:
            self._asked = next(each for each in self.services.values() if backend in each.backends.values())
            if self.guard.denies(packet):
                return Fate(DROP, "drop_denied", frame)
            return self._forward(frame, packet, backend, "forward_fragment")
        return Fate(DROP, "drop_fragment", frame)

    def _follow_quoted(self, frame: bytes, packet: Packet) -> Fate:
        flow = quoted_flow(frame, packet)
        if flow is None:
            return self._pass(frame, packet, "pass_no_listener")
        service = self._listeners.find(flow.vip, flow.protocol, flow.port)
        if service and frame[6:12] in service.plan.senders():
            return self._pass(frame, packet, "pass_directed")
        backend = self._backend_of(packet, flow, service) if service else None
        if backend is None or not backend.serves_at(flow.vip):
            return self._pass(frame, packet, "pass_no_connection")
        self._asked = service
        if self.guard.denies(packet):
            return Fate(DROP, "drop_denied", frame)
        return self._forward(frame, packet, backend, "forward_error")

    def _backend_of(self, error: Packet, flow: Flow, service: Service) -> Backend | None:
        if flow in self.records:
            return self.records[flow].backend
        quoted = replace(error, client=flow.client, client_port=flow.client_port, port=flow.port)
        slot = service.slot(quoted)
        return slot.was if slot else None

    def _serve(self, frame: bytes, packet: Packet, service: Service) -> Fate:
        if self.guard.denies(packet):
            return Fate(DROP, "drop_denied", frame)
        if frame[6:12] in service.plan.senders():
            return self._pass(frame, packet, "pass_directed")
        return self._choose(frame, packet, service)

    def _choose(self, frame: bytes, packet: Packet, service: Service) -> Fate:
        slot = service.slot(packet)
        if service.plan.quic and packet.protocol == UDP:
            fate = self._follow_cid(frame, packet, service, slot)
            if fate:
                return fate
        is_datagram = packet.protocol == UDP and service.plan.one_packet
        is_at_rest = slot and not slot.in_flux and not slot.has_exceptions
        if slot and is_at_rest and slot.owner and slot.owner.serves_at(packet.vip):
            if service.plan.limit and (packet.opens or is_datagram):
                return self._admit(frame, packet, service, slot)
            return self._forward(frame, packet, slot.owner, "forward_ring", is_new=packet.opens)
        if is_datagram:
            return self._admit(frame, packet, service, slot)
        record = self.records.get(packet.flow)
        if record and packet.opens and not record.is_active:
            if record.backend.serves_at(packet.vip):
                return self._reopen(frame, packet, service, record)
            self._drop_record(packet.flow)
        elif record:
            return self._follow_record(frame, packet, service, slot, record)
        opens = packet.opens or (service.plan.persistence and not packet.is_midstream)
        if opens or (packet.accepts and self._kept(service, packet)):
            return self._admit(frame, packet, service, slot)
        return self._go_on_unknown(frame, packet, service, slot)

    def _follow_record(
        self, frame: bytes, packet: Packet, service: Service, slot: Slot | None, record: Record
    ) -> Fate:
        self._stage = record.stage
        if self._recall(packet, slot, record) and record.backend.serves_at(packet.vip):
            self._confirm(packet, service, record.backend)
        return self._go_on(frame, packet, service, slot, record)

    def _follow_cid(self, frame: bytes, packet: Packet, service: Service, slot: Slot | None) -> Fate | None:
        """To the backend that the QUIC connection ID names: where there is a ring in any case, elsewhere flows that
        have no record. None: as if it named nobody."""
        record = self.records.get(packet.flow)
        found = None if record and not slot else quic.named(frame, packet, service.plan.quic)
        if found is None:
            return None
        backend = service.by_quic_id(found)
        if backend is None or not backend.serves_at(packet.vip):
            self.cids[service.plan.name, "down" if backend else "unknown"] += 1
            return None
        if slot and not slot.in_flux and not slot.has_exceptions and slot.owner is backend:
            return None
        if record and record.backend is backend:
            return self._follow_record(frame, packet, service, slot, record)
        if _would_return(frame, backend):
            return self._pass(frame, packet, "pass_directed")
        limit = self.guard.refuses(packet, service)
        if limit:
            return Fate(DROP, f"drop_limited_{limit}", frame)
        if record:
            self._drop_record(packet.flow)
        self.cids[service.plan.name, "named"] += 1
        self._remember(packet, backend)
        return self._forward(frame, packet, backend, "forward_cid")

    def _go_on(
        self, frame: bytes, packet: Packet, service: Service, slot: Slot | None, record: Record
    ) -> Fate:
        if record.backend.serves_at(packet.vip):
            return self._forward(frame, packet, record.backend, "forward_connection")
        if packet.is_midstream and service.plan.on_down == "drop":
            return Fate(DROP, "drop_down", frame)
        self._drop_record(packet.flow)
        if packet.is_midstream and service.plan.on_down == "reject":
            return self._reject(frame, packet, "reject_down")
        if packet.flags & RST:
            return Fate(DROP, "drop_down", frame)
        return self._schedule(frame, packet, service, slot)

    def _reopen(self, frame: bytes, packet: Packet, service: Service, record: Record) -> Fate:
        """A SYN after FIN or RST stays where the flow was: it may be made up."""
        limit = self.guard.refuses(packet, service)
        if limit:
            return Fate(DROP, f"drop_limited_{limit}", frame)
        self._show(packet, record)
        return self._forward(frame, packet, record.backend, "forward_new", is_new=True)

    def _go_on_unknown(self, frame: bytes, packet: Packet, service: Service, slot: Slot | None) -> Fate:
        """Began before this packet, and has no record."""
        was = slot.was if slot else None
        if slot and was and was.serves_at(packet.vip):
            if _would_return(frame, was):
                return self._pass(frame, packet, "pass_directed")
            if not slot.in_flux:
                return self._forward(frame, packet, was, "forward_ring")
            self._remember(packet, was)
            return self._forward(frame, packet, was, "forward_before")
        policy = service.plan.on_down if was else service.plan.on_unknown
        if not packet.is_midstream or (policy == "schedule" and not packet.flags & RST):
            return self._admit(frame, packet, service, slot)
        what = "down" if was else "unknown"
        if policy == "reject":
            return self._reject(frame, packet, f"reject_{what}")
        return Fate(DROP, f"drop_{what}", frame)

    def _admit(self, frame: bytes, packet: Packet, service: Service, slot: Slot | None) -> Fate:
        limit = self.guard.refuses(packet, service)
        if limit:
            return Fate(DROP, f"drop_limited_{limit}", frame)
        return self._schedule(frame, packet, service, slot)

    def _schedule(self, frame: bytes, packet: Packet, service: Service, slot: Slot | None) -> Fate:
        client = _client(service, packet)
        kept = backend = self._kept(service, packet)
        is_avoided = False
        if backend is None:
            backend = slot.owner if slot else service.scheduled(packet)
            is_avoided = bool(slot and backend and backend.serves and not backend.serves_at(packet.vip))
            if is_avoided:
                backend = service.any_other(packet)
            if backend and backend.serves_at(packet.vip):
                backend.served += COSTS.get(service.plan.scheduler, Cost()).served
            else:
                backend = service.fallback
                if not backend or not backend.serves_at(packet.vip) or not backend.takes_more():
                    return self._nobody(frame, packet, service)
        if client and not kept:
            self._newcomers[client] = backend
        if _would_return(frame, backend):
            return self._pass(frame, packet, "pass_directed")
        if slot and not slot.in_flux and not is_avoided:
            return self._forward(frame, packet, backend, "forward_ring", is_new=True)
        if packet.protocol == UDP and service.plan.one_packet:
            return self._forward(frame, packet, backend, "forward_unrecorded", is_new=True)
        self._remember(packet, backend)
        if slot and slot.in_flux and slot.before and packet.opens and packet.protocol == TCP:
            self.records[packet.flow].opening = packet.number
        is_new = not packet.is_midstream or (packet.accepts and kept)
        reason = "forward_new" if is_new else "forward_reopened"
        return self._forward(frame, packet, backend, reason, is_new=True)

    def _kept(self, service: Service, packet: Packet) -> Backend | None:
        """Where its client has gone lately. A connection that the client accepts was opened by that backend itself,
        whatever may be opened there."""
        client = _client(service, packet)
        places = [memory[client] for memory in (self._clients, self._newcomers) if client in memory]
        return next((backend for backend in places if _may_keep(backend, service, packet)), None)

    def _confirm(self, packet: Packet, service: Service, backend: Backend) -> None:
        """The second packet of a connection: its client has a place, if it has none elsewhere that it may keep."""
        client = _client(service, packet)
        if client and not (client in self._clients and _may_keep(self._clients[client], service, packet)):
            self._clients[client] = backend

    # Records

    def _remember(self, packet: Packet, backend: Backend) -> None:
        record = Record(backend, _first_stage(packet), seen=self.moment)
        self.records[packet.flow] = record
        _add_load(record, 1)
        record.backend.took_one()

    def merge(self, flow: Flow, record: Record) -> None:
        """Another director's record, which is newer than the one here."""
        if flow in self.records:
            self._drop_record(flow)
        self.records[flow] = record
        _add_load(record, 1)

    def _drop_record(self, flow: Flow) -> None:
        _add_load(self.records.pop(flow), -1)

    def _recall(self, packet: Packet, slot: Slot | None, record: Record) -> bool:
        """The flow's record becomes what it is after this packet; whether that confirms it. In flux somebody may
        have made up the SYN that opened it, while it runs where it ran before."""
        before = slot.before if slot and slot.in_flux else None
        if record.stage == "syn" and before and before is not record.backend and before.serves_at(packet.vip):
            if packet.opens:
                if packet.protocol == TCP:
                    record.later.add(packet.number)
            elif not _follows(packet, record):
                _add_load(record, -1)
                record.backend, record.stage, record.is_pending = before, _first_stage(packet), True
                _add_load(record, 1)
                return False
        was_running = record.is_running
        self._show(packet, record)
        return record.is_running and not was_running

    def _show(self, packet: Packet, record: Record) -> None:
        _add_load(record, -1)
        record.is_pending &= packet.opens
        record.stage, record.seen = _next_stage(record.stage, packet), self.moment
        _add_load(record, 1)

    # What goes out

    def _forward(
        self, frame: bytes, packet: Packet, backend: Backend, reason: str, *, is_new: bool = False
    ) -> Fate:
        hop = backend.plan.hop
        if reason == "forward_connection":
            assert self._asked
            has_ring = bool(self._asked.ring)
            self._watch.followed(packet, backend, self._stage, has_ring=has_ring)
        elif reason == "forward_new" or (reason == "forward_ring" and not _would_return(frame, backend)):
            self._watch.opened(packet, backend)
        if packet.piece is Piece.FIRST:
            self._fragments[packet.whole] = backend
        if hop is None:
            return Fate(DROP, "drop_unresolved", frame)
        if _would_return(frame, backend):
            return Fate(PASS, "pass_directed", frame)
        through = None if hop.local else backend.plan.tunnel
        if through and not tunnel.takes(packet, through):
            return self._refuse_long(frame, packet, backend, through)
        backend.packets += 1
        backend.bytes += packet.length
        backend.connections += is_new
        if hop.local:
            return Fate(PASS, "pass_local", frame)
        link = hop.mac + hop.source_mac
        if through:
            tag = pack("!HH", 0x8100, hop.vlan) if hop.vlan else b""
            link += frame[12 : packet.ip_at - 2] if hop.vlan is None else tag
            out, any_id_at = tunnel.encapsulated(frame, packet, through, link)
            return Fate(TX if hop.ifindex == self._ingress else REDIRECT, reason, out, any_id_at=any_id_at)
        if hop.vlan is None:
            out = link + frame[12:]
        else:
            tag = pack("!HH", 0x8100, hop.vlan) if hop.vlan else b""
            out = link + tag + (b"\x86\xdd" if packet.is_ipv6 else b"\x08\x00") + frame[packet.ip_at :]
        return Fate(TX if hop.ifindex == self._ingress else REDIRECT, reason, out)

    def _refuse_long(self, frame: bytes, packet: Packet, backend: Backend, through: Tunnel) -> Fate:
        self._asked = next(each for each in self.services.values() if backend in each.backends.values())
        is_answerable = answers.has_sender(frame, packet) and not is_icmp(packet)
        if packet.piece is Piece.LATER or not is_answerable:
            return Fate(DROP, "drop_unanswerable", frame)
        out = answers.too_big(frame, packet, tunnel.longest(packet, through))
        return Fate(TX, "reject_too_big", out, may_be_silent=True)

    def _nobody(self, frame: bytes, packet: Packet, service: Service) -> Fate:
        if packet.protocol in (TCP, UDP, SCTP) and service.plan.on_empty == "reject":
            return self._reject(frame, packet, "reject_empty")
        return Fate(DROP, "drop_empty", frame)

    def _reject(self, frame: bytes, packet: Packet, reason: str) -> Fate:
        if not answers.has_sender(frame, packet):
            return Fate(DROP, "drop_unanswerable", frame)
        if packet.protocol == UDP:
            return Fate(TX, reason, answers.unreachable(frame, packet), may_be_silent=True)
        out = answers.abort(frame, packet) if packet.protocol == SCTP else answers.reset(frame, packet)
        return Fate(TX, reason, out) if out else Fate(DROP, "drop_reset", frame)


def _client(service: Service, packet: Packet) -> tuple[str, int, bytes] | None:
    """Whom persistence knows, if the service has any."""
    name = service.client(packet)
    return (service.plan.name, *name) if name else None


def _would_return(frame: bytes, backend: Backend) -> bool:
    hop = backend.plan.hop
    is_direct = hop is not None and not hop.local and not backend.plan.tunnel
    return is_direct and not backend.plan.router and frame[6:12] == hop.mac


def _may_keep(backend: Backend, service: Service, packet: Packet) -> bool:
    keeps = service.plan.persistence
    if not keeps or not backend.serves_at(packet.vip):
        return False
    return backend.plan.accepts or keeps.on_drain == "keep" or packet.accepts


def _add_load(record: Record, by: int) -> None:
    if record.is_active:
        record.backend.active += by
    else:
        record.backend.inactive += by


def _follows(packet: Packet, record: Record) -> bool:
    """Whether a packet goes on from the SYN that opened the record, by what a client may have sent with it; or is
    the next behind a later one. Of SCTP the COOKIE ECHO does: it is the answer to an answer."""
    if packet.protocol == SCTP:
        return packet.chunk == COOKIE_ECHO
    opening, before = record.opening, (packet.number - 1) % (1 << 32)
    return (opening is not None and (before - opening) % (1 << 32) < 1 << 16) or before in record.later


def _first_stage(packet: Packet) -> str:
    """Of a flow that was not known; one packet from its middle tells no more than a SYN."""
    if packet.protocol == UDP:
        return "udp"
    if packet.flags & RST:
        return "closed"
    if packet.flags & FIN:
        return "fin"
    return "syn" if packet.opens else "established"


def _next_stage(stage: str, packet: Packet) -> str:
    """As the client's side shows it. Protocols without flags are established by their second packet. Who sends an
    ACK has not sent the RST before, and who sends data not the FIN."""
    if stage == "udp":
        return stage
    if packet.flags & RST:
        return "closed"
    if packet.flags & FIN:
        return "fin"
    if packet.opens:
        return "reopened" if stage in ("fin", "closed") else stage
    if stage == "closed":
        return "established" if packet.flags & ACK else stage
    if stage == "fin":
        return "established" if packet.flags & ACK and packet.has_data else stage
    return "established"
