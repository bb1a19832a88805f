# SPDX-License-Identifier: Apache-2.0
"""Hosts and ports as ipvsadm reads and writes them: by number, or by the names that this machine knows."""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple, Protocol

from xdpdirector.model.listener import Address

_NUMBER = re.compile(r"[ \t\n\v\f\r]*[+-]?[0-9]+")


class Names(Protocol):
    """What the machine's name services know; None for what they do not."""

    def address(self, host: str) -> str | None: ...

    def host(self, address: str) -> str | None: ...

    def port(self, service: str, protocol: str) -> int | None: ...

    def service(self, port: int, protocol: str) -> str | None: ...


class SystemNames:
    """Names by the C library. SCTP's are asked for as such."""

    def address(self, host: str) -> str | None:
        try:
            return socket.gethostbyname(host)
        except (OSError, UnicodeError):
            return None

    def host(self, address: str) -> str | None:
        try:
            return socket.gethostbyaddr(address)[0]
        except (OSError, UnicodeError):
            return None

    def port(self, service: str, protocol: str) -> int | None:
        try:
            return socket.getservbyname(service, protocol)
        except OSError:
            return None

    def service(self, port: int, protocol: str) -> str | None:
        try:
            return socket.getservbyport(port, protocol) if protocol else None
        except OSError:
            return None


class Place(NamedTuple):
    """`port` is None where none was said."""

    address: Address
    port: int | None


def number(text: str, least: int, most: int) -> int | None:
    """As strtol(3) takes it, and within bounds; else None."""
    if not _NUMBER.fullmatch(text):
        return None
    value = int(text)
    return value if least <= value <= most else None


def place(text: str, protocol: str, names: Names) -> Place | None:
    """`HOST`, `HOST:PORT`, `[IPV6]:PORT` or `IPV6`; None for what is none of it, as digits alone."""
    if all(sign in "0123456789" for sign in text):
        return None
    port: str | None = None
    if text.startswith("["):
        text, bracket, behind = text[1:].partition("]")
        if not bracket or not behind.startswith(":"):
            return None
        port = behind[1:]
    address: Address | None = _ipv6(text)
    if address is None:
        host, colon, rest = text.rpartition(":")
        text, port = (host, rest) if colon else (text, None)
        address = _ipv4(text, names)
    if address is None:
        return None
    if port is None:
        return Place(address, None)
    known = number(port, 0, 65535)
    known = names.port(port, protocol) if known is None else known
    return None if known is None else Place(address, known)


def written(address: Address, port: int, protocol: str, names: Names | None) -> str:
    """An address with its port, by name unless `names` is None."""
    host = (names and names.host(str(address))) or str(address)
    service = (names and names.service(port, protocol)) or str(port)
    whole = f"[{host}]:{service}" if address.version == 6 else f"{host}:{service}"
    return whole[:59]


def _ipv6(text: str) -> IPv6Address | None:
    try:
        return IPv6Address(socket.inet_pton(socket.AF_INET6, text))
    except (OSError, ValueError, UnicodeError):
        return None


def _ipv4(text: str, names: Names) -> IPv4Address | None:
    try:
        return IPv4Address(socket.inet_aton(text))
    except (OSError, ValueError, UnicodeError):
        found = names.address(text)
    address = ip_address(found) if found else None
    return address if isinstance(address, IPv4Address) else None


def netmask(text: str, names: Names) -> IPv4Address | None:
    """An IPv4 netmask, in any form that an address has."""
    return _ipv4(text, names)
