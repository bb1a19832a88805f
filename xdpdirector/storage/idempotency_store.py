# SPDX-License-Identifier: Apache-2.0
"""Stored responses to requests with an Idempotency-Key: a repeated request gets the same response and is not
carried out twice.

Kept over a restart, for a day, and up to a total size. When the daemon is killed between a change and its answer,
the answer is lost and the request is carried out again: what it would make exists then, a conflict that harms
nobody. Knows SQL; nothing of HTTP but that answers have a status, headers and a body.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from xdpdirector.storage.database import Database

KEPT_FOR = 24 * 3600.0
MOST = 2000
LARGEST = 256 << 10
LARGEST_ALL = 16 << 20


@dataclass(frozen=True)
class Answer:
    """`request` identifies the request: two are the same if it is equal."""

    request: str
    status: int
    headers: Mapping[str, str]
    body: bytes


class Answers(Protocol):
    def find(self, key: str) -> Answer | None: ...

    def keep(self, key: str, answer: Answer) -> None:
        """A StoreError when it cannot be kept; one that is too large is not."""


@dataclass
class PassingAnswers:
    """Kept in memory only, all of them: for tests."""

    known: dict[str, Answer] = field(default_factory=dict)

    def find(self, key: str) -> Answer | None:
        return self.known.get(key)

    def keep(self, key: str, answer: Answer) -> None:
        self.known[key] = answer


class StoredAnswers:
    """In the state database, which is asked for each time: it may be another one after a damage."""

    def __init__(self, database: Callable[[], Database]) -> None:
        self._database = database

    def find(self, key: str) -> Answer | None:
        row = self._database().row(
            "SELECT request, status, headers, body FROM answers WHERE id = ? AND at > ?",
            (key, time.time() - KEPT_FOR),
        )
        if row is None:
            return None
        request, status, headers, body = row
        return Answer(request, status, json.loads(headers), body)

    def keep(self, key: str, answer: Answer) -> None:
        if len(answer.body) > LARGEST:
            return
        now = time.time()
        row = (key, answer.request, now, answer.status, json.dumps(dict(answer.headers)), answer.body)
        database = self._database()
        with database.transaction(synced=False):
            database.write(
                "INSERT OR REPLACE INTO answers (id, request, at, status, headers, body) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                row,
            )
            database.write("DELETE FROM answers WHERE at <= ?", (now - KEPT_FOR,))
            database.write(
                "DELETE FROM answers WHERE id IN (SELECT id FROM (SELECT id, row_number() OVER newest AS place, "
                "sum(length(body)) OVER newest AS size FROM answers WINDOW newest AS (ORDER BY at DESC, id)) "
                "WHERE place > ? OR size > ?)",
                (MOST, LARGEST_ALL),
            )
