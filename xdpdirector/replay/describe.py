# SPDX-License-Identifier: Apache-2.0
"""What a captured frame says of itself, for people, and for frames that a capture has only the beginning of. Pure.

Who gets a packet is never decided here: the packet program reads every frame itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

_ETHERNET, _TAG, _IPV4, _IPV6 = 14, 4, 20, 40
_TAGS = (b"\x81\x00", b"\x88\xa8")
_EXTENSIONS = frozenset({0, 43, 60})  # hop-by-hop, routing, destination options (RFC 8200, 4.1)
_FRAGMENT = 44
_MOST_EXTENSIONS = 8
_TCP, _UDP, _SCTP = 6, 17, 132
_ICMP = (1, 58)
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 51: "ah", 58: "icmp6", 132: "sctp"}
_READ = {
    _TCP: 20,
    _UDP: 8,
    _SCTP: 12 + 4 + 4,
    1: 8 + 20 + 8,
    58: 8 + 40 + 8,
}  # an ICMP error quotes a packet
_FLAGS = "FSRPAU"  # from the lowest bit on (RFC 9293, 3.1)
_CHUNKS = {
    0: "DATA",
    1: "INIT",
    2: "INIT_ACK",
    3: "SACK",
    4: "HEARTBEAT",
    5: "HEARTBEAT_ACK",
    6: "ABORT",
    7: "SHUTDOWN",
    8: "SHUTDOWN_ACK",
    9: "ERROR",
    10: "COOKIE_ECHO",
    11: "COOKIE_ACK",
    14: "SHUTDOWN_COMPLETE",
}  # RFC 9260, 3.2
_ETHERTYPES = {b"\x08\x06": "arp", b"\x88\xcc": "lldp"}


@dataclass(frozen=True, slots=True)
class Headers:
    """Of an IP packet. `transport`: where its header is in the frame; None in a fragment that has none."""

    network: int
    source: bytes
    destination: bytes
    protocol: int
    transport: int | None


Flow = tuple[bytes, bytes, int, bytes]
"""Client, VIP, protocol, ports."""


def headers_of(frame: bytes) -> Headers | None:
    """None for what is no IP packet, or too short to tell."""
    network = _ETHERNET
    while frame[network - 2 : network] in _TAGS:
        network += _TAG
    kind, first = frame[network - 2 : network], frame[network : network + 1]
    if kind == b"\x08\x00" and first and first[0] >> 4 == 4 and len(frame) >= network + _IPV4:
        begins = not int.from_bytes(frame[network + 6 : network + 8], "big") & 0x1FFF
        transport = network + (first[0] & 15) * 4 if begins else None
        source, destination = frame[network + 12 : network + 16], frame[network + 16 : network + 20]
        return Headers(network, source, destination, frame[network + 9], transport)
    if kind == b"\x86\xdd" and first and first[0] >> 4 == 6 and len(frame) >= network + _IPV6:
        protocol, transport = _behind_extensions(frame, frame[network + 6], network + _IPV6)
        source, destination = frame[network + 8 : network + 24], frame[network + 24 : network + 40]
        return Headers(network, source, destination, protocol, transport)
    return None


def _behind_extensions(frame: bytes, protocol: int, at: int) -> tuple[int, int | None]:
    for _ in range(_MOST_EXTENSIONS):
        if protocol not in _EXTENSIONS and protocol != _FRAGMENT:
            break
        extension = frame[at : at + 8]
        if len(extension) < 8:
            break
        if protocol == _FRAGMENT:
            if int.from_bytes(extension[2:4], "big") & 0xFFF8:
                return extension[0], None
            protocol, at = extension[0], at + 8
        else:
            protocol, at = extension[0], at + (extension[1] + 1) * 8
    return protocol, at


def flow_of(frame: bytes) -> Flow | None:
    """What the packets of one connection have in common; None without ports."""
    headers = headers_of(frame)
    if headers is None or headers.transport is None or headers.protocol not in (_TCP, _UDP, _SCTP):
        return None
    ports = frame[headers.transport : headers.transport + 4]
    return (headers.source, headers.destination, headers.protocol, ports) if len(ports) == 4 else None


def described(frame: bytes) -> str:
    """In a line: who to whom, TCP's flags, SCTP's first chunk; as `198.51.100.7:40000 > 192.0.2.10:80/tcp S`."""
    headers = headers_of(frame)
    if headers is None:
        kind = frame[12:14]
        return _ETHERTYPES.get(kind, f"ethertype 0x{kind.hex()}")
    name = _PROTOCOLS.get(headers.protocol, str(headers.protocol))
    client, vip = ip_address(headers.source), ip_address(headers.destination)
    if headers.transport is None:
        return f"{client} > {vip}/{name} fragment"
    segment = frame[headers.transport : headers.transport + 14]
    if headers.protocol not in (_TCP, _UDP, _SCTP) or len(segment) < 4:
        return f"{client} > {vip}/{name}{_kind(headers.protocol, segment)}"
    ports = int.from_bytes(segment[:2], "big"), int.from_bytes(segment[2:4], "big")
    return f"{_at(client, ports[0])} > {_at(vip, ports[1])}/{name}{_flags(headers.protocol, segment)}"


def _at(address: object, port: int) -> str:
    text = str(address)
    return f"[{text}]:{port}" if ":" in text else f"{text}:{port}"


def _flags(protocol: int, segment: bytes) -> str:
    if protocol == _SCTP and len(segment) > 12:
        return f" {_CHUNKS.get(segment[12], segment[12])}"
    if protocol != _TCP or len(segment) < 14:
        return ""
    return " " + ("".join(name for bit, name in enumerate(_FLAGS) if segment[13] >> bit & 1) or "-")


def _kind(protocol: int, segment: bytes) -> str:
    """ICMP's type and code."""
    return f" {segment[0]}/{segment[1]}" if protocol in _ICMP and len(segment) >= 2 else ""


def is_judgeable(captured: bytes, length: int) -> bool:
    """Whether of a frame of that length all is captured that the program may read."""
    if len(captured) < _ETHERNET:
        return False
    if len(captured) >= length:
        return True
    network = _ETHERNET
    while captured[network - 2 : network] in _TAGS:
        network += _TAG
    if captured[network - 2 : network] not in (b"\x08\x00", b"\x86\xdd"):
        return len(captured) >= network
    headers = headers_of(captured)
    if headers is None:
        return False
    if headers.transport is None:
        return True
    return len(captured) >= headers.transport + _READ.get(headers.protocol, 8)


def shortened(head: bytes, by: int) -> bytes:
    """The first bytes of a frame that loses its last `by` bytes: the lengths in its headers, and nothing else."""
    headers = headers_of(head)
    if headers is None:
        return head
    frame = bytearray(head)
    is_ipv4 = len(headers.source) == 4
    _subtract(frame, headers.network + (2 if is_ipv4 else 4), by)
    if headers.transport is not None and headers.protocol == _UDP:
        _subtract(frame, headers.transport + 4, by)
    elif headers.transport is not None and headers.protocol == _SCTP:
        _fit_chunk(frame, headers)
    return bytes(frame)


def _fit_chunk(frame: bytearray, headers: Headers) -> None:
    """The first chunk ends where the packet does."""
    assert headers.transport is not None
    is_ipv4, chunk = len(headers.source) == 4, headers.transport + 12
    at = headers.network + (2 if is_ipv4 else 4)
    end = headers.network + (0 if is_ipv4 else _IPV6) + int.from_bytes(frame[at : at + 2], "big")
    _subtract(frame, chunk + 2, max(0, chunk + int.from_bytes(frame[chunk + 2 : chunk + 4], "big") - end))


def _subtract(frame: bytearray, at: int, by: int) -> None:
    value = int.from_bytes(frame[at : at + 2], "big")
    if by <= value and at + 2 <= len(frame):
        frame[at : at + 2] = (value - by).to_bytes(2, "big")
