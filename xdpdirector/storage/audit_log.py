# SPDX-License-Identifier: Apache-2.0
"""The audit log: who tried to change what, and the outcome. Rows are only added; the oldest are pruned.

An attempt is stored before the change, its outcome after it: an attempt without outcome was cut short by the end of
the daemon. Triggers in the file forbid every other change of a row. Knows no HTTP and no services.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from xdpdirector.errors import StoreError
from xdpdirector.model.fields import Frozen
from xdpdirector.state.revisions import Summary
from xdpdirector.storage.access_db import KEPT, AccessFile
from xdpdirector.storage.database import Row

LONGEST = {"request": 500, "key": 100, "reason": 500, "detail": 500, "author": 100, "source": 100}
DAEMON = "daemon"
_REFUSED = (401, 403)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """Who tries what. `request` is method and path, `key` the client's Idempotency-Key."""

    author: str
    role: str
    source: str
    operation: str
    request: str
    key: str | None = None


@dataclass
class Outcome:
    """The outcome: an HTTP status (None when unknown, or when it was no HTTP request), the revision that was made
    and its reason, and the error."""

    status: int | None = None
    revision: int | None = None
    reason: str = ""
    detail: str = ""


class AuditView(Frozen):
    """A row of the audit. `outcome` is unknown while the change is under way, and when the daemon died in it."""

    id: int
    at: datetime
    author: str
    role: str
    source: str
    operation: str
    request: str
    key: str | None
    outcome: Literal["done", "failed", "refused", "unknown"]
    status: int | None
    revision: int | None
    reason: str
    detail: str


_current: ContextVar[Outcome | None] = ContextVar("xdpdirector.storage.audit_log", default=None)


def attempt_under_way() -> Outcome | None:
    """The outcome of the request that this task answers; None outside of a request."""
    return _current.get()


@contextmanager
def attempting(outcome: Outcome) -> Iterator[None]:
    """Changes in the block belong to that attempt."""
    token = _current.set(outcome)
    try:
        yield
    finally:
        _current.reset(token)


class Audit:
    """StoreError from every method but `finish` and `note_own` when the file cannot be used."""

    def __init__(self, file: AccessFile) -> None:
        self._file = file

    @property
    def notes(self) -> Sequence[str]:
        """A sentence for each thing that happened to the file."""
        return (self._file.note,) if self._file.note else ()

    def begin(self, entry: Entry) -> int:
        """The attempt's number; it outlives this process when this returns."""
        with self._file.database.transaction(synced=False):
            return self._insert(entry, "change")

    def finish(self, attempt: int, outcome: Outcome) -> None:
        """What cannot be stored is logged: the change itself is made by now."""
        try:
            with self._file.database.transaction(synced=False):
                self._close(attempt, outcome)
        except StoreError as error:
            log.error(
                "the outcome of attempt %d (%s) is not in the audit: %s", attempt, outcome, error.detail
            )

    def refused(self, entry: Entry, outcome: Outcome) -> None:
        """An attempt that was not even begun."""
        with self._file.database.transaction(synced=False):
            self._close(self._insert(entry, "refusal"), outcome)

    def note_own(self, author: str, outcome: Outcome) -> None:
        """A change that the daemon made by itself: a deadline, the file. It stands even if unrecorded."""
        entry = Entry(author=author, role="", source=DAEMON, operation=DAEMON, request="")
        try:
            with self._file.database.transaction(synced=False):
                self._close(self._insert(entry, "change"), outcome)
        except StoreError as error:
            log.error("a change by %s (%s) is not in the audit: %s", author, outcome.reason, error.detail)

    def note_revision(self, revision: Summary) -> None:
        """A revision was stored: add it to the attempt of the request that made it, or as a change of the daemon's
        own."""
        attempt = attempt_under_way()
        if attempt is None:
            self.note_own(revision.author, Outcome(revision=revision.id, reason=revision.reason))
        else:
            attempt.revision, attempt.reason = revision.id, revision.reason

    def page(
        self,
        *,
        before: int | None = None,
        limit: int = 100,
        author: str | None = None,
        operation: str | None = None,
        since: datetime | None = None,
    ) -> list[AuditView]:
        """The newest first, with numbers below `before`."""
        conditions = {
            "audit.id < ?": before,
            "author = ?": author,
            "operation = ?": operation,
            "audit.at >= ?": None if since is None else since.astimezone(UTC).isoformat(),
        }
        given = {condition: value for condition, value in conditions.items() if value is not None}
        rows = self._file.database.rows(
            "SELECT audit.id, audit.at, author, role, source, operation, request, key, "
            "outcomes.attempt, status, revision, reason, detail "
            "FROM audit LEFT JOIN outcomes ON outcomes.attempt = audit.id "
            f"{'WHERE ' + ' AND '.join(given) if given else ''} ORDER BY audit.id DESC LIMIT ?",
            (*given.values(), limit),
        )
        return [_view(row) for row in rows]

    def _insert(self, entry: Entry, kind: str) -> int:
        database = self._file.database
        newest = database.row("SELECT max(number) FROM audit WHERE kind = ?", (kind,))
        number = ((newest and newest[0]) or 0) + 1
        values = {
            "kind": kind,
            "number": number,
            "at": datetime.now(UTC).isoformat(),
            **{name: _cut(name, value) for name, value in vars(entry).items()},
        }
        places = ", ".join("?" * len(values))
        attempt = database.write(
            f"INSERT INTO audit ({', '.join(values)}) VALUES ({places})", tuple(values.values())
        )
        database.write("DELETE FROM audit WHERE kind = ? AND number <= ?", (kind, number - KEPT[kind]))
        return attempt

    def _close(self, attempt: int, outcome: Outcome) -> None:
        values = {name: _cut(name, value) for name, value in vars(outcome).items()}
        values |= {"attempt": attempt, "at": datetime.now(UTC).isoformat()}
        places = ", ".join("?" * len(values))
        self._file.database.write(
            f"INSERT INTO outcomes ({', '.join(values)}) VALUES ({places})", tuple(values.values())
        )


def _cut(name: str, value: object) -> object:
    return value[: LONGEST.get(name, 100)] if isinstance(value, str) else value


def _view(row: Row) -> AuditView:
    number, at, author, role, source, operation, request, key, closed, status, revision, reason, detail = row
    return AuditView(
        id=number,
        at=at,
        author=author,
        role=role,
        source=source,
        operation=operation,
        request=request,
        key=key,
        outcome=_outcome(closed is not None, status, detail),
        status=status,
        revision=revision,
        reason=reason or "",
        detail=detail or "",
    )


def _outcome(
    closed: bool, status: int | None, detail: str
) -> Literal["done", "failed", "refused", "unknown"]:
    """Without a status the detail says that something was wrong."""
    if not closed:
        return "unknown"
    if status is None:
        return "failed" if detail else "done"
    if status < 400:
        return "done"
    return "refused" if status in _REFUSED else "failed"
