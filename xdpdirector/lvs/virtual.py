# SPDX-License-Identifier: Apache-2.0
"""What IPVS knows: virtual services and their destinations, as plain values. Knows nothing of this director."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from typing import NamedTuple

from xdpdirector.model.listener import Address

NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132}
ANY4, ANY6 = ip_address("0.0.0.0"), ip_address("::")


class VirtualKey(NamedTuple):
    """What tells virtual services apart. With a firewall mark the protocol is empty, the port 0, and the address
    says the family only."""

    fwmark: int
    protocol: str
    address: Address
    port: int

    @property
    def is_ipv6(self) -> bool:
        return self.address.version == 6


class Counters(NamedTuple):
    """Of requests: answers never come through a director with direct routing."""

    connections: int = 0
    packets: int = 0
    bytes: int = 0

    def less(self, base: Counters) -> Counters:
        """Since `base` was read. Counters that are below it were counted anew meanwhile."""
        if self.connections < base.connections or self.packets < base.packets or self.bytes < base.bytes:
            return self
        return Counters(
            self.connections - base.connections, self.packets - base.packets, self.bytes - base.bytes
        )

    def plus(self, other: Counters) -> Counters:
        return Counters(
            self.connections + other.connections, self.packets + other.packets, self.bytes + other.bytes
        )


class Rates(NamedTuple):
    """A second."""

    connections: int = 0
    packets: int = 0
    bytes: int = 0


NOTHING, STILL = Counters(), Rates()


@dataclass(frozen=True)
class Destination:
    """A real server. `upper` and `lower` are thresholds, 0 without. `key`: service and backend here. `forward`:
    `direct`, `ipip` or `gue`, the latter to `tunnel_port`."""

    address: Address
    port: int
    weight: int = 1
    upper: int = 0
    lower: int = 0
    active: int = 0
    inactive: int = 0
    counters: Counters = NOTHING
    rates: Rates = STILL
    key: tuple[str, str] = ("", "")
    forward: str = "direct"
    tunnel_port: int = 0


@dataclass(frozen=True)
class Virtual:
    """A virtual service. `timeout` of persistence in seconds, 0 without; `mask` is a prefix length. `flags` are the
    scheduler's, by name. `name`: the service here."""

    key: VirtualKey
    scheduler: str = "wlc"
    timeout: int = 0
    mask: int = 32
    one_packet: bool = False
    flags: tuple[str, ...] = ()
    destinations: tuple[Destination, ...] = ()
    name: str = ""
    counters: Counters = NOTHING
    rates: Rates = STILL

    @property
    def netmask(self) -> str:
        """As ipvsadm writes it; empty when each client is by itself."""
        whole = 128 if self.key.is_ipv6 else 32
        if self.mask == whole:
            return ""
        if self.key.is_ipv6:
            return str(self.mask)
        return str(IPv4Address((0xFFFFFFFF << (32 - self.mask)) & 0xFFFFFFFF))
