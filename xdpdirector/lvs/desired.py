# SPDX-License-Identifier: Apache-2.0
"""Where ipvsadm's changes go: to the daemon one by one, or into a draft that becomes the configuration at once."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Protocol

from xdpdirector.client import Client, backend_path, service_path
from xdpdirector.lvs.documents import Document, without_nulls

CONFIG = "/v1/config"
REASON = {"change-reason": "ipvsadm"}
PATIENCE = 300.0
"""Seconds: a large configuration takes its time to reach the maps."""


class Desired(Protocol):
    """The services that are wanted, as the configuration file has them, and changes of them. A field that is null
    takes its default."""

    @property
    def services(self) -> Mapping[str, Document]: ...

    @property
    def rest(self) -> Document:
        """What the configuration says beside services."""
        ...

    def create(self, service: str, fields: dict[str, Any]) -> None: ...

    def change(self, service: str, fields: dict[str, Any]) -> None: ...

    def remove(self, service: str) -> None: ...

    def create_backend(self, service: str, backend: str, fields: dict[str, Any]) -> None: ...

    def change_backend(self, service: str, backend: str, fields: dict[str, Any]) -> None: ...

    def remove_backend(self, service: str, backend: str) -> None: ...

    def clear(self) -> None: ...


class Draft:
    """Changes of a configuration that nobody has seen yet."""

    def __init__(self, configuration: Document) -> None:
        self._configuration: dict[str, Any] = deepcopy(dict(configuration))
        self._configuration.setdefault("services", {})

    @property
    def document(self) -> Document:
        return self._configuration

    @property
    def services(self) -> dict[str, Any]:
        found: dict[str, Any] = self._configuration["services"]
        return found

    @property
    def rest(self) -> Document:
        return self._configuration

    def create(self, service: str, fields: dict[str, Any]) -> None:
        self.services[service] = {**without_nulls(fields), "backends": {}}

    def change(self, service: str, fields: dict[str, Any]) -> None:
        _lay(self.services[service], fields)

    def remove(self, service: str) -> None:
        del self.services[service]

    def create_backend(self, service: str, backend: str, fields: dict[str, Any]) -> None:
        self.services[service].setdefault("backends", {})[backend] = without_nulls(fields)

    def change_backend(self, service: str, backend: str, fields: dict[str, Any]) -> None:
        _lay(self.services[service]["backends"][backend], fields)

    def remove_backend(self, service: str, backend: str) -> None:
        del self.services[service]["backends"][backend]

    def clear(self) -> None:
        self.services.clear()


class Live:
    """The daemon's. Each change is asked for at once; the daemon judges it, and returns when the maps hold it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._draft = Draft(client.get(CONFIG))

    @property
    def services(self) -> Mapping[str, Document]:
        return self._draft.services

    @property
    def rest(self) -> Document:
        return self._draft.rest

    def create(self, service: str, fields: dict[str, Any]) -> None:
        body = {"name": service, **without_nulls(fields)}
        self._client.post("/v1/services", body, headers=REASON)
        self._draft.create(service, fields)

    def change(self, service: str, fields: dict[str, Any]) -> None:
        self._client.patch(service_path(service), fields)
        self._draft.change(service, fields)

    def remove(self, service: str) -> None:
        self._client.delete(service_path(service))
        self._draft.remove(service)

    def create_backend(self, service: str, backend: str, fields: dict[str, Any]) -> None:
        body = {"name": backend, **without_nulls(fields)}
        self._client.post(f"{service_path(service)}/backends", body, headers=REASON)
        self._draft.create_backend(service, backend, fields)

    def change_backend(self, service: str, backend: str, fields: dict[str, Any]) -> None:
        self._client.patch(backend_path(service, backend), fields)
        self._draft.change_backend(service, backend, fields)

    def remove_backend(self, service: str, backend: str) -> None:
        self._client.delete(backend_path(service, backend), {"force": "true"})
        self._draft.remove_backend(service, backend)

    def clear(self) -> None:
        self._draft.clear()
        put(self._client, self._draft.document)


def put(client: Client, configuration: Document) -> None:
    """Make it all that is wanted."""
    client.put(CONFIG, configuration, headers=REASON, timeout=PATIENCE)


def _lay(base: dict[str, Any], over: Mapping[str, Any]) -> None:
    """A merge patch (RFC 7396)."""
    for key, value in over.items():
        if value is None:
            base.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(base.get(key), dict):
            _lay(base[key], value)
        else:
            base[key] = without_nulls(value)
