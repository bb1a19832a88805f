# SPDX-License-Identifier: Apache-2.0
"""Frames that announce a new MAC of an address (gratuitous ARP, unsolicited neighbour advertisement). Pure:
sends nothing.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from xdpdirector.model import Address
from xdpdirector.net import checksum

BROADCAST = b"\xff" * 6
ALL_NODES = IPv6Address("ff02::1")
ALL_NODES_MAC = bytes.fromhex("333300000001")  # RFC 2464, section 7

ETH_P_ARP, ETH_P_IPV6 = 0x0806, 0x86DD
ARPHRD_ETHER, ETH_P_IP, ARP_REQUEST = 1, 0x0800, 1
IPPROTO_ICMPV6, NEIGHBOUR_ADVERTISEMENT, OVERRIDE, TARGET_LINK_LAYER_ADDRESS = 58, 136, 1 << 29, 2


def announcement(address: Address, mac: bytes) -> bytes:
    """The Ethernet frame that announces `address` at `mac`."""
    if isinstance(address, IPv4Address):
        return gratuitous_arp(address, mac)
    return neighbour_advertisement(address, mac)


def gratuitous_arp(address: IPv4Address, mac: bytes) -> bytes:
    """An ARP announcement (RFC 5227, section 2.3): a broadcast request with sender and target both `address`."""
    ethernet = BROADCAST + mac + struct.pack("!H", ETH_P_ARP)
    operation = struct.pack("!HHBBH", ARPHRD_ETHER, ETH_P_IP, len(mac), len(address.packed), ARP_REQUEST)
    return ethernet + operation + mac + address.packed + bytes(6) + address.packed


def neighbour_advertisement(address: IPv6Address, mac: bytes) -> bytes:
    """Unsolicited neighbour advertisement (RFC 4861, sections 4.4 and 7.2.6): to all nodes, with override
    flag and link-layer address."""
    option = struct.pack("!BB", TARGET_LINK_LAYER_ADDRESS, 1) + mac
    message = struct.pack("!BBHI", NEIGHBOUR_ADVERTISEMENT, 0, 0, OVERRIDE) + address.packed + option
    checksum = icmpv6_checksum(address, ALL_NODES, message)
    message = message[:2] + struct.pack("!H", checksum) + message[4:]
    # Hop limit 255 proves to receivers that no router forwarded it.
    header = struct.pack("!IHBB", 6 << 28, len(message), IPPROTO_ICMPV6, 255)
    ethernet = ALL_NODES_MAC + mac + struct.pack("!H", ETH_P_IPV6)
    return ethernet + header + address.packed + ALL_NODES.packed + message


def icmpv6_checksum(source: IPv6Address, destination: IPv6Address, message: bytes) -> int:
    """RFC 4443, section 2.3: over the pseudo-header and the message with a checksum of zero."""
    return checksum.transport(source, destination, IPPROTO_ICMPV6, message)
