# SPDX-License-Identifier: Apache-2.0
"""Builds the director's probes as whole Ethernet frames. Pure: sends nothing.

    who has the VIP?          ARP probe (RFC 5227, section 2.1.1), neighbour solicitation (RFC 4861, section 4.3)
    where is a backend?       ARP request, neighbour solicitation, to all
    does it have the VIP?     echo request or SYN to the VIP, in a frame to that backend's MAC

An ARP probe changes no ARP cache: its sender is 0.0.0.0. A neighbour solicitation has an ordinary source on
purpose: the answer to one without (duplicate address detection) goes to all nodes, and would change their
caches.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from xdpdirector.model import Address
from xdpdirector.net import checksum
from xdpdirector.net.garp import (
    ARP_REQUEST,
    ARPHRD_ETHER,
    BROADCAST,
    ETH_P_ARP,
    ETH_P_IP,
    ETH_P_IPV6,
    IPPROTO_ICMPV6,
)

IPPROTO_ICMP, IPPROTO_TCP = 1, 6
ECHO_REQUEST, ECHO_REQUEST6 = 8, 128
NEIGHBOUR_SOLICITATION, SOURCE_LINK_LAYER_ADDRESS = 135, 1
SOLICITED_NODE = bytes.fromhex(
    "ff0200000000000000000001ff"
)  # and the last 3 octets (RFC 4291, section 2.7.1)
RST, SYN = 0x04, 0x02
NOBODY = IPv4Address(0)
PAYLOAD = b"XDP Director asks whether this address is here. "


@dataclass(frozen=True)
class Ends:
    """MAC and IP addresses of both ends of a unicast frame."""

    source_mac: bytes
    target_mac: bytes
    source: Address
    target: Address


def who_has(target: Address, source: Address, mac: bytes) -> bytes:
    """Broadcast or multicast: who has `target`? IPv4 with source 0.0.0.0 is an ARP probe."""
    if isinstance(target, IPv4Address):
        ethernet = BROADCAST + mac + struct.pack("!H", ETH_P_ARP)
        operation = struct.pack("!HHBBH", ARPHRD_ETHER, ETH_P_IP, 6, 4, ARP_REQUEST)
        return ethernet + operation + mac + source.packed + bytes(6) + target.packed
    group = IPv6Address(SOLICITED_NODE + target.packed[-3:])
    option = struct.pack("!BB", SOURCE_LINK_LAYER_ADDRESS, 1) + mac
    message = struct.pack("!BBHI", NEIGHBOUR_SOLICITATION, 0, 0, 0) + target.packed + option
    ends = Ends(mac, b"\x33\x33" + group.packed[-4:], source, group)
    return packet(ends, IPPROTO_ICMPV6, _summed(ends, IPPROTO_ICMPV6, message, 2))


def echo(ends: Ends, ident: int, sequence: int) -> bytes:
    """Echo request (RFC 792, RFC 4443)."""
    if ends.target.version == 6:
        message = struct.pack("!BBHHH", ECHO_REQUEST6, 0, 0, ident, sequence) + PAYLOAD
        return packet(ends, IPPROTO_ICMPV6, _summed(ends, IPPROTO_ICMPV6, message, 2))
    message = struct.pack("!BBHHH", ECHO_REQUEST, 0, 0, ident, sequence) + PAYLOAD
    total = struct.pack("!H", checksum.internet(message))
    return packet(ends, IPPROTO_ICMP, message[:2] + total + message[4:])


def segment(ends: Ends, ports: tuple[int, int], flags: int, sequence: int) -> bytes:
    """A TCP segment without data or options: SYN to probe, RST to abort."""
    window = 1024 if flags & SYN else 0
    header = struct.pack("!HHIIBBHHH", *ports, sequence & 0xFFFFFFFF, 0, 5 << 4, flags, window, 0, 0)
    return packet(ends, IPPROTO_TCP, _summed(ends, IPPROTO_TCP, header, 16))


def packet(ends: Ends, protocol: int, message: bytes) -> bytes:
    """Wrap in an IP packet with hop limit 255 (neighbour discovery requires it) and a frame."""
    addresses = ends.source.packed + ends.target.packed
    if ends.target.version == 6:
        header = struct.pack("!IHBB", 6 << 28, len(message), protocol, 255) + addresses
        return ends.target_mac + ends.source_mac + struct.pack("!H", ETH_P_IPV6) + header + message
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(message), 0, 0x4000, 255, protocol, 0) + addresses
    header = header[:10] + struct.pack("!H", checksum.internet(header)) + header[12:]
    return ends.target_mac + ends.source_mac + struct.pack("!H", ETH_P_IP) + header + message


def _summed(ends: Ends, protocol: int, message: bytes, at: int) -> bytes:
    total = struct.pack("!H", checksum.transport(ends.source, ends.target, protocol, message))
    return message[:at] + total + message[at + 2 :]
