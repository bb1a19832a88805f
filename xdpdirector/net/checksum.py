# SPDX-License-Identifier: Apache-2.0
"""The Internet checksum (RFC 1071), alone and over a pseudo-header, and SCTP's. Pure."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

_CASTAGNOLI = 0x82F63B78  # the polynomial, reflected


def internet(data: bytes) -> int:
    """The complement of the one's complement sum of all 16-bit words; 0 for data with a correct checksum in
    it."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def transport(
    source: IPv4Address | IPv6Address, destination: IPv4Address | IPv6Address, protocol: int, message: bytes
) -> int:
    """Checksum over pseudo-header and message (RFC 9293, section 3.1; RFC 8200, section 8.1)."""
    if source.version == 4:
        pseudo = struct.pack("!BBH", 0, protocol, len(message))
    else:
        pseudo = struct.pack("!II", len(message), protocol)
    return internet(source.packed + destination.packed + pseudo + message)


def crc32c(data: bytes) -> int:
    """The CRC of SCTP (RFC 9260, appendix A), bit by bit: for short messages."""
    crc = 0xFFFFFFFF
    for octet in data:
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ (crc & 1) * _CASTAGNOLI
    return crc ^ 0xFFFFFFFF
