# SPDX-License-Identifier: Apache-2.0
"""Raw bytes, dissected by hand: Ethernet (802.3, 802.1Q), IPv4 (RFC 791), IPv6 (RFC 8200), TCP (RFC 9293), UDP
(RFC 768), and what an ICMP error quotes (RFC 792, RFC 4443). Knows no services.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from struct import unpack_from
from typing import NamedTuple

TCP, UDP, SCTP, ICMP, ICMPV6 = 6, 17, 132, 1, 58
FIN, SYN, RST, ACK = 1, 2, 4, 16
DATA, INIT, INIT_ACK, HEARTBEAT, HEARTBEAT_ACK, ABORT = 0, 1, 2, 4, 5, 6
SHUTDOWN, SHUTDOWN_ACK, COOKIE_ECHO, COOKIE_ACK, SHUTDOWN_COMPLETE, I_DATA = 7, 8, 10, 11, 14, 64
"""SCTP's chunks (RFC 9260, 3.2; RFC 8260)."""
SHOWS = {
    **dict.fromkeys((HEARTBEAT, HEARTBEAT_ACK), 0),
    **dict.fromkeys((SHUTDOWN, SHUTDOWN_ACK, SHUTDOWN_COMPLETE), FIN | ACK),
    INIT: SYN,
    INIT_ACK: SYN | ACK,
    ABORT: RST,
}
"""What they say of an association, as TCP's flags; others belong to one that runs."""
TAGS = (0x8100, 0x88A8)
MOST_TAGS = 2
HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION = 0, 43, 44, 60
EXTENSIONS = frozenset((HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION))
MOST_EXTENSIONS = 6
ERRORS4 = frozenset((3, 4, 11, 12))
ERRORS6 = frozenset((1, 2, 3, 4))


class Piece(Enum):
    """Which part of a fragmented packet."""

    WHOLE = "whole"
    FIRST = "first fragment"
    LATER = "later fragment"


class Flow(NamedTuple):
    """As the client sends: its address and port, and the VIP's."""

    client: bytes
    vip: bytes
    client_port: int
    port: int
    protocol: int


@dataclass(slots=True)
class Packet:
    """`ip_at`, `at`: offsets of the IP header and of what follows all IP headers. `length`: of the IP packet;
    `room`: of it, what is left from `at` on. `fault`: why it is no packet that could be directed."""

    ip_at: int
    is_ipv6: bool
    client: bytes
    vip: bytes
    protocol: int
    length: int
    at: int
    room: int
    piece: Piece = Piece.WHOLE
    ident: bytes = b""
    client_port: int = 0
    port: int = 0
    flags: int = 0
    number: int = 0
    """Of TCP: the sequence number."""
    has_data: bool = False
    """Of TCP: behind its header. Of SCTP: in its first chunk, which may be the COOKIE ECHO before it."""
    chunk: int | None = None
    """Of SCTP: the type of the first."""
    fault: str | None = None
    plain_port: int | None = None
    """Of TCP and UDP right behind an IP header without options, in no fragment: what is looked at first."""

    @property
    def flow(self) -> Flow:
        return Flow(self.client, self.vip, self.client_port, self.port, self.protocol)

    @property
    def opens(self) -> bool:
        """A SYN alone opens a connection; PSH, URG and the ECN bits say nothing about that. So does an INIT."""
        return self.protocol in (TCP, SCTP) and self.flags & (FIN | SYN | RST | ACK) == SYN

    @property
    def accepts(self) -> bool:
        """Answers a SYN or an INIT of the other side."""
        return self.protocol in (TCP, SCTP) and self.flags & (SYN | ACK | RST) == SYN | ACK

    @property
    def is_midstream(self) -> bool:
        return self.protocol in (TCP, SCTP) and not self.opens

    @property
    def whole(self) -> tuple[bytes, ...]:
        """What all fragments of one packet have in common: RFC 791, 3.2; RFC 8200, 4.5 (there without protocol)."""
        if self.is_ipv6:
            return (self.client, self.vip, self.ident)
        return (self.client, self.vip, self.ident, bytes([self.protocol]))


def dissect(frame: bytes) -> Packet | None:
    """None when it is no IP packet for one host, or too short to have addresses."""
    if len(frame) < 14 or frame[0] & 1:
        return None
    (kind,) = unpack_from("!H", frame, 12)
    at = 14
    while kind in TAGS and at < 14 + 4 * MOST_TAGS:
        if len(frame) < at + 4:
            return None
        (kind,) = unpack_from("!H", frame, at + 2)
        at += 4
    if kind == 0x0800 and len(frame) >= at + 20 and frame[at] >> 4 == 4:
        packet = _ipv4(frame, at)
    elif kind == 0x86DD and len(frame) >= at + 40 and frame[at] >> 4 == 6:
        packet = _ipv6(frame, at)
    else:
        return None
    packet.plain_port = _plain_port(frame, at, is_ipv6=packet.is_ipv6)
    if packet.fault is None and packet.piece is not Piece.LATER:
        _transport(frame, packet)
    return packet


def _plain_port(frame: bytes, at: int, *, is_ipv6: bool) -> int | None:
    if is_ipv6:
        protocol, ports = frame[at + 6], at + 40
    else:
        protocol, ports = frame[at + 9], at + 20
        if frame[at] != 0x45 or unpack_from("!H", frame, at + 6)[0] & 0x3FFF:
            return None
    if protocol not in (TCP, UDP) or len(frame) < ports + 4:
        return None
    return int(unpack_from("!H", frame, ports + 2)[0])


def _ipv4(frame: bytes, at: int) -> Packet:
    header = (frame[at] & 15) * 4
    length, ident, fragment = unpack_from("!H2sH", frame, at + 2)
    packet = Packet(
        ip_at=at, is_ipv6=False, client=frame[at + 12 : at + 16], vip=frame[at + 16 : at + 20],
        protocol=frame[at + 9], length=length, at=at + header, room=length - header,
    )  # fmt: skip
    if header < 20 or length < header or at + length > len(frame):
        packet.fault = "drop_malformed_ip"
    elif fragment & 0x1FFF:
        packet.piece, packet.ident = Piece.LATER, ident
    elif fragment & 0x2000:
        packet.piece, packet.ident = Piece.FIRST, ident
    return packet


def _ipv6(frame: bytes, at: int) -> Packet:
    (room,) = unpack_from("!H", frame, at + 4)
    packet = Packet(
        ip_at=at, is_ipv6=True, client=frame[at + 8 : at + 24], vip=frame[at + 24 : at + 40],
        protocol=frame[at + 6], length=room + 40, at=at + 40, room=room,
    )  # fmt: skip
    if at + 40 + room > len(frame):
        packet.fault = "drop_malformed_ip"
        return packet
    count = 0
    while packet.protocol in EXTENSIONS and packet.piece is not Piece.LATER:
        if count == MOST_EXTENSIONS:
            packet.fault = "drop_extension_headers"
            return packet
        count += 1
        if not _extension(frame, packet):
            packet.fault = "drop_malformed_ip"
            return packet
    return packet


def _extension(frame: bytes, packet: Packet) -> bool:
    """Past one extension header; False when it does not fit into the packet."""
    if packet.room < 8:
        return False
    follows, length, fragment, ident = unpack_from("!BBH4s", frame, packet.at)
    size = 8
    if packet.protocol != FRAGMENT:
        size += 8 * length
    elif fragment & 0xFFF9:  # else an atomic fragment: RFC 6946
        packet.piece = Piece.LATER if fragment >> 3 else Piece.FIRST
        packet.ident = ident
    packet.protocol = follows
    packet.at += size
    packet.room -= size
    return packet.room >= 0


def _transport(frame: bytes, packet: Packet) -> None:
    if packet.protocol == TCP:
        if packet.room < 20:
            packet.fault = "drop_malformed_tcp"
            return
        packet.client_port, packet.port = unpack_from("!HH", frame, packet.at)
        packet.flags = frame[packet.at + 13]
        (packet.number,) = unpack_from("!I", frame, packet.at + 4)
        header = (frame[packet.at + 12] >> 4) * 4
        packet.has_data = packet.room > header
        if not 20 <= header <= packet.room:
            packet.fault = "drop_malformed_tcp"
    elif packet.protocol == UDP:
        if packet.room < 8:
            packet.fault = "drop_malformed_udp"
            return
        packet.client_port, packet.port, length = unpack_from("!HHH", frame, packet.at)
        if length < 8 or (packet.piece is Piece.WHOLE and length > packet.room):
            packet.fault = "drop_malformed_udp"
    elif packet.protocol == SCTP:
        if packet.room < 16:
            packet.fault = "drop_malformed_sctp"
            return
        packet.client_port, packet.port = unpack_from("!HH", frame, packet.at)
        packet.chunk, length = unpack_from("!BxH", frame, packet.at + 12)
        packet.flags = SHOWS.get(packet.chunk, ACK)
        packet.has_data = packet.chunk in (DATA, I_DATA, COOKIE_ECHO)
        if length < 4 or (packet.piece is Piece.WHOLE and length > packet.room - 12):
            packet.fault = "drop_malformed_sctp"


def is_icmp(packet: Packet) -> bool:
    return packet.protocol == (ICMPV6 if packet.is_ipv6 else ICMP)


def quoted_flow(frame: bytes, packet: Packet) -> Flow | None:
    """Which flow an ICMP error speaks of. It quotes a packet to the client, from the VIP that the error is for.

    None for what is no error, and for quotes cut too short, or of a fragment of TCP, UDP or SCTP that has no ports.
    Other protocols have no ports at all.
    """
    message = frame[packet.at : packet.at + packet.room]
    if len(message) < 8 or message[0] not in (ERRORS6 if packet.is_ipv6 else ERRORS4):
        return None
    quote = message[8:]
    found = _quoted6(quote) if packet.is_ipv6 else _quoted4(quote)
    if found is None:
        return None
    source, destination, protocol, header, is_later = found
    if source != packet.vip or len(quote) < header:
        return None
    if protocol not in (TCP, UDP, SCTP):
        return Flow(destination, source, 0, 0, protocol)
    if is_later or len(quote) < header + 4:
        return None
    port, client_port = unpack_from("!HH", quote, header)
    return Flow(destination, source, client_port, port, protocol)


def _quoted4(quote: bytes) -> tuple[bytes, bytes, int, int, bool] | None:
    """Source, destination, protocol, the size of all headers, and whether it is a later fragment."""
    if len(quote) < 20 or quote[0] >> 4 != 4 or quote[0] & 15 < 5:
        return None
    is_later = unpack_from("!H", quote, 6)[0] & 0x1FFF != 0
    return quote[12:16], quote[16:20], quote[9], (quote[0] & 15) * 4, is_later


def _quoted6(quote: bytes) -> tuple[bytes, bytes, int, int, bool] | None:
    """Behind as many extension headers as in a packet to the VIP."""
    if len(quote) < 40 or quote[0] >> 4 != 6:
        return None
    is_later = False
    protocol, at, room = quote[6], 40, unpack_from("!H", quote, 4)[0]
    for _ in range(MOST_EXTENSIONS):
        if protocol not in EXTENSIONS or is_later:
            break
        if len(quote) < at + 8:
            return None
        is_later = protocol == FRAGMENT and unpack_from("!H", quote, at + 2)[0] >> 3 != 0
        size = 8 if protocol == FRAGMENT else 8 + 8 * quote[at + 1]
        protocol, at, room = quote[at], at + size, room - size
        if room < 0:
            return None
    if protocol in EXTENSIONS and not is_later:
        return None
    return quote[8:24], quote[24:40], protocol, at, is_later
