# SPDX-License-Identifier: Apache-2.0
"""Encodes and decodes the rtnetlink messages sent for each backend: route and neighbour requests.

pyroute2, which is used otherwise, takes twenty times as long for one message. The structs are those of
linux/rtnetlink.h and linux/neighbour.h. Pure.
"""

from __future__ import annotations

import struct
from ipaddress import ip_address
from socket import AF_INET, AF_INET6

from xdpdirector.model.listener import Address
from xdpdirector.net.next_hop import Hop, Neighbour

_ROUTE = struct.Struct(
    "=BBBBBBBBI"
)  # rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags
_NEIGHBOUR = struct.Struct("=BxxxiHBB")  # ndmsg: family, ifindex, state, flags, type
_ATTRIBUTE = struct.Struct("=HH")
_NUMBER = struct.Struct("=I")
_TYPE_BITS = 0x3FFF
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PREFSRC, RTA_METRICS, RTA_VIA = 1, 4, 5, 7, 8, 18
RTAX_MTU = 2
NDA_DST, NDA_LLADDR, NDA_PROTOCOL, NDA_FLAGS_EXT = 1, 2, 12, 15
NTF_USE = 1 << 0
NTF_EXT_MANAGED = 1 << 0


def route_request(address: Address) -> bytes:
    """RTM_GETROUTE, as `ip route get`."""
    body = _ROUTE.pack(_family(address), address.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
    return body + _attribute(RTA_DST, address.packed)


def hop_of(answer: bytes) -> Hop:
    """Decode the answer to RTM_GETROUTE."""
    *_, kind, _flags = _ROUTE.unpack_from(answer)
    found = _attributes(answer[_ROUTE.size :])
    gateway = found.get(RTA_GATEWAY) or found.get(RTA_VIA, b"")[2:]
    ifindex = _NUMBER.unpack(found[RTA_OIF])[0] if RTA_OIF in found else 0
    metrics = _attributes(found.get(RTA_METRICS, b""))
    mtu = _NUMBER.unpack(metrics[RTAX_MTU])[0] if RTAX_MTU in metrics else 0
    return Hop(kind, ifindex, _text(gateway), _text(found.get(RTA_PREFSRC, b"")), mtu)


def neighbour_request(address: Address, ifindex: int) -> bytes:
    """RTM_GETNEIGH for one entry."""
    return _NEIGHBOUR.pack(_family(address), ifindex, 0, 0, 0) + _attribute(NDA_DST, address.packed)


def use_request(address: Address, ifindex: int, protocol: int | None = None) -> bytes:
    """RTM_NEWNEIGH with NTF_USE: resolve now. With a `protocol`, the kernel keeps it resolved and stores the
    protocol as the entry's owner."""
    body = _NEIGHBOUR.pack(_family(address), ifindex, 0, NTF_USE, 0) + _attribute(NDA_DST, address.packed)
    if protocol is None:
        return body
    managed = _attribute(NDA_FLAGS_EXT, _NUMBER.pack(NTF_EXT_MANAGED))
    return body + managed + _attribute(NDA_PROTOCOL, bytes([protocol]))


def neighbour_of(answer: bytes) -> Neighbour:
    """Decode the answer to RTM_GETNEIGH."""
    _, _, state, _, _ = _NEIGHBOUR.unpack_from(answer)
    found = _attributes(answer[_NEIGHBOUR.size :])
    flags = _NUMBER.unpack(found[NDA_FLAGS_EXT])[0] if NDA_FLAGS_EXT in found else 0
    return Neighbour(state, found.get(NDA_LLADDR, b""), bool(flags & NTF_EXT_MANAGED))


def _text(packed: bytes) -> str:
    return str(ip_address(packed)) if packed else ""


def _family(address: Address) -> int:
    return AF_INET if address.version == 4 else AF_INET6


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def _attributes(data: bytes) -> dict[int, bytes]:
    """Attributes by type."""
    found, offset = {}, 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            break
        found[kind & _TYPE_BITS] = data[offset + _ATTRIBUTE.size : offset + length]
        offset += length + 3 & ~3
    return found
