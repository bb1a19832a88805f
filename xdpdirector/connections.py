# SPDX-License-Identifier: Apache-2.0
"""The connection tables, read for people. Reads only; a sample, as the tables change while they are read."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from itertools import islice
from typing import Any, TypeAlias

import numpy as np

from xdpdirector.clock import Clock
from xdpdirector.errors import InvalidRequestError
from xdpdirector.indices import Backend, Indices
from xdpdirector.records import Records
from xdpdirector.sweep import idle_ticks
from xdpdirector.tables import PROTOCOLS, Array, Tables, address_of, address_words
from xdpdirector.views import ConnectionView

Network: TypeAlias = IPv4Network | IPv6Network


class Connections:
    """What stands in the table of one data plane."""

    def __init__(self, tables: Tables, records: Records, clock: Clock, indices: Indices) -> None:
        self._tables, self._records, self._clock, self._indices = tables, records, clock, indices

    def list(
        self,
        *,
        service: str | None,
        backend: str | None,
        client: str | None,
        limit: int,
        skip: int = 0,
    ) -> list[ConnectionView]:
        """At most `limit` connections that match, without the first `skip` of them: they come in the table's order.
        `client`: an address or a prefix; InvalidRequestError if not."""
        try:
            clients = ip_network(client, strict=False) if client else None
        except ValueError as error:
            raise InvalidRequestError(f"'{client}' is no address and no prefix", pointer="/client") from error
        return [*islice(self._like(service, backend, clients, skip), limit)]

    def _like(
        self, service: str | None, backend: str | None, clients: Network | None, skip: int
    ) -> Iterator[ConnectionView]:
        services = {index: name for name, index in self._indices.services.items()}
        backends = {index: key for key, index in self._indices.backends.items()}
        now = self._clock.now()
        ours = [index for index, label in services.items() if service in (None, label)]
        theirs = [index for index, key in backends.items() if backend in (None, key[1])]
        for rows in self._records.read():
            # Whole columns are compared, as there may be millions of rows.
            chosen = np.isin(rows["service"], ours)
            if backend is not None:
                chosen &= np.isin(rows["backend"], theirs) & self._of_present(rows)
            if clients is not None:
                chosen &= _from(rows["client"], clients)
            rows = rows[chosen]
            rows, skip = rows[skip:], max(0, skip - len(rows))
            idle = np.maximum(idle_ticks(self._tables, rows["seen"], now), 0) * self._tick
            for row, seconds in zip(rows, idle, strict=True):
                owner = self._backend(row, backends)
                yield self._view(row, services[int(row["service"])], owner, float(seconds))

    @property
    def _tick(self) -> float:
        """Seconds."""
        return (1 << self._tables.enums["tick_numbers"]["TICK_SHIFT"]) / self._clock.hz

    def _of_present(self, rows: Any) -> Any:
        """Whether a record is of the backend that has that index now, and of no earlier one."""
        return self._tables.backends["generation"][rows["backend"]] & 0xFF == rows["generation"]

    def _backend(self, row: Any, backends: dict[int, Backend]) -> str | None:
        index = int(row["backend"])
        return backends[index][1] if index in backends and self._of_present(row) else None

    def _view(self, row: Any, service: str, backend: str | None, idle: float) -> ConnectionView:
        states = {number: name for name, number in self._tables.enums["connection_state"].items()}
        protocols = {number: name for name, number in PROTOCOLS.items()}
        front = self._tables.fronts[int(row["front"])]
        return ConnectionView(
            service=service,
            backend=backend,
            client=address_of(row["client"]),
            client_port=int.from_bytes(row["client_port"].tobytes(), "big"),
            vip=address_of(front["address"] if front["ipv6"] else front["address"][0]),
            port=int.from_bytes(row["port"].tobytes(), "big"),
            protocol=protocols.get(int(front["protocol"]), str(front["protocol"])),
            state=states[int(row["state"])].removeprefix("CONNECTION_").lower(),
            idle=round(idle, 3),
        )


def _from(clients: Array, network: Network) -> Array:
    """Where an address is one of the network's; of the other version none is."""
    words = clients.reshape(len(clients), -1)
    if words.shape[1] * 32 != network.max_prefixlen:
        return np.zeros(len(clients), bool)
    mask = np.array(address_words(network.netmask), np.uint32)
    inside: Array = ((words & mask) == np.array(address_words(network.network_address), np.uint32)).all(
        axis=1
    )
    return inside
