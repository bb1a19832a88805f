# SPDX-License-Identifier: Apache-2.0
"""The connection tables, read for people. Reads only; a sample, as the tables change while they are read."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

from xdpdirector.errors import InvalidRequestError
from xdpdirector.indices import Backend, Indices
from xdpdirector.sweep import TABLES
from xdpdirector.tables import PROTOCOLS, Clock, Tables, address_of
from xdpdirector.views import ConnectionView


class Connections:
    """What stands in the tables of one data plane."""

    def __init__(self, tables: Tables, clock: Clock, indices: Indices) -> None:
        self._tables, self._clock, self._indices = tables, clock, indices

    def list(
        self, *, service: str | None, backend: str | None, client: str | None, limit: int
    ) -> list[ConnectionView]:
        """At most `limit` connections that match. `client`: an address or a prefix; InvalidRequestError if not."""
        try:
            clients = ip_network(client, strict=False) if client else None
        except ValueError as error:
            raise InvalidRequestError(f"'{client}' is no address and no prefix", pointer="/client") from error
        found: list[ConnectionView] = []
        for view in self._all():
            if len(found) >= limit:
                break
            if (
                (service is None or view.service == service)
                and (backend is None or view.backend == backend)
                and (clients is None or view.client in clients)
            ):
                found.append(view)
        return found

    def _all(self) -> Iterator[ConnectionView]:
        services = {index: name for name, index in self._indices.services.items()}
        backends = {index: key for key, index in self._indices.backends.items()}
        now = self._clock.now()
        for name in TABLES:
            for keys, values in self._tables.read(name):
                for key, value in zip(keys, values, strict=True):
                    owner = services.get(int(value["service"]))
                    if owner is not None:
                        yield self._view(key, value, owner, self._backend(value, backends), now)

    def _backend(self, value: Any, backends: dict[int, Backend]) -> str | None:
        """None for a record of an earlier backend of that index."""
        index = int(value["backend"])
        same = int(self._tables.backends[index]["generation"]) == int(value["generation"])
        return backends[index][1] if same and index in backends else None

    def _view(self, key: Any, value: Any, service: str, backend: str | None, now: int) -> ConnectionView:
        states = {number: name for name, number in self._tables.enums["connection_state"].items()}
        protocols = {number: name for name, number in PROTOCOLS.items()}
        idle = max(0, ((now - int(value["seen"]) + (1 << 31)) & 0xFFFFFFFF) - (1 << 31))
        return ConnectionView(
            service=service,
            backend=backend,
            client=address_of(key["client"]),
            client_port=int.from_bytes(key["client_port"].tobytes(), "big"),
            vip=address_of(key["vip"]),
            port=int.from_bytes(key["port"].tobytes(), "big"),
            protocol=protocols.get(int(key["protocol"]), str(key["protocol"])),
            state=states[int(value["state"])].removeprefix("CONNECTION_").lower(),
            idle=round(idle / self._clock.hz, 3),
        )
