# SPDX-License-Identifier: Apache-2.0
"""What a packet looks like in a tunnel, to the byte: RFC 2003, RFC 2473, RFC 4213, RFC 6040, and variant 1 of
GUE.
"""

from __future__ import annotations

from struct import pack

from tests.packets.reference.answers import checksum
from tests.packets.reference.frame import SCTP, TCP, UDP, Packet, Piece
from xdpdirector.net.tunnel import Tunnel

TTL = 64
IP_IN_IP, IPV6_IN_IP = 4, 41
DONT_FRAGMENT = 0x4000
LEAST_MTU6 = 1280  # RFC 8200, 5
_GOLDEN, _MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1


def longest(packet: Packet, tunnel: Tunnel) -> int:
    """The MTU that a sender is told of."""
    room = tunnel.mtu - _size(tunnel)
    return max(room, LEAST_MTU6) if packet.is_ipv6 else room


def takes(packet: Packet, tunnel: Tunnel) -> bool:
    return packet.length + _size(tunnel) <= tunnel.mtu


def encapsulated(frame: bytes, packet: Packet, tunnel: Tunnel, link: bytes) -> tuple[bytes, int]:
    """The frame behind `link`, its addresses and tags, and where its IPv4 identification stands that may be
    anything; 0 if there is none."""
    inside = frame[packet.ip_at :]
    inner = IPV6_IN_IP if packet.is_ipv6 else IP_IN_IP
    number = _hash(packet)
    middle = b""
    if tunnel.kind == "gue":
        middle = pack("!HHHH", 0xC000 | number >> 16, tunnel.port, 8 + packet.length, 0)
        inner = UDP
    is_whole = not packet.is_ipv6 and inside[6] & 0x40
    word = int.from_bytes(inside[:4], "big")
    tos = word >> 20 & 0xFF if packet.is_ipv6 else inside[1]
    spread = (1 << tunnel.spread) - 1
    source = (int(tunnel.source) & ~spread | number & spread).to_bytes(len(tunnel.source.packed), "big")
    destination = tunnel.destination.packed
    if tunnel.destination.version == 6:
        label = 6 << 28 | tos << 20 | number & 0xFFFFF
        header = pack("!IHBB", label, len(middle) + packet.length, inner, TTL) + source + destination
        return link + b"\x86\xdd" + header + middle + inside, 0
    flags = DONT_FRAGMENT if is_whole else 0
    length = 20 + len(middle) + packet.length
    header = pack("!BBHHHBBH", 0x45, tos, length, 0, flags, TTL, inner, 0) + source + destination
    header = header[:10] + pack("!H", checksum(header)) + header[12:]
    at = 0 if is_whole else len(link) + 2
    return link + b"\x08\x00" + header + middle + inside, at


def with_id(frame: bytes, at: int, other: bytes) -> bytes:
    """With the identification that `other` has in the IPv4 header at this place."""
    header = (
        frame[at : at + 4]
        + other[at + 4 : at + 6]
        + frame[at + 6 : at + 10]
        + b"\0\0"
        + frame[at + 12 : at + 20]
    )
    return frame[:at] + header[:10] + pack("!H", checksum(header)) + header[12:] + frame[at + 20 :]


def _size(tunnel: Tunnel) -> int:
    return (40 if tunnel.destination.version == 6 else 20) + (8 if tunnel.kind == "gue" else 0)


def _hash(packet: Packet) -> int:
    """By little-endian words, as the program reads them; fragments and what has no ports have none."""
    client, vip = ([int.from_bytes(each[i : i + 4], "little") for i in range(0, len(each), 4)]
                   for each in (packet.client, packet.vip))  # fmt: skip
    if packet.is_ipv6:
        mixed = _spread(client[0] << 32 | client[1])
        mixed = _spread(mixed ^ (client[2] << 32 | client[3])) ^ (vip[2] << 32 | vip[3])
    else:
        mixed = client[0] << 32 | vip[0]
    mixed = _spread(mixed)
    if packet.piece is Piece.WHOLE and packet.protocol in (TCP, UDP, SCTP):
        mixed ^= int.from_bytes(pack("!HH", packet.client_port, packet.port), "little")
    return _spread(mixed) * _GOLDEN >> 32 & 0xFFFFFFFF


def _spread(value: int) -> int:
    value = value * _GOLDEN & _MASK
    return value ^ value >> 32
