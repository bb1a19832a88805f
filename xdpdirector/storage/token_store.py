# SPDX-License-Identifier: Apache-2.0
"""Where tokens are kept: what is stored of one, and access.db as the place. Knows nothing of their texts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from xdpdirector.storage.access_db import AccessFile
from xdpdirector.storage.database import Row

_COLUMNS = "id, name, role, digest, created, expires, used"


@dataclass(frozen=True)
class StoredToken:
    """Times as ISO 8601."""

    id: str
    name: str
    role: str
    digest: bytes
    created: str
    expires: str | None
    used: str | None


class TokenStore(Protocol):
    """StoreError from every method when it cannot be used."""

    def find(self, public: str) -> StoredToken | None: ...

    def named(self, name: str) -> StoredToken | None: ...

    def all(self) -> list[StoredToken]:
        """By name."""

    @contextmanager
    def changing(self) -> Iterator[None]:
        """What is read and written inside is one transaction. SupersededError: another director was quicker."""

    def add(self, token: StoredToken) -> None: ...

    def remove(self, token: StoredToken) -> None: ...

    def note_use(self, token: StoredToken, when: datetime) -> None:
        """It was used then."""


class SqliteTokens:
    """A `TokenStore`: the file of one director."""

    def __init__(self, file: AccessFile) -> None:
        self._file = file

    def find(self, public: str) -> StoredToken | None:
        return _token(self._file.database.row(f"SELECT {_COLUMNS} FROM tokens WHERE id = ?", (public,)))

    def named(self, name: str) -> StoredToken | None:
        return _token(self._file.database.row(f"SELECT {_COLUMNS} FROM tokens WHERE name = ?", (name,)))

    def all(self) -> list[StoredToken]:
        return [
            StoredToken(*row)
            for row in self._file.database.rows(f"SELECT {_COLUMNS} FROM tokens ORDER BY name")
        ]

    @contextmanager
    def changing(self) -> Iterator[None]:
        with self._file.database.transaction():
            yield

    def add(self, token: StoredToken) -> None:
        row = (token.id, token.name, token.role, token.digest, token.created, token.expires, token.used)
        self._file.database.write(f"INSERT INTO tokens ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def remove(self, token: StoredToken) -> None:
        self._file.database.write("DELETE FROM tokens WHERE id = ?", (token.id,))

    def note_use(self, token: StoredToken, when: datetime) -> None:
        database = self._file.database
        with database.transaction(synced=False):
            database.write("UPDATE tokens SET used = ? WHERE id = ?", (when.isoformat(), token.id))


def _token(row: Row | None) -> StoredToken | None:
    return StoredToken(*row) if row else None
