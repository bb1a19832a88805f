# SPDX-License-Identifier: Apache-2.0
"""This machine's own addresses, IPv4's first and IPv6's global ones, as its kernel tells them to all."""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from xdpdirector.model.listener import Address

_SIOCGIFADDR = 0x8915
_INET6 = Path("/proc/net/if_inet6")
_GLOBAL = "00"


def own_address(interfaces: Iterable[str], version: int, others: frozenset[Address]) -> Address | None:
    """The first of these interfaces' that is none of `others`; None when there is none."""
    found = _ipv6 if version == 6 else _ipv4
    return next((each for name in interfaces for each in found(name) if each not in others), None)


def _ipv4(interface: str) -> Iterator[Address]:
    """The primary one; the kernel tells no others this way."""
    request = struct.pack("16sH14s", interface.encode()[:15], socket.AF_INET, b"")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            answer = fcntl.ioctl(asking, _SIOCGIFADDR, request)
        except OSError:
            return
    yield IPv4Address(answer[20:24])


def _ipv6(interface: str) -> Iterator[Address]:
    try:
        lines = _INET6.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        address, _, _, scope, _, name = line.split()
        if name == interface and scope == _GLOBAL:
            yield IPv6Address(bytes.fromhex(address))
