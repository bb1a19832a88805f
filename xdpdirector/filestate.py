# SPDX-License-Identifier: Apache-2.0
"""How what the configuration file says and what was changed at run time become one. Pure.

Knows the model and revisions; nothing of files, storage or maps.
"""

from __future__ import annotations

from xdpdirector.edits import Services
from xdpdirector.errors import ConfigurationError
from xdpdirector.history import Revision
from xdpdirector.model import Configuration, ServiceSpec


def merge_file(
    stored: Revision | None, configuration: Configuration, file_digest: str
) -> dict[str, ServiceSpec]:
    """The services to want once the file is read: those of the file, and what was changed at run time since.

    While the file says what it said when it was taken in, the stored state wins: drains, weights and additions
    survive a restart. When it changed, its services are as it says, except that drain and maintenance of a backend
    stay unless the file states `admin`; services that a former file had and this one has not go; those made through
    the API stay. ConfigurationError when such a one has a listener of the file's.
    """
    if stored is None:
        return dict(configuration.services)
    if stored.file_digest == file_digest:
        return stored.services
    wanted = keep_admin(stored.services, configuration.services)
    made_by_api = {
        name: service
        for name, service in stored.services.items()
        if name not in wanted and name not in stored.file_services
    }
    _refuse_common_listeners(wanted, made_by_api)
    return wanted | made_by_api


def keep_admin(before: Services, after: Services) -> dict[str, ServiceSpec]:
    """`after`, with the admin state of `before` where `after` does not state one: a document written long before a
    backend was drained must not take it into service again."""
    return {name: _with_admin_of(before.get(name), service) for name, service in after.items()}


def _with_admin_of(before: ServiceSpec | None, service: ServiceSpec) -> ServiceSpec:
    if before is None:
        return service
    backends = {
        name: backend.model_copy(update={"admin": before.backends[name].admin})
        if name in before.backends and "admin" not in backend.model_fields_set
        else backend
        for name, backend in service.backends.items()
    }
    return service.model_copy(update={"backends": backends})


def _refuse_common_listeners(of_file: dict[str, ServiceSpec], of_api: dict[str, ServiceSpec]) -> None:
    owners = {listener: name for name, service in of_file.items() for listener in service.listeners}
    for name, service in of_api.items():
        for listener in service.listeners:
            if listener in owners:
                raise ConfigurationError(
                    f"listener {listener} belongs to service '{owners[listener]}' of the file and to service "
                    f"'{name}' that was made through the API: remove one of the two"
                )
