# SPDX-License-Identifier: Apache-2.0
"""Lists connections for API and CLI. Reads only. Not a consistent snapshot: the tables change while they are
read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from xdpdirector.dataplane.conntrack import Records
from xdpdirector.dataplane.conntrack_gc import idle_ticks
from xdpdirector.dataplane.ids import Backend, Indices
from xdpdirector.dataplane.jiffies import Clock
from xdpdirector.dataplane.maps import (
    Array,
    Tables,
    address_of,
    address_words,
)
from xdpdirector.errors import InvalidRequestError
from xdpdirector.model.connection_query import ConnectionQuery
from xdpdirector.model.listener import PROTOCOLS
from xdpdirector.model.status import ConnectionPage, ConnectionView

Network: TypeAlias = IPv4Network | IPv6Network

SHOWN = {"midstream": "established", "datagram": "udp", "reopened": "syn"}
RANKS = re.compile("^(used|assured)_")
"""Prefixes of state names that matter to the packet path only; they are not shown."""


class _Wanted(NamedTuple):
    """Filter: service index, backend name, client network; None matches any."""

    service: str | None
    backend: str | None
    clients: Network | None


class _Names(NamedTuple):
    """Names of services and backends by index."""

    services: dict[int, str]
    backends: dict[int, Backend]


MOST_BUCKETS = 1 << 18
"""Buckets that one page reads at most. With a filter that few connections match, a page can be shorter than
`limit` without being the last."""


class Connections:
    """Lists the connections of one data plane."""

    def __init__(self, tables: Tables, records: Records, clock: Clock, indices: Indices) -> None:
        self._tables, self._records, self._clock, self._indices = tables, records, clock, indices

    def reader(self, query: ConnectionQuery) -> Callable[[], ConnectionPage]:
        """See `xdpdirector.dataplane.interface.Plane.connections`. InvalidRequestError: the client is neither an
        address nor a prefix."""
        try:
            clients = ip_network(query.client, strict=False) if query.client else None
        except ValueError as error:
            raise InvalidRequestError(
                f"'{query.client}' is neither an address nor a prefix", pointer="/client"
            ) from error
        wanted = _Wanted(query.service, query.backend, clients)
        services, backends = dict(self._indices.services), dict(self._indices.backends)

        def read() -> ConnectionPage:
            names = _Names(
                {index: name for name, index in services.items()},
                {index: key for key, index in backends.items()},
            )
            return self._page(wanted, names, query.limit, query.place)

        return read

    def _page(self, wanted: _Wanted, names: _Names, limit: int, place: int) -> ConnectionPage:
        """One page. Places number the entries consecutively: those of the first bucket, then of the second,
        and so on."""
        ours = [index for index, name in names.services.items() if wanted.service in (None, name)]
        theirs = [index for index, key in names.backends.items() if wanted.backend in (None, key[1])]
        found: list[ConnectionView] = []
        ways, now = self._records.ways, self._clock.now()
        bucket: int | None = place // ways
        first = bucket
        while bucket is not None and bucket - (first or 0) < MOST_BUCKETS:
            stretch = self._records.from_bucket(bucket)
            rows = stretch.rows
            # Compare whole columns: there can be thousands of rows.
            chosen = np.isin(rows["service"], ours)
            if wanted.backend is not None:
                chosen &= np.isin(rows["backend"], theirs) & self._of_present(rows)
            if wanted.clients is not None:
                chosen &= _from(rows["client"], wanted.clients)
            places = rows["place"].astype(np.int64) * ways + rows["entry"]
            rows, places = rows[chosen & (places >= place)], places[chosen & (places >= place)]
            room = limit - len(found)
            found += self._views(rows[:room], names, now)
            if len(rows) > room:
                return ConnectionPage(tuple(found), int(places[room]))
            bucket = stretch.next
        return ConnectionPage(tuple(found), None if bucket is None else bucket * ways)

    def _views(self, rows: Array, names: _Names, now: int) -> list[ConnectionView]:
        idle = np.maximum(idle_ticks(self._tables, rows["seen"], now), 0) * self._tick
        return [
            self._view(row, names.services[int(row["service"])], self._backend(row, names), float(seconds))
            for row, seconds in zip(rows, idle, strict=True)
        ]

    @property
    def _tick(self) -> float:
        """Length of a tick in seconds."""
        return (1 << self._tables.enums["tick_numbers"]["TICK_SHIFT"]) / self._clock.hz

    def _of_present(self, rows: Any) -> Any:
        """True for records of the backend that has the index now, not of an earlier one."""
        return self._tables.backends["generation"][rows["backend"]] & 0xFF == rows["generation"]

    def _backend(self, row: Any, names: _Names) -> str | None:
        index = int(row["backend"])
        return names.backends[index][1] if index in names.backends and self._of_present(row) else None

    def _view(self, row: Any, service: str, backend: str | None, idle: float) -> ConnectionView:
        states = {
            number: RANKS.sub("", name.removeprefix("CONNECTION_").lower())
            for name, number in self._tables.enums["connection_state"].items()
        }
        protocols = {number: name for name, number in PROTOCOLS.items()}
        number = int(row["front"])
        front = self._tables.fronts[number : number + 1][0]
        return ConnectionView(
            service=service,
            backend=backend,
            client=address_of(row["client"]),
            client_port=int.from_bytes(row["client_port"].tobytes(), "big"),
            vip=address_of(front["address"] if front["ipv6"] else front["address"][0]),
            port=int.from_bytes(row["port"].tobytes(), "big"),
            protocol=protocols.get(int(front["protocol"]), str(front["protocol"])),
            state=SHOWN.get(states[int(row["state"])], states[int(row["state"])]),
            idle=round(idle, 3),
        )


def _from(clients: Array, network: Network) -> Array:
    """True for client addresses within the network; always false for the other IP version."""
    words = clients if clients.ndim == 2 else clients[:, np.newaxis]
    if words.shape[1] * 32 != network.max_prefixlen:
        return np.zeros(len(clients), bool)
    mask = np.array(address_words(network.netmask), np.uint32)
    inside: Array = ((words & mask) == np.array(address_words(network.network_address), np.uint32)).all(
        axis=1
    )
    return inside
