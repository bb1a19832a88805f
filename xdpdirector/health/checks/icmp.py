# SPDX-License-Identifier: Apache-2.0
"""The `icmp` check: an echo request (RFC 792, RFC 4443), over a ping socket or, without permission for one, a
raw socket.

A ping socket receives only replies to itself, and the kernel fills in its identifier and checksum.
"""

from __future__ import annotations

import itertools
import os
import socket
import struct

from xdpdirector.health.checks import CheckImpossible, Dial, Target
from xdpdirector.health.checks.datagrams import answers, exchange
from xdpdirector.model.checks import CheckSpec

_HEADER = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence number
_ECHO = {4: (socket.IPPROTO_ICMP, 8, 0), 6: (socket.IPPROTO_ICMPV6, 128, 129)}  # protocol, request, reply
# Identifiers from the checks' range of ports: see `veth`.
_identifiers = itertools.cycle(range(0xF000, 0x10000))


async def probe(spec: CheckSpec, target: Target, dial: Dial) -> None:
    """Succeeds if the reply contains the data sent."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            return await _ping(spec, target, dial, kind)
        except CheckImpossible as failure:
            if not isinstance(failure.__cause__, PermissionError):
                raise
    raise CheckImpossible(
        "this director may not send pings: give it CAP_NET_RAW, or put its group into net.ipv4.ping_group_range"
    )


async def _ping(spec: CheckSpec, target: Target, dial: Dial, kind: int) -> None:
    protocol, request, reply = _ECHO[target.address.version]
    nonce = os.urandom(16)
    async with exchange(spec, target, dial, kind=kind, protocol=protocol) as opened:
        identifier = next(_identifiers)
        opened.send(_echo(request, identifier, nonce))
        async for said in answers(opened, target):
            if kind == socket.SOCK_RAW and target.address.version == 4:
                said = said[(said[0] & 15) * 4 :]
            if said[:1] == bytes([reply]) and said[_HEADER.size :] == nonce:
                return


def _echo(kind: int, identifier: int, data: bytes) -> bytes:
    """An echo request with IPv4's checksum (RFC 1071); the kernel computes IPv6's, and both for a ping
    socket."""
    words = struct.unpack(f"!{len(data) // 2}H", data)
    total = sum(words) + (kind << 8) + identifier + 1
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return _HEADER.pack(kind, 0, ~total & 0xFFFF, identifier, 1) + data
