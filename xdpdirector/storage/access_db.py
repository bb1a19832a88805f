# SPDX-License-Identifier: Apache-2.0
"""access.db: the file of tokens and audit log. Knows its schema and when to open it, not its content.

It is opened when it is first needed, so that read access works without it.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from xdpdirector.errors import DamagedStoreError, StoreError
from xdpdirector.storage.database import Database, Format, set_aside

log = logging.getLogger(__name__)

KEPT = {"change": 100_000, "refusal": 10_000}
"""Rows of the audit by kind; refusals have a limit of their own, so that refused clients cannot push out the
rest."""

_TOKENS = """
CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    digest BLOB NOT NULL,
    created TEXT NOT NULL,
    expires TEXT,
    used TEXT
)
"""
_AUDIT = """
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    number INTEGER NOT NULL,
    at TEXT NOT NULL,
    author TEXT NOT NULL,
    role TEXT NOT NULL,
    source TEXT NOT NULL,
    operation TEXT NOT NULL,
    request TEXT NOT NULL,
    key TEXT,
    UNIQUE (kind, number)
)
"""
_OUTCOMES = """
CREATE TABLE outcomes (
    attempt INTEGER PRIMARY KEY REFERENCES audit (id),
    at TEXT NOT NULL,
    status INTEGER,
    revision INTEGER,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL
)
"""


def _forbid(name: str, event: str, table: str, condition: str = "TRUE") -> str:
    return (
        f"CREATE TRIGGER {name} BEFORE {event} ON {table} WHEN {condition} "
        "BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END"
    )


def _is_recent(kind: str) -> str:
    newest = f"(SELECT max(number) FROM audit WHERE kind = '{kind}')"
    return f"OLD.kind = '{kind}' AND OLD.number > {newest} - {KEPT[kind]}"


_APPEND_ONLY = [
    _forbid("audit_update", "UPDATE", "audit"),
    _forbid("outcomes_update", "UPDATE", "outcomes"),
    _forbid("audit_replace", "INSERT", "audit", "EXISTS (SELECT 1 FROM audit WHERE id = NEW.id)"),
    _forbid(
        "outcomes_replace",
        "INSERT",
        "outcomes",
        "EXISTS (SELECT 1 FROM outcomes WHERE attempt = NEW.attempt)",
    ),
    *(_forbid(f"audit_delete_{kind}", "DELETE", "audit", _is_recent(kind)) for kind in KEPT),
    _forbid("outcomes_delete", "DELETE", "outcomes", "EXISTS (SELECT 1 FROM audit WHERE id = OLD.attempt)"),
    "CREATE TRIGGER audit_pruned AFTER DELETE ON audit "
    "BEGIN DELETE FROM outcomes WHERE attempt = OLD.id; END",
]
FORMAT = Format(
    name="access database",
    application_id=0x58445041,  # "XDPA"
    migrations=[[_TOKENS, _AUDIT, _OUTCOMES, *_APPEND_ONLY]],
    anew="or move the file away to start without tokens",
)


class AccessFile:
    """`database` is the open file; StoreError, each time, as long as it cannot be opened.

    `keeps_damaged`: a file whose content is damaged is left where it is, and is an error. Else it is set aside, and
    a new one begins: without tokens, so that nobody is let in who was not before.
    """

    def __init__(self, path: Path, *, patience: float = 1.0, keeps_damaged: bool = True) -> None:
        self.path, self._patience, self._keeps_damaged = path, patience, keeps_damaged
        self.note = ""
        """What was done about a damaged file; empty when nothing was."""
        self._opening = threading.RLock()
        """Held while the file is opened or set aside: several threads use it."""
        self._database: Database | None = None

    @property
    def database(self) -> Database:
        return self.open()

    def open(self) -> Database:
        """Now, and not when it is first needed."""
        with self._opening:
            if self._database is not None and self._database.is_damaged and not self._keeps_damaged:
                self.close()
                self._set_aside()
            if self._database is None:
                self._database = self._opened()
            return self._database

    def _opened(self) -> Database:
        try:
            return Database(self.path, FORMAT, patience=self._patience)
        except DamagedStoreError:
            if self._keeps_damaged:
                raise
            self._set_aside()
            return Database(self.path, FORMAT, patience=self._patience)

    def _set_aside(self) -> None:
        try:
            aside = set_aside(self.path)
        except OSError as error:
            raise StoreError(
                f"the access database {self.path} is damaged, and cannot be renamed: {error.strerror}"
            ) from error
        self.note = (
            f"the access database {self.path} was damaged and is kept as {aside}: its tokens are not valid "
            "any more, add new ones with `xdpdirector token add`; its audit can be read in the file that is kept"
        )
        log.error("%s", self.note)

    def close(self) -> None:
        """It is opened again when it is needed again."""
        if self._database is not None:
            self._database.close()
            self._database = None
