# SPDX-License-Identifier: Apache-2.0
"""What a replay takes for given, because no network is asked: who is up, and each backend's MAC address. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from xdpdirector.control.planner import BackendStatus, plan
from xdpdirector.dataplane.service_plan import ServicePlan
from xdpdirector.errors import InvalidRequestError
from xdpdirector.model import Address, Configuration, Key
from xdpdirector.model.status import Operational
from xdpdirector.net.mtu import ETHERNET_MTU
from xdpdirector.net.next_hop import Route

LOOPBACK = 1
_MAC = re.compile(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}")
DIRECTOR = bytes.fromhex("020000000001")
TUNNEL_SOURCES = {4: ip_address("192.0.0.8"), 6: ip_address("100::1")}
"""Of outer headers: addresses that are nobody's (RFC 7600, RFC 6666)."""
_LOCALLY_ADMINISTERED = b"\x02\x00", b"\x02\x06"  # and the address, or its last part


def made_up_mac(address: Address) -> bytes:
    """Of a backend that nobody asks: 192.0.2.21 gets 02:00:c0:00:02:15."""
    return _LOCALLY_ADMINISTERED[address.version == 6] + address.packed[-4:]


@dataclass(frozen=True)
class Premises:
    """`down`: backends whose check failed. `macs`: of backends, where they are known; `director`: the MAC that its
    frames are sent from. `own`: the MACs that frames for the director have; empty: any."""

    down: frozenset[Key] = frozenset()
    macs: Mapping[Address, bytes] = field(default_factory=dict)
    director: bytes = DIRECTOR
    own: tuple[bytes, ...] = ()

    def within(self, *configurations: Configuration) -> list[Premises]:
        """For each of these, what concerns it. InvalidRequestError for a backend that none of them has."""
        for key in self.down:
            if not any(_has(each, key) for each in configurations):
                _require(configurations[0], [key])
        return [
            replace(self, down=frozenset(key for key in self.down if _has(each, key)))
            for each in configurations
        ]

    def plans(self, configuration: Configuration) -> dict[str, ServicePlan]:
        """All services. InvalidRequestError when one that is down is not there."""
        _require(configuration, self.down)
        return {
            name: plan(
                name,
                spec,
                {key: self._standing((name, key), each.address) for key, each in spec.backends.items()},
            )
            for name, spec in configuration.services.items()
        }

    def _standing(self, key: Key, address: Address) -> BackendStatus:
        mac = self.macs.get(address) or made_up_mac(address)
        source = TUNNEL_SOURCES[address.version]
        route = Route("neighbour", mac, self.director, LOOPBACK, "lo", source=source, mtu=ETHERNET_MTU)
        is_down = key in self.down
        return BackendStatus(
            Operational.DOWN if is_down else Operational.UP,
            "down, as was asked for" if is_down else "",
            route,
        )


def backends_of(names: Collection[str]) -> frozenset[Key]:
    """From `service/backend`. InvalidRequestError."""
    keys = set()
    for name in names:
        service, slash, backend = name.partition("/")
        if not (service and slash and backend):
            raise InvalidRequestError(f"'{name}' names no backend: write SERVICE/BACKEND, like web/web1")
        keys.add((service, backend))
    return frozenset(keys)


def macs_of(texts: Collection[str]) -> tuple[bytes, ...]:
    """From `02:00:00:00:00:01`. InvalidRequestError."""
    found = []
    for text in texts:
        if not _MAC.fullmatch(text):
            raise InvalidRequestError(f"'{text}' is no MAC address: write six bytes, like 02:00:00:00:00:01")
        found.append(bytes.fromhex(text.replace(":", "").replace("-", "")))
    return tuple(found)


def _has(configuration: Configuration, key: Key) -> bool:
    service, backend = key
    return service in configuration.services and backend in configuration.services[service].backends


def _require(configuration: Configuration, keys: Collection[Key]) -> None:
    for key in sorted(keys):
        if not _has(configuration, key):
            raise InvalidRequestError(f"the configuration has no backend '{'/'.join(key)}'")
