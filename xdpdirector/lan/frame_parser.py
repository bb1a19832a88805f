# SPDX-License-Identifier: Apache-2.0
"""Parses frames: a claim to an address, or a response to a probe. Pure.

All other frames, and truncated ones, are ignored. The content may be false: anybody can send it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from struct import unpack_from
from typing import Literal, NamedTuple

from xdpdirector.lan.frame_builder import (
    ECHO_REQUEST,
    ECHO_REQUEST6,
    IPPROTO_ICMP,
    IPPROTO_TCP,
    RST,
    SYN,
)
from xdpdirector.model import Address
from xdpdirector.net.garp import (
    ETH_P_ARP,
    ETH_P_IP,
    ETH_P_IPV6,
    IPPROTO_ICMPV6,
    NEIGHBOUR_ADVERTISEMENT,
)

ARP_REPLY = 2
ECHO_REPLY, ECHO_REPLY6 = 0, 129
UNREACHABLE, UNREACHABLE6 = 3, 1
QUOTED_AT = 8  # offset of the quoted packet in an ICMP error
ACK = 0x10
SOLICITED, TARGET_LINK_LAYER_ADDRESS = 1 << 30, 2


class Manner(StrEnum):
    """How a machine claims an address."""

    ANSWER = "answer"
    ANNOUNCEMENT = "announcement"
    QUESTION = "question"
    """ARP request with the address as the sender: every host that receives it may update its cache
    (`arp_announce`)."""


class Claim(NamedTuple):
    """`mac`: the MAC claimed for the address, not the frame's sender."""

    address: Address
    mac: bytes
    manner: Manner


class Token(NamedTuple):
    """Identifies the probe: ident and sequence of an echo, or sequence number of a SYN."""

    kind: Literal["echo", "syn"]
    number: int


@dataclass(frozen=True)
class Return:
    """`reply`: from the probed address. `bounced`: the probe itself, forwarded by a machine that does not
    have the address. `refused`: an ICMP error about it."""

    token: Token
    kind: Literal["reply", "bounced", "refused"]
    sender: Address
    mac: bytes
    opened: bool = False
    """A SYN was accepted: the peer waits for an ACK that must not be sent."""


def echo_token(ident: int, sequence: int) -> Token:
    return Token("echo", ident << 16 | sequence)


def understand(frame: bytes) -> Claim | Return | None:
    """Parse a frame without VLAN tags, as a packet socket delivers it."""
    if len(frame) < 14:
        return None
    mac, (kind,) = frame[6:12], unpack_from("!H", frame, 12)
    if kind == ETH_P_ARP and len(frame) >= 42:
        return _arp(frame[:6], frame[14:42])
    if kind == ETH_P_IP and len(frame) >= 34:
        return _ipv4(mac, frame[14:])
    if kind == ETH_P_IPV6 and len(frame) >= 54:
        return _ipv6(mac, frame[14:])
    return None


def _arp(target_mac: bytes, packet: bytes) -> Claim | None:
    _, _, mac_length, length, operation = unpack_from("!HHBBH", packet)
    sender, target = IPv4Address(packet[14:18]), IPv4Address(packet[24:28])
    if (mac_length, length) != (6, 4) or not int(sender):
        return None
    if sender == target:
        manner = Manner.ANNOUNCEMENT
    elif operation == ARP_REPLY:
        manner = Manner.ANNOUNCEMENT if target_mac[0] & 1 else Manner.ANSWER
    else:
        manner = Manner.QUESTION
    return Claim(sender, packet[8:14], manner)


def _ipv4(mac: bytes, packet: bytes) -> Return | None:
    sender, message = IPv4Address(packet[12:16]), packet[(packet[0] & 0xF) * 4 :]
    if len(message) < 8:
        return None
    if packet[9] == IPPROTO_TCP:
        return _tcp(mac, sender, message)
    if packet[9] != IPPROTO_ICMP:
        return None
    kind, token = message[0], echo_token(*unpack_from("!HH", message, 4))
    if kind in (ECHO_REPLY, ECHO_REQUEST):
        return Return(token, "reply" if kind == ECHO_REPLY else "bounced", sender, mac)
    if kind == UNREACHABLE and len(quoted := message[QUOTED_AT:]) >= 28:
        return _refused(mac, sender, quoted[9], quoted[(quoted[0] & 0xF) * 4 :])
    return None


def _ipv6(mac: bytes, packet: bytes) -> Claim | Return | None:
    """Extension headers are not parsed: answers to our probes have none."""
    sender, message = IPv6Address(packet[8:24]), packet[40:]
    if len(message) < 8:
        return None
    if packet[6] == IPPROTO_TCP:
        return _tcp(mac, sender, message)
    if packet[6] != IPPROTO_ICMPV6:
        return None
    kind, token = message[0], echo_token(*unpack_from("!HH", message, 4))
    if kind == NEIGHBOUR_ADVERTISEMENT:
        return _advertisement(mac, message)
    if kind in (ECHO_REPLY6, ECHO_REQUEST6):
        return Return(token, "reply" if kind == ECHO_REPLY6 else "bounced", sender, mac)
    if kind == UNREACHABLE6 and len(quoted := message[QUOTED_AT:]) >= 48:
        return _refused(mac, sender, quoted[6], quoted[40:])
    return None


def _advertisement(mac: bytes, message: bytes) -> Claim | None:
    if len(message) < 24:
        return None
    (flags,) = unpack_from("!I", message, 4)
    if len(message) >= 32 and message[24:26] == bytes((TARGET_LINK_LAYER_ADDRESS, 1)):
        mac = message[26:32]
    manner = Manner.ANSWER if flags & SOLICITED else Manner.ANNOUNCEMENT
    return Claim(ip_address(message[8:24]), mac, manner)


def _tcp(mac: bytes, sender: Address, segment: bytes) -> Return | None:
    """RST or SYN-ACK: both acknowledge our sequence number."""
    if len(segment) < 20:
        return None
    acknowledged, flags = unpack_from("!I", segment, 8)[0], segment[13]
    if not flags & ACK or not flags & (SYN | RST):
        return None
    token = Token("syn", (acknowledged - 1) & 0xFFFFFFFF)
    return Return(token, "reply", sender, mac, opened=bool(flags & SYN))


def _refused(mac: bytes, sender: Address, protocol: int, quoted: bytes) -> Return | None:
    """`quoted`: the first bytes of our probe after its IP header; routers must quote 8 (RFC 792)."""
    if len(quoted) < 8:
        return None
    if protocol == IPPROTO_TCP:
        return Return(Token("syn", unpack_from("!I", quoted, 4)[0]), "refused", sender, mac)
    return Return(echo_token(*unpack_from("!HH", quoted, 4)), "refused", sender, mac)
