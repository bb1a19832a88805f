# SPDX-License-Identifier: Apache-2.0
"""The desired state as it was last wanted, in SQLite: every change a revision with author, reason and time.

A revision holds all services, so that it can be read alone. It also remembers the configuration file that was taken
in last: its digest and the names of its services. Knows the model and SQL; must not know maps, health or the API.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import TypeAdapter, ValidationError

from xdpdirector.database import Database, Format, Row
from xdpdirector.errors import ConfigurationError, StoreError
from xdpdirector.model import Configuration, ServiceSpec

KEPT = 1000

_OR_START_ANEW = "or move the file away to start from the configuration file"
_FORMAT = Format(
    name="state database",
    application_id=0x58445044,  # "XDPD"
    migrations=[
        [
            """
            CREATE TABLE revisions (
                id INTEGER PRIMARY KEY,
                at TEXT NOT NULL,
                author TEXT NOT NULL,
                reason TEXT NOT NULL,
                document TEXT NOT NULL,
                file_digest TEXT,
                file_services TEXT NOT NULL
            )
            """
        ],
    ],
    anew=_OR_START_ANEW,
)
_COLUMNS = "id, at, author, reason, document, file_digest, file_services"
_SERVICES = TypeAdapter(dict[str, ServiceSpec])


@dataclass(frozen=True)
class Revision:
    """One state of the services. `file_digest` and `file_services` are of the file that was taken in last."""

    id: int
    at: datetime
    author: str
    reason: str
    services: dict[str, ServiceSpec]
    file_digest: str | None
    file_services: frozenset[str]


class Store:
    """The database at `path`, made when it is not there; one user at a time. StoreError says what to do.

    `patience` is how many seconds to wait for another process that uses it.
    """

    def __init__(self, path: Path, *, patience: float = 5.0) -> None:
        self._path = path
        self._db = Database(path, _FORMAT, patience=patience)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Can be called twice."""
        self._db.close()

    def latest(self) -> Revision | None:
        """The state that is wanted now; None as long as nothing was stored."""
        row = self._db.row(f"SELECT {_COLUMNS} FROM revisions ORDER BY id DESC LIMIT 1")
        return self._revision(row) if row else None

    def append(
        self,
        services: Mapping[str, ServiceSpec],
        *,
        author: str,
        reason: str,
        file_digest: str | None = None,
        file_services: Collection[str] = (),
    ) -> Revision:
        """Make this the wanted state; it is on the disk when this returns.

        A revision that takes in a file gives its digest and the names of the services in it; others leave both out,
        and the last file stays remembered.
        """
        now = datetime.now(UTC)
        document = json.dumps({"services": _SERVICES.dump_python(dict(services), mode="json")})
        with self._db.transaction():
            if file_digest is None:
                file_digest, before = self._last_file()
                file_services = before & services.keys()
            names = json.dumps(sorted(file_services))
            row = (now.isoformat(), author, reason, document, file_digest, names)
            number = self._db.write(
                "INSERT INTO revisions (at, author, reason, document, file_digest, file_services) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                row,
            )
            self._db.write("DELETE FROM revisions WHERE id <= ?", (number - KEPT,))
        return Revision(number, now, author, reason, dict(services), file_digest, frozenset(file_services))

    def _last_file(self) -> tuple[str | None, frozenset[str]]:
        row = self._db.row("SELECT file_digest, file_services FROM revisions ORDER BY id DESC LIMIT 1")
        return (row[0], frozenset(json.loads(row[1]))) if row else (None, frozenset())

    def _revision(self, row: Row) -> Revision:
        number, at, author, reason, document, digest, names = row
        try:
            services = _SERVICES.validate_python(json.loads(document)["services"])
            when, from_file = datetime.fromisoformat(at), frozenset(json.loads(names))
        except (ValidationError, ValueError, TypeError, KeyError) as error:
            raise StoreError(
                f"revision {number} in the state database {self._path} means nothing to this release: "
                f"install the one that wrote it, {_OR_START_ANEW}"
            ) from error
        return Revision(number, when, author, reason, services, digest, from_file)


def reconcile_with_file(
    store: Store, configuration: Configuration, file_digest: str
) -> dict[str, ServiceSpec]:
    """The services to want at a start: those of the file, and what was changed at run time since.

    While the file says what it said when it was taken in, the stored state wins: drains, weights and additions
    survive a restart. When it changed, its services are as it says, except that drain and maintenance of a backend
    stay unless the file states `admin`; services that a former file had and this one has not go; those made through
    the API stay. ConfigurationError when such a one has a listener of the file's. Writes nothing.
    """
    stored = store.latest()
    if stored is None:
        return dict(configuration.services)
    if stored.file_digest == file_digest:
        return stored.services
    wanted = {
        name: _with_admin_of(stored.services.get(name), service)
        for name, service in configuration.services.items()
    }
    made_by_api = {
        name: service
        for name, service in stored.services.items()
        if name not in wanted and name not in stored.file_services
    }
    _refuse_common_listeners(wanted, made_by_api)
    return wanted | made_by_api


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
