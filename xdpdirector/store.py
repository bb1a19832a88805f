# SPDX-License-Identifier: Apache-2.0
"""The desired state as it was last wanted, in SQLite: every change a revision with author, reason and time.

A revision holds all services, so that it can be read alone. It also remembers the configuration file that was taken
in last: its digest and the names of its services. Knows the model and SQL; must not know maps, health or the API.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import TypeAdapter, ValidationError

from xdpdirector.errors import ConfigurationError, StoreError
from xdpdirector.model import Configuration, ServiceSpec

KEPT = 1000

_APPLICATION_ID = 0x58445044  # "XDPD"
_MIGRATIONS = [
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
    """,
]
_COLUMNS = "id, at, author, reason, document, file_digest, file_services"
_SERVICES = TypeAdapter(dict[str, ServiceSpec])
_REMEDIES = {
    "SQLITE_BUSY": "another process uses it: is a second daemon of this instance running?",
    "SQLITE_CANTOPEN": "it cannot be opened: look at the directory and its permissions",
    "SQLITE_FULL": "the disk is full: make room",
    "SQLITE_IOERR": "the disk fails: look at the kernel's log",
    "SQLITE_PERM": "this user may not use it: change its owner or mode",
    "SQLITE_READONLY": "this user may not write it: change its owner or mode, or the mount",
}
_OR_START_ANEW = "or move the file away to start from the configuration file"
_DAMAGED = f"it is damaged: restore it, {_OR_START_ANEW}"


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
        with self._explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._db = sqlite3.connect(path, timeout=patience, isolation_level=None, check_same_thread=False)
        try:
            with self._explained():
                self._prepare()
        except BaseException:
            self._db.close()
            raise

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
        with self._explained():
            row = self._db.execute(f"SELECT {_COLUMNS} FROM revisions ORDER BY id DESC LIMIT 1").fetchone()
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
        with self._explained(), self._transaction():
            if file_digest is None:
                file_digest, before = self._last_file()
                file_services = before & services.keys()
            names = json.dumps(sorted(file_services))
            row = (now.isoformat(), author, reason, document, file_digest, names)
            number = self._db.execute(
                "INSERT INTO revisions (at, author, reason, document, file_digest, file_services) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                row,
            ).lastrowid
            assert number is not None
            self._db.execute("DELETE FROM revisions WHERE id <= ?", (number - KEPT,))
        return Revision(number, now, author, reason, dict(services), file_digest, frozenset(file_services))

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        with self._transaction():
            self._migrate()

    def _migrate(self) -> None:
        version = self._number("PRAGMA user_version")
        if version > len(_MIGRATIONS):
            raise StoreError(
                f"the state database {self._path} was written by a newer release (format {version}, "
                f"this one knows {len(_MIGRATIONS)}): install that release, {_OR_START_ANEW}"
            )
        if self._number("PRAGMA application_id") != _APPLICATION_ID and self._number(
            "SELECT count(*) FROM sqlite_master"
        ):
            raise StoreError(f"{self._path} is a database of another program: move it away")
        for statement in _MIGRATIONS[version:]:
            self._db.execute(statement)
        self._db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        self._db.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")

    def _number(self, query: str) -> int:
        return int(self._db.execute(query).fetchone()[0])

    def _last_file(self) -> tuple[str | None, frozenset[str]]:
        row = self._db.execute(
            "SELECT file_digest, file_services FROM revisions ORDER BY id DESC LIMIT 1"
        ).fetchone()
        return (row[0], frozenset(json.loads(row[1]))) if row else (None, frozenset())

    def _revision(self, row: tuple[int, str, str, str, str, str | None, str]) -> Revision:
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

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            remedy = next((text for start, text in _REMEDIES.items() if name.startswith(start)), None)
            if remedy is None:
                remedy = _DAMAGED if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) else str(error)
            raise StoreError(f"the state database {self._path}: {remedy}") from error
        except OSError as error:
            raise StoreError(
                f"the state database {self._path} cannot be opened: {error.strerror}: "
                "look at the directory and its permissions"
            ) from error


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
