# SPDX-License-Identifier: Apache-2.0
"""What VIP and port, firewall mark and real server of an LVS director are here, and the other way round.

Knows services as they are configured, and their numbers; no datagrams, no tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from xdpdirector.model import ServiceSpec
from xdpdirector.model.listener import ANY_PORT, PROTOCOLS, WITHOUT_PORTS, Address, Listener
from xdpdirector.sync.names import Names

Fwmarks = Mapping[str, tuple[Listener, ...]]
PORTLESS = frozenset(WITHOUT_PORTS.values())
FTP = 21


def address_of(packed: bytes) -> Address:
    return IPv6Address(packed) if len(packed) == 16 else IPv4Address(packed)


@dataclass(frozen=True)
class Home:
    """A service here: its number, its configuration, and its backends' numbers by packed address."""

    name: str
    number: int
    spec: ServiceSpec
    backends: Mapping[bytes, int]


class Places:
    """Made anew when services or their numbers change."""

    def __init__(self, services: Mapping[str, ServiceSpec], fwmarks: Fwmarks, names: Names) -> None:
        numbers = {name: number for number, name in names.services.items()}
        indices = {key: index for index, key in names.backends.items()}
        self._fronts = {name: number for number, name in names.fronts.items()}
        self._exact: dict[tuple[bytes, int, int], Home] = {}
        self._ranges: dict[tuple[bytes, int], list[tuple[Listener, Home]]] = {}
        self._marks: dict[int, Home] = {}
        self.mark_of: dict[Listener, int] = {}
        self.backends: dict[int, Address] = {}
        """By number."""
        self.homes: dict[int, Home] = {}
        """By number."""
        owners: dict[Listener, Home] = {}
        for name, spec in services.items():
            if name not in numbers:
                continue
            found = {
                backend.address.packed: indices[name, each]
                for each, backend in spec.backends.items()
                if (name, each) in indices
            }
            home = Home(name, numbers[name], spec, found)
            self.homes[home.number] = home
            for listener in spec.listeners:
                owners[listener] = home
                self._add(listener, home)
            for each, backend in spec.backends.items():
                if (name, each) in indices:
                    self.backends[indices[name, each]] = backend.address
        for ranges in self._ranges.values():
            ranges.sort(key=lambda each: each[0].ports.last - each[0].ports.first)
        for mark, listeners in fwmarks.items():
            for listener in listeners:
                self.mark_of[listener] = int(mark)
                if listener in owners:
                    self._marks.setdefault(int(mark), owners[listener])

    def _add(self, listener: Listener, home: Home) -> None:
        vip, protocol = listener.address.packed, PROTOCOLS[listener.protocol]
        if listener.is_exact:
            self._exact[vip, protocol, listener.ports.first] = home
        else:
            self._ranges.setdefault((vip, protocol), []).append((listener, home))

    def home(self, vip: bytes, protocol: int, port: int) -> Home | None:
        """Whose packets to this VIP and port are."""
        found = self._exact.get((vip, protocol, port))
        if found is None:
            ranges = self._ranges.get((vip, protocol), ())
            found = next((home for each, home in ranges if each.ports.first <= port <= each.ports.last), None)
        return found

    def persistent_home(self, vip: bytes, protocol: int, port: int) -> Home | None:
        """Whose template this is. Port 0 is that of a service with any port, and of an FTP service."""
        if port:
            return self.home(vip, protocol, port)
        ranges = self._ranges.get((vip, protocol), ())
        whole = next((home for each, home in ranges if each.ports == ANY_PORT), None)
        return whole or self._exact.get((vip, protocol, FTP))

    def marked_home(self, mark: int) -> Home | None:
        """Whose listeners a firewall mark stands for."""
        return self._marks.get(mark)

    def front(self, home: Home, vip: bytes, protocol: int) -> int:
        """The number of service, VIP and protocol; 0 when there is none."""
        return self._fronts.get((home.name, str(address_of(vip)), protocol), 0)
