# SPDX-License-Identifier: Apache-2.0
"""The `sctp` check: an INIT is answered with an INIT ACK (RFC 9260, 5.1), over a raw socket.

The server keeps nothing of it: all that it knows then is in the cookie of its answer, which is not sent back. The
answer's checksum is not looked at, as a network card or a veth may leave it to the receiver; it is known by the
verification tag, 32 random bits that only who got the INIT can know.
"""

from __future__ import annotations

import itertools
import secrets
import socket
import struct

from xdpdirector.health.checks import CheckFailed, CheckImpossible, Dial, Target
from xdpdirector.health.checks.datagrams import answers, exchange
from xdpdirector.model.checks import CheckSpec
from xdpdirector.net.checksum import crc32c

IPPROTO_SCTP = 132
_HEADER = struct.Struct("!HHII")  # source port, destination port, verification tag, checksum
_CHUNK = struct.Struct("!BBH")  # type, flags, length
_INIT = struct.Struct("!IIHHI")  # initiate tag, window, outbound and inbound streams, first TSN
INIT, INIT_ACK, ABORT = 1, 2, 6
_WINDOW = 65536  # octets; at least 1,500
# Source ports from the checks' range: see `veth`.
_ports = itertools.cycle(range(0xF000, 0x10000))


async def probe(spec: CheckSpec, target: Target, dial: Dial) -> None:
    """Succeeds if the port takes associations."""
    try:
        await _initiate(spec, target, dial)
    except CheckImpossible as failure:
        if not isinstance(failure.__cause__, PermissionError):
            raise
        raise CheckImpossible(
            "this director may not send SCTP: give CAP_NET_RAW to it, and to what makes its checks' sockets "
            "(xdpdirector-checks@.service)"
        ) from failure


async def _initiate(spec: CheckSpec, target: Target, dial: Dial) -> None:
    port, tag = next(_ports), secrets.randbits(32) or 1
    async with exchange(spec, target, dial, kind=socket.SOCK_RAW, protocol=IPPROTO_SCTP) as opened:
        opened.send(_init(port, target.port, tag))
        async for said in answers(opened, target):
            if target.address.version == 4:
                said = said[(said[0] & 15) * 4 :]
            if len(said) < _HEADER.size + _CHUNK.size or _HEADER.unpack_from(said)[:3] != (
                target.port,
                port,
                tag,
            ):
                continue
            kind = said[_HEADER.size]
            if kind == INIT_ACK:
                return
            if kind == ABORT:
                raise CheckFailed(f"nothing listens on {target} (SCTP: ABORT)", absence="refused")


def _init(port: int, to: int, tag: int) -> bytes:
    """A packet with an INIT for one stream in each direction. The checksum is sent with its lowest octet first."""
    chunk = _CHUNK.pack(INIT, 0, _CHUNK.size + _INIT.size) + _INIT.pack(tag, _WINDOW, 1, 1, tag)
    sum_of = crc32c(_HEADER.pack(port, to, 0, 0) + chunk)
    return _HEADER.pack(port, to, 0, int.from_bytes(sum_of.to_bytes(4, "little"), "big")) + chunk
