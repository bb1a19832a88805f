# SPDX-License-Identifier: Apache-2.0
"""QUIC datagrams, read by hand (RFC 8999, RFC 9000, RFC 9369, draft-ietf-quic-load-balancers): which backend's ID
their connection ID has. Knows no backends.
"""

from __future__ import annotations

from tests.packets.reference.frame import Packet
from xdpdirector.model.quic import QuicSpec

HANDSHAKES = {(b"\0\0\0\1", 2), (bytes.fromhex("6b3343cf"), 3)}
"""Version and type of the packets with a long header whose receiver has chosen the connection ID."""
SHORTEST = 7


def named(frame: bytes, packet: Packet, quic: QuicSpec) -> bytes | None:
    """The ID; None for what names nobody."""
    length = min(int.from_bytes(frame[packet.at + 4 : packet.at + 6], "big"), packet.room)
    data = frame[packet.at + 8 : packet.at + length]
    if len(data) < SHORTEST or not data[0] & 0x40:
        return None
    if not data[0] & 0x80:
        return _id(data[1:], quic, is_whole=False)
    size = data[5]
    if (data[1:5], data[0] >> 4 & 3) not in HANDSHAKES or not 0 < size <= min(20, len(data) - 6):
        return None
    return _id(data[6 : 6 + size], quic, is_whole=True)


def _id(cid: bytes, quic: QuicSpec, *, is_whole: bool) -> bytes | None:
    """`is_whole`: `cid` is all of the connection ID, and nothing else."""
    if quic.cids == "offset":
        begin = quic.offset or 0
        return cid[begin : begin + quic.length] if begin + quic.length <= len(cid) else None
    if cid[0] >> 5 != (quic.config_id or 0) or len(cid) < 1 + quic.length + 4:
        return None
    if quic.encodes_length:
        size = 1 + (cid[0] & 31)
        if not 1 + quic.length + 4 <= size <= 20 or size > len(cid) or (is_whole and size < len(cid)):
            return None
    return cid[1 : 1 + quic.length]
