# SPDX-License-Identifier: Apache-2.0
"""The bench's frames, as bytes. The drivers of bpf/baselines.c then change client address and port in place.

Checksums are left 0: neither the programs nor the sink look at them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from xdpdirector.lab.topology import VIP4
from xdpdirector.model import Address

NEAR_MAC, FAR_MAC = bytes.fromhex("0200000000b1"), bytes.fromhex("0200000000b2")
CLIENT_MAC = bytes.fromhex("0200000000b3")  # no backend's: the director sends no frame back
CLIENT4, CLIENT6 = IPv4Address("198.18.0.0"), IPv6Address("2001:2::")  # benchmarks: RFC 2544, RFC 5180
STRANGER4, STRANGER6 = IPv4Address("203.0.113.9"), IPv6Address("2001:db8:9::9")
PORT_BITS, FIRST_PORT, PORT_STEP = 6, 1024, 1009  # as in bpf/baselines.c
SHORTEST = 60
SYN, ACK = 0x02, 0x10
_TCP, _UDP = 6, 17
_ETHERTYPES = {4: 0x0800, 6: 0x86DD}


@dataclass(frozen=True)
class Frame:
    """`family` says which driver knows its way about in it."""

    data: bytes
    family: Literal[4, 6]


def tcp(
    flags: int,
    port: int,
    destination: Address = VIP4,
    *,
    client: Address | None = None,
    sport: int = FIRST_PORT,
) -> Frame:
    """A segment without data from a client of the same family."""
    header = struct.pack("!HHIIBBHHH", sport, port, 1, 1 if flags & ACK else 0, 5 << 4, flags, 65535, 0, 0)
    return _packet(_TCP, header, destination, client)


def udp(port: int, destination: Address = VIP4) -> Frame:
    data = b"question"
    return _packet(_UDP, struct.pack("!HHHH", FIRST_PORT, port, 8 + len(data), 0) + data, destination, None)


def arp() -> Frame:
    """A request (RFC 826) to one host, as a neighbour's probe is."""
    addresses = CLIENT_MAC + STRANGER4.packed + bytes(6) + VIP4.packed
    request = struct.pack("!HHBBH", 1, _ETHERTYPES[4], 6, 4, 1) + addresses
    return Frame(_ethernet(0x0806, request), 4)


def flow(number: int, flags: int, port: int) -> Frame:
    """A segment of the flow that `drive4` makes of this number."""
    client = CLIENT4 + (number >> PORT_BITS)
    return tcp(flags, port, client=client, sport=FIRST_PORT + number % (1 << PORT_BITS) * PORT_STEP)


def _packet(protocol: int, payload: bytes, destination: Address, client: Address | None) -> Frame:
    if destination.version == 4:
        source: Address = client or CLIENT4
        length = 20 + len(payload)
        header = struct.pack("!BBHHHBBH", 0x45, 0, length, 0, 0, 64, protocol, 0)
    else:
        source = client or CLIENT6
        header = struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64)
    whole = header + source.packed + destination.packed + payload
    return Frame(_ethernet(_ETHERTYPES[destination.version], whole), destination.version)


def _ethernet(kind: int, payload: bytes) -> bytes:
    return (NEAR_MAC + CLIENT_MAC + struct.pack("!H", kind) + payload).ljust(SHORTEST, b"\0")
