# SPDX-License-Identifier: Apache-2.0
"""Where a service listens: an address, ports, a protocol. Values and their written form; knows no services."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

Address = IPv4Address | IPv6Address


class Ports(NamedTuple):
    """A range of ports, both ends included."""

    first: int
    last: int

    def __str__(self) -> str:
        if self == ANY_PORT:
            return "*"
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


ANY_PORT = Ports(0, 65535)
WITH_PORTS = {"tcp": 6, "udp": 17, "sctp": 132}
WITHOUT_PORTS = {"esp": 50, "ah": 51, "gre": 47}
PROTOCOLS = {**WITH_PORTS, **WITHOUT_PORTS}
"""IP protocol numbers."""
LISTENER = (
    r"([0-9.]+|\[[0-9A-Fa-f:.]+\])"
    rf":((\*|[0-9]+(-[0-9]+)?)/({'|'.join(WITH_PORTS)})|\*/({'|'.join(WITHOUT_PORTS)}))"
)
"""What every listener looks like, for machines; `Listener.parse` knows better, and says it better."""


class Listener:
    """Address, ports and protocol, written `192.0.2.10:80/tcp`, `[2001:db8::10]:8000-8099/udp`, `192.0.2.10:*/tcp`.

    Protocols other than TCP, UDP and SCTP have no ports: `192.0.2.10:*/gre`. A value: hashable, ordered.
    """

    __slots__ = ("address", "ports", "protocol")
    _PATTERN = re.compile(r"(?:\[(?P<v6>[^\]]*)\]|(?P<v4>[^\[\]]*?)):(?P<ports>[^/:]*)/(?P<protocol>\w+)")

    def __init__(self, address: Address, ports: Ports, protocol: str) -> None:
        self.address, self.ports, self.protocol = address, ports, protocol

    @classmethod
    def parse(cls, text: object) -> Listener:
        """From its written form; ValueError says which part is wrong."""
        if isinstance(text, Listener):
            return text
        match = cls._PATTERN.fullmatch(str(text))
        if not match:
            raise ValueError(
                f"'{text}' is not a listener: write ADDRESS:PORT/PROTOCOL, "
                "for example 192.0.2.10:80/tcp or [2001:db8::10]:53/udp"
            )
        protocol = match["protocol"]
        if protocol not in PROTOCOLS:
            known = ", ".join(PROTOCOLS)
            raise ValueError(f"'{protocol}' in listener '{text}' is not a protocol: use one of {known}")
        ports = _parse_ports(match["ports"], str(text))
        if protocol in WITHOUT_PORTS and ports != ANY_PORT:
            raise ValueError(f"in listener '{text}': {protocol} has no ports: write ADDRESS:*/{protocol}")
        try:
            address = unicast_address(match["v4"] or match["v6"])
        except ValueError as error:
            raise ValueError(f"in listener '{text}': {error}") from error
        if (address.version == 6) != (match["v6"] is not None):
            raise ValueError(
                f"in listener '{text}': an IPv6 address, and only that, stands in square brackets"
            )
        return cls(address, ports, protocol)

    @property
    def is_exact(self) -> bool:
        """One port of TCP, UDP or SCTP."""
        return self.ports.first == self.ports.last

    @property
    def shows_connections(self) -> bool:
        """Whether its packets tell that they open or end a connection."""
        return self.protocol in ("tcp", "sctp")

    def overlaps(self, other: Listener) -> bool:
        """Whether a packet can be for both, and neither is inside the other: then nobody could say whose it is."""
        if (self.address, self.protocol) != (other.address, other.protocol):
            return False
        first, last = max(self.ports.first, other.ports.first), min(self.ports.last, other.ports.last)
        return first <= last and Ports(first, last) not in (self.ports, other.ports)

    def _key(self) -> tuple[int, bytes, Ports, str]:
        return (self.address.version, self.address.packed, self.ports, self.protocol)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Listener) and self._key() == other._key()

    def __lt__(self, other: Listener) -> bool:
        return self._key() < other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{host}:{self.ports}/{self.protocol}"

    def __repr__(self) -> str:
        return f"Listener({str(self)!r})"


def _parse_ports(text: str, listener: str) -> Ports:
    if text == "*":
        return ANY_PORT
    first, _, last = text.partition("-")
    numbers = [first, last or first] if "-" not in text or last else []
    if not numbers or not all(
        part.isascii() and part.isdigit() and 1 <= int(part) <= 65535 for part in numbers
    ):
        raise ValueError(f"port '{text}' in listener '{listener}' is out of range: use 1 to 65535, A-B, or *")
    ports = Ports(int(numbers[0]), int(numbers[1]))
    if ports.first > ports.last:
        raise ValueError(f"port range '{text}' in listener '{listener}' runs backwards")
    return ports


def unicast_address(value: object) -> Address:
    """An IPv4 or IPv6 address a host can have; ValueError for anything else."""
    return _checked(value if isinstance(value, IPv4Address | IPv6Address) else str(value))


@lru_cache(maxsize=1024)
def _checked(value: Address | str) -> Address:
    """Cached: many services have the same address, and share the object."""
    try:
        address = ip_address(value)
    except ValueError:
        raise ValueError(f"'{value}' is not an IPv4 or IPv6 address") from None
    if (
        address.is_multicast
        or address.is_unspecified
        or address.is_loopback
        or str(address) == "255.255.255.255"
    ):
        raise ValueError(f"{address} is not a unicast address on a network")
    if isinstance(address, IPv6Address) and (
        address.is_link_local or address.scope_id or address.ipv4_mapped
    ):
        raise ValueError(f"{address} is link-local, scoped or IPv4-mapped: use a plain routable address")
    return address
