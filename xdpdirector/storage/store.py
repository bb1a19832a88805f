# SPDX-License-Identifier: Apache-2.0
"""The desired state in SQLite: every change is a revision with author, reason and time.

A revision has all services (`revision_documents` says how), and the digest and service names of the configuration
file that was merged last. The services of that file and the drains under way are stored beside the revisions. Knows
the model and SQL; must not know maps, health or the API.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from xdpdirector.errors import ForeignStoreError, StoreError
from xdpdirector.model import Key, ServiceSpec
from xdpdirector.model.checks import STORED
from xdpdirector.state import check_ports
from xdpdirector.state.drains import Drain
from xdpdirector.state.revisions import Revision, RevisionDraft, Summary
from xdpdirector.storage import revision_documents
from xdpdirector.storage.database import Database, Format, Row
from xdpdirector.storage.revision_documents import RevisionDocuments
from xdpdirector.system import boot_time
from xdpdirector.system.boot_time import Now, Stored

KEPT = 1000

_OR_START_ANEW = "or move the file away to start from the configuration file"
FORMAT = Format(
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
        [
            """
            CREATE TABLE drains (
                service TEXT NOT NULL,
                backend TEXT NOT NULL,
                since TEXT NOT NULL,
                reason TEXT NOT NULL,
                deadline TEXT,
                on_deadline TEXT NOT NULL,
                at_start INTEGER NOT NULL,
                PRIMARY KEY (service, backend)
            )
            """,
            """
            CREATE TABLE answers (
                id TEXT PRIMARY KEY,
                request TEXT NOT NULL,
                at REAL NOT NULL,
                status INTEGER NOT NULL,
                headers TEXT NOT NULL,
                body BLOB NOT NULL
            )
            """,
            "CREATE INDEX answers_at ON answers (at)",
        ],
        [
            """
            CREATE TABLE denied (
                prefix TEXT PRIMARY KEY,
                reason TEXT NOT NULL,
                author TEXT NOT NULL,
                since TEXT NOT NULL,
                from_file INTEGER NOT NULL
            )
            """,
            "CREATE TABLE denied_file (digest TEXT)",
            "INSERT INTO denied_file VALUES (NULL)",
        ],
        [
            "ALTER TABLE drains ADD COLUMN leaves INTEGER NOT NULL DEFAULT 0",
            "CREATE TABLE file (document TEXT)",
            "INSERT INTO file VALUES (NULL)",
        ],
        [
            "ALTER TABLE drains ADD COLUMN boot TEXT NOT NULL DEFAULT ''",
            "ALTER TABLE drains ADD COLUMN since_at REAL",
            "ALTER TABLE drains ADD COLUMN deadline_at REAL",
            "ALTER TABLE drains ADD COLUMN within REAL",
            # Whether the order of listeners is none of what a check without a port asks.
            "ALTER TABLE revisions ADD COLUMN any_order INTEGER NOT NULL DEFAULT 0",
        ],
        ["CREATE TABLE maintenance (author TEXT NOT NULL, reason TEXT NOT NULL, since TEXT NOT NULL)"],
        revision_documents.TABLES,
    ],
    anew=_OR_START_ANEW,
)
_COLUMNS = "id, at, author, reason, document, file_digest, file_services, any_order, base"
_SERVICES = TypeAdapter(dict[str, ServiceSpec])
_DRAIN = TypeAdapter(Drain)
_DRAIN_FIELDS = (
    *("since", "since_at", "reason", "deadline", "deadline_at", "within"),
    *("on_deadline", "at_start", "leaves", "boot"),
)


_SHARED_FROM = 5
"""How many migrations both kinds of file have in common: what a director alone has came later."""
MIRROR_FORMAT = Format(
    name="copy of the fleet's state",
    application_id=0x58445046,  # "XDPF"
    migrations=[
        [
            *FORMAT.migrations[0],
            "CREATE TABLE fleet (history TEXT NOT NULL)",
            "INSERT INTO fleet VALUES ('')",
        ],
        *FORMAT.migrations[1:_SHARED_FROM],
        [
            "CREATE TABLE shared_heads (name TEXT PRIMARY KEY, version INTEGER NOT NULL, write TEXT NOT NULL)",
            """
            CREATE TABLE shared_parts (
                name TEXT NOT NULL,
                number INTEGER NOT NULL,
                id TEXT NOT NULL,
                value BLOB NOT NULL,
                PRIMARY KEY (name, number)
            )
            """,
        ],
        revision_documents.TABLES,
    ],
    anew="or move the file away to fetch it again",
)


class Store:
    """The database at `path`, created when it does not exist; one process at a time. StoreError says what to do.

    `patience` is how many seconds to wait for another process that uses it. `xdpdirector.storage.fallback` copes
    with a file that cannot be used.
    """

    def __init__(self, path: Path, *, patience: float = 5.0, form: Format = FORMAT) -> None:
        self._path = path
        self.database = Database(path, form, patience=patience)
        self._documents = RevisionDocuments(self.database)
        self._latest: Revision | None = None
        self._named: tuple[Set[str], str] = frozenset(), "[]"
        """Names of services of the configuration file, and how they are stored."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Can be called twice."""
        self.database.close()

    # Reading

    def latest(self) -> Revision | None:
        """The newest revision; None as long as none was stored."""
        row = self.database.row("SELECT max(id) FROM revisions")
        number = row[0] if row else None
        if number is None:
            return None
        if self._latest is None or self._latest.id != number:
            self._latest = self.revision(number)
        return self._latest

    def revision(self, number: int) -> Revision | None:
        """None when there is no revision of that number, or it was deleted."""
        row = self.database.row(f"SELECT {_COLUMNS} FROM revisions WHERE id = ?", (number,))
        return self._revision(row) if row else None

    def summaries(self, *, before: int | None, limit: int) -> list[Summary]:
        """The newest first, at most `limit`, with numbers below `before`."""
        rows = self.database.rows(
            "SELECT id, at, author, reason FROM revisions WHERE ?1 IS NULL OR id < ?1 ORDER BY id DESC LIMIT ?2",
            (before, limit),
        )
        return [Summary(number, datetime.fromisoformat(at), *rest) for number, at, *rest in rows]

    def drains(self) -> dict[Key, Drain]:
        """The drains under way."""
        rows = self.database.rows(f"SELECT service, backend, {', '.join(_DRAIN_FIELDS)} FROM drains")
        now = boot_time.now()
        try:
            return {
                (service, backend): _drain(dict(zip(_DRAIN_FIELDS, values, strict=True)), now)
                for service, backend, *values in rows
            }
        except (ValidationError, ValueError, TypeError) as error:
            raise self._unknown("a drain") from error

    def file(self) -> dict[str, ServiceSpec] | None:
        """The services of the configuration file that was merged last, without defaults; None when an earlier
        release merged it."""
        (document,) = self.database.row("SELECT document FROM file") or (None,)
        if document is None:
            return None
        try:
            return _SERVICES.validate_python(json.loads(document), context=STORED)
        except ValueError as error:
            raise self._unknown("the configuration file that was taken in") from error

    # Writing

    def append(self, draft: RevisionDraft) -> Revision:
        """See `xdpdirector.state.revisions.History`."""
        return self.record(None, datetime.now(UTC), draft)

    def record(self, number: int | None, at: datetime, draft: RevisionDraft) -> Revision:
        """Store a revision that was made at that time; with a number, in the place of one that has it."""
        with self.database.transaction():
            if draft.file_digest is None:
                digest, before = self._last_file()
                named = before if before <= draft.services.keys() else before & draft.services.keys()
            else:
                digest, named = draft.file_digest, frozenset(draft.file_services or ())
                self._replace_file(draft.file_services or {})
            if named is not self._named[0]:
                self._named = named, json.dumps(sorted(named))
            written = self._documents.write(draft.services)
            said = (draft.author, draft.reason, written.document, digest, self._named[1], written.base)
            number = self.database.write(
                "REPLACE INTO revisions (id, at, author, reason, document, file_digest, file_services, base, "
                "any_order) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1)",
                (number, at.isoformat(), *said),
            )
            self.database.write("DELETE FROM revisions WHERE id <= ?", (number - KEPT,))
            if not self._documents.is_kept(written):
                self._documents.forget_unused()
            if draft.drains is not None:
                self._replace_drains(draft.drains)
        self._documents.keep(written)
        self._latest = Revision(number, at, draft.author, draft.reason, dict(draft.services), digest, named)
        return self._latest

    def note_file(self, digest: str, services: Mapping[str, ServiceSpec]) -> None:
        """Take this configuration file for the one that was merged last."""
        with self.database.transaction():
            self._replace_file(services)
            self.database.write(
                "UPDATE revisions SET file_digest = ?, file_services = ? "
                "WHERE id = (SELECT max(id) FROM revisions)",
                (digest, json.dumps(sorted(services))),
            )
        self._latest = None

    def keep_copy(self) -> Path:
        """A copy of the file as it is now, beside it; its path."""
        return self.database.copied("former")

    def forget_but(self, first: int, last: int) -> None:
        """Keep no revisions but these."""
        with self.database.transaction():
            self.database.write("DELETE FROM revisions WHERE id NOT BETWEEN ? AND ?", (first, last))
            self._documents.forget_unused()
        self._documents, self._latest = RevisionDocuments(self.database), None

    def fleet(self) -> str:
        """Of a copy: the history that its revisions are of; empty when it has none yet."""
        row = self.database.row("SELECT history FROM fleet")
        return str(row[0]) if row else ""

    def note_fleet(self, history: str) -> None:
        """Of a copy: its revisions are of that history."""
        with self.database.transaction():
            self.database.write("UPDATE fleet SET history = ?", (history,))

    def look(self) -> None:
        """StoreError when it is visible, without writing, that nothing can be stored."""
        self.database.look()

    def try_writing(self) -> None:
        """StoreError when nothing can be stored. Changes nothing."""
        with self.database.transaction():
            self.database.write("UPDATE revisions SET id = id WHERE id = (SELECT max(id) FROM revisions)")

    def _replace_drains(self, drains: Mapping[Key, Drain]) -> None:
        self.database.write("DELETE FROM drains")
        now, names = boot_time.now(), ("service", "backend", *_DRAIN_FIELDS)
        places = ", ".join("?" * len(names))
        for (service, backend), drain in drains.items():
            values = _drain_values(drain, now)
            self.database.write(
                f"INSERT INTO drains ({', '.join(names)}) VALUES ({places})",
                (service, backend, *(values[field] for field in _DRAIN_FIELDS)),
            )

    def _replace_file(self, services: Mapping[str, ServiceSpec]) -> None:
        stated = _SERVICES.dump_python(dict(services), mode="json", exclude_unset=True)
        self.database.write("UPDATE file SET document = ?", (json.dumps(stated),))

    def _last_file(self) -> tuple[str | None, frozenset[str]]:
        (newest,) = self.database.row("SELECT max(id) FROM revisions") or (None,)
        if self._latest is not None and self._latest.id == newest:
            return self._latest.file_digest, self._latest.file_services
        # Both stand behind the whole document, which SQLite reads for them.
        row = self.database.row("SELECT file_digest, file_services FROM revisions WHERE id = ?", (newest,))
        return (row[0], frozenset(json.loads(row[1]))) if row else (None, frozenset())

    def _revision(self, row: Row) -> Revision:
        number, at, author, reason, document, digest, names, any_order, base = row
        try:
            services = self._documents.read(document, base)
            if not any_order:
                services = {name: check_ports.of_first_listener(spec) for name, spec in services.items()}
            when, from_file = datetime.fromisoformat(at), frozenset(json.loads(names))
        except (ValidationError, ValueError, TypeError, KeyError) as error:
            raise self._unknown(f"revision {number}") from error
        return Revision(number, when, author, reason, services, digest, from_file)

    def _unknown(self, thing: str) -> StoreError:
        return ForeignStoreError(
            f"{thing} in the state database {self._path} cannot be read by this release: "
            f"install the one that wrote it, {_OR_START_ANEW}"
        )


def _drain_values(drain: Drain, now: Now) -> dict[str, str | float | None]:
    """By the columns."""
    since = boot_time.stored(drain.since, now)
    deadline = boot_time.stored(drain.deadline, now) if drain.deadline else None
    return {
        "since": since.wall.isoformat(),
        "since_at": since.at,
        "reason": drain.reason,
        "deadline": deadline.wall.isoformat() if deadline else None,
        "deadline_at": deadline.at if deadline else None,
        "within": drain.within,
        "on_deadline": drain.on_deadline,
        "at_start": drain.at_start,
        "leaves": int(drain.leaves),
        "boot": since.boot,
    }


def _drain(values: dict[str, Any], now: Now) -> Drain:
    """The other way round. It began now at the latest, and gets no more time than it was given."""
    boot, within = values.pop("boot"), values["within"]
    since = datetime.fromisoformat(values["since"])
    values["since"] = Stored(since, values.pop("since_at"), boot).restored(now, longest=0.0)
    at = values.pop("deadline_at")
    if values["deadline"] is not None:
        deadline = datetime.fromisoformat(values["deadline"])
        longest = max(0.0, (deadline - since).total_seconds()) if within is None else within
        values["deadline"] = Stored(deadline, at, boot).restored(now, longest=longest)
    return _DRAIN.validate_python(values)
