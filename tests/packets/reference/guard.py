# SPDX-License-Identifier: Apache-2.0
"""Who may not come at all, and how many new connections may. No time passes: buckets only empty."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from ipaddress import ip_address

from tests.packets.reference.frame import SCTP, TCP, UDP, Packet
from tests.packets.reference.state import Service
from xdpdirector.model.guard import Prefix


class Guard:
    """`counts`: packets dropped, by the denied prefix."""

    def __init__(self) -> None:
        self.counts: Counter[Prefix] = Counter()
        self._denied: frozenset[Prefix] = frozenset()
        self._opened: Counter[tuple[str, bytes]] = Counter()
        """Connections by service and source; the service as a whole is the source without address."""

    def deny(self, prefixes: Collection[Prefix]) -> None:
        self._denied = frozenset(prefixes)
        self.counts = Counter({prefix: self.counts[prefix] for prefix in self._denied})

    def denies(self, packet: Packet) -> bool:
        client = ip_address(packet.client)
        over = [prefix for prefix in self._denied if prefix.version == client.version and client in prefix]
        if over:
            self.counts[max(over, key=lambda prefix: prefix.prefixlen)] += 1
        return bool(over)

    def fill_buckets(self) -> None:
        self._opened.clear()

    def renew(self, service: str) -> None:
        """It has another limit."""
        self._opened = Counter({key: n for key, n in self._opened.items() if key[0] != service})

    def refuses(self, packet: Packet, service: Service) -> str | None:
        """For a packet of no known connection that is to be scheduled: which limit is reached. The source pays
        first."""
        limit = service.plan.limit
        if limit is None or not _opens(packet, service):
            return None
        if limit.per_source:
            source = limit.per_source
            bits = source.prefix6 if packet.is_ipv6 else source.prefix
            key = _prefix(packet.client, bits)
            if self._opened[service.plan.name, key] == source.burst:
                return "source"
            self._opened[service.plan.name, key] += 1
        if limit.rate:
            if self._opened[service.plan.name, b""] == limit.burst:
                return "service"
            self._opened[service.plan.name, b""] += 1
        return None


def _prefix(address: bytes, bits: int) -> bytes:
    size = 8 * len(address)
    return (int.from_bytes(address, "big") >> size - bits << size - bits).to_bytes(len(address), "big")


def _opens(packet: Packet, service: Service) -> bool:
    """TCP or SCTP that is scheduled gets a connection, even if it opens none. Of a ring nobody knows which
    datagram is a flow's first, unless clients are remembered, or each one is."""
    plan = service.plan
    if packet.protocol in (TCP, SCTP):
        return True
    if packet.protocol == UDP and plan.one_packet:
        return True
    return not plan.scheduler.is_ring or plan.persistence is not None
