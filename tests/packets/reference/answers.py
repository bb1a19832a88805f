# SPDX-License-Identifier: Apache-2.0
"""What the director answers itself, to the byte: a RST (RFC 9293, 3.10.7.1), an ABORT (RFC 9260, 8.4), an ICMP port
unreachable (RFC 792, RFC 4443, 3.1), and that a packet is too big (RFC 1191, RFC 4443, 3.2). The link's tags stay,
its addresses change places.
"""

from __future__ import annotations

from struct import pack, unpack, unpack_from

from tests.packets.reference.frame import (
    ABORT,
    ACK,
    COOKIE_ACK,
    FIN,
    HEARTBEAT,
    HEARTBEAT_ACK,
    ICMP,
    ICMPV6,
    INIT,
    RST,
    SCTP,
    SHUTDOWN_ACK,
    SHUTDOWN_COMPLETE,
    SYN,
    TCP,
    Packet,
)

TTL = 64
DONT_FRAGMENT = 0x4000
LARGEST_QUOTE6 = 1280 - 40 - 8  # the smallest MTU, without the headers of the answer


def has_sender(frame: bytes, packet: Packet) -> bool:
    """Whether there is one host to answer: RFC 1122, 3.2.2; RFC 4443, 2.4 e. On the link: an address of one other
    station."""
    station = frame[6:12]
    if station[0] & 1 or not any(station) or station == frame[:6]:
        return False
    if packet.is_ipv6:
        return packet.client[0] != 0xFF and packet.client not in (bytes(16), bytes(15) + b"\1")
    return packet.client[0] not in (0, 127) and packet.client[0] < 224


def checksum(data: bytes) -> int:
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total = sum(unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _link(frame: bytes, packet: Packet) -> bytes:
    return frame[6:12] + frame[:6] + frame[12 : packet.ip_at]


def _ipv4(packet: Packet, protocol: int, flags: int, body: bytes) -> bytes:
    header = (
        pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, flags, TTL, protocol, 0) + packet.vip + packet.client
    )
    return header[:10] + pack("!H", checksum(header)) + header[12:] + body


def _ipv6(packet: Packet, protocol: int, body: bytes) -> bytes:
    return pack("!IHBB", 6 << 28, len(body), protocol, TTL) + packet.vip + packet.client + body


def _pseudo(packet: Packet, protocol: int, length: int) -> bytes:
    form = "!I3xB" if packet.is_ipv6 else "!xBH"
    numbers = (length, protocol) if packet.is_ipv6 else (protocol, length)
    return packet.vip + packet.client + pack(form, *numbers)


def reset(frame: bytes, packet: Packet) -> bytes | None:
    """None: a RST is never answered."""
    if packet.flags & RST:
        return None
    sequence, acknowledged, offset = unpack_from("!IIB", frame, packet.at + 4)
    if packet.flags & ACK:
        numbers = (acknowledged, 0, 0x50, RST)
    else:
        came = packet.room - (offset >> 4) * 4 + bool(packet.flags & SYN) + bool(packet.flags & FIN)
        numbers = (0, (sequence + came) & 0xFFFFFFFF, 0x50, RST | ACK)
    segment = pack("!HHIIBBHHH", packet.port, packet.client_port, *numbers, 0, 0, 0)
    check = checksum(_pseudo(packet, TCP, len(segment)) + segment)
    segment = segment[:16] + pack("!H", check) + segment[18:]
    if packet.is_ipv6:
        return _link(frame, packet) + _ipv6(packet, TCP, segment)
    return _link(frame, packet) + _ipv4(packet, TCP, DONT_FRAGMENT, segment)


def abort(frame: bytes, packet: Packet) -> bytes | None:
    """None for what is never answered; of a HEARTBEAT that is our own rule."""
    quiet = (ABORT, SHUTDOWN_COMPLETE, COOKIE_ACK, HEARTBEAT, HEARTBEAT_ACK)
    if packet.chunk in quiet or (packet.chunk == INIT and len(frame) < packet.at + 20):
        return None
    is_init = packet.chunk == INIT
    tag = frame[packet.at + 16 : packet.at + 20] if is_init else frame[packet.at + 4 : packet.at + 8]
    kind = SHUTDOWN_COMPLETE if packet.chunk == SHUTDOWN_ACK else ABORT
    head, chunk = pack("!HH", packet.port, packet.client_port) + tag, pack("!BBH", kind, not is_init, 4)
    answer = head + crc32c(head + bytes(4) + chunk).to_bytes(4, "little") + chunk
    if packet.is_ipv6:
        return _link(frame, packet) + _ipv6(packet, SCTP, answer)
    return _link(frame, packet) + _ipv4(packet, SCTP, DONT_FRAGMENT, answer)


def crc32c(data: bytes) -> int:
    """RFC 9260, appendix A: a division of polynomials, each octet's lowest bit first."""
    rest = 0xFFFFFFFF
    for octet in data:
        for place in range(8):
            carry = (rest >> 31) ^ (octet >> place & 1)
            rest = (rest << 1 & 0xFFFFFFFF) ^ (0x1EDC6F41 if carry else 0)
    return int(f"{rest ^ 0xFFFFFFFF:032b}"[::-1], 2)


def unreachable(frame: bytes, packet: Packet) -> bytes:
    """A port unreachable."""
    return _error(frame, packet, (1, 4) if packet.is_ipv6 else (3, 3))


def too_big(frame: bytes, packet: Packet, mtu: int) -> bytes:
    """RFC 1191, 4; RFC 4443, 3.2."""
    return _error(frame, packet, (2, 0) if packet.is_ipv6 else (3, 4), mtu)


def _error(frame: bytes, packet: Packet, kind: tuple[int, int], rest: int = 0) -> bytes:
    """Quotes the IPv4 header and 8 bytes, or as much of the IPv6 packet as fits."""
    came = frame[packet.ip_at : packet.ip_at + packet.length]
    if packet.is_ipv6:
        quote = came[:LARGEST_QUOTE6]
        pseudo = _pseudo(packet, ICMPV6, 8 + len(quote))
        check = checksum(pseudo + pack("!BBHI", *kind, 0, rest) + quote)
        return _link(frame, packet) + _ipv6(packet, ICMPV6, pack("!BBHI", *kind, check, rest) + quote)
    quote = came[: (came[0] & 15) * 4 + 8]
    check = checksum(pack("!BBHI", *kind, 0, rest) + quote)
    return _link(frame, packet) + _ipv4(packet, ICMP, 0, pack("!BBHI", *kind, check, rest) + quote)
