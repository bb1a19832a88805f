# SPDX-License-Identifier: Apache-2.0
"""API tokens: created, listed, removed and verified.

A token is `xdpd_ID_SECRET`. The secret has 256 random bits, so that one round of SHA-256 hides it as well as a slow
hash would: there is nothing to guess. Only the digest is stored, the text is shown once. Knows no HTTP.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated

from xdpdirector.errors import CapacityError, ConflictError, NotFoundError, StoreError
from xdpdirector.model.access import Role
from xdpdirector.model.fields import Between, Duration, Frozen, Name
from xdpdirector.state.dry_run import DryRunError, beside
from xdpdirector.storage.access_db import AccessFile
from xdpdirector.storage.database import Row

MOST = 1000
USE_APART = timedelta(minutes=5)
"""How coarse `last_used` is."""

Lifetime = Annotated[
    Duration,
    Between(1, 3660 * 86400, "must be from 1s to 3660d; leave it out for a token that does not expire"),
]
_PREFIX = "xdpd"
_NO_DIGEST = bytes(32)
_COLUMNS = "name, role, created, expires, used"

log = logging.getLogger(__name__)


class TokenSpec(Frozen):
    """What a token shall be. `lifetime`: how long it is valid; for ever when it is left out."""

    name: Name
    role: Role
    lifetime: Lifetime | None = None


class Token(Frozen):
    """The public part of a token. `last_used` is right to five minutes."""

    name: str
    role: Role
    created: datetime
    expires: datetime | None
    last_used: datetime | None


def _now() -> datetime:
    return datetime.now(UTC)


class Tokens:
    """StoreError from every method when the file cannot be used."""

    def __init__(self, file: AccessFile, *, now: Callable[[], datetime] = _now) -> None:
        self._file, self._now = file, now

    def add(self, spec: TokenSpec, *, dry_run: bool = False) -> tuple[Token, str]:
        """A new token and its text, which is shown only once. ConflictError: the name is taken.

        DryRunError when it is only tried."""
        now, name = self._now(), spec.name
        expires = None if spec.lifetime is None else now + timedelta(seconds=spec.lifetime)
        public, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        database = self._file.database
        with database.transaction():
            if database.row("SELECT 1 FROM tokens WHERE name = ?", (name,)):
                raise ConflictError(
                    f"there is a token '{name}' already: remove it first, or take another name"
                )
            count = database.row("SELECT count(*) FROM tokens")
            if count and count[0] >= MOST:
                raise CapacityError(f"there are {MOST} tokens: remove those that nobody uses")
            if dry_run:
                raise DryRunError((beside("tokens", name, None, spec.model_dump(mode="json")),))
            database.write(
                "INSERT INTO tokens (id, name, role, digest, created, expires) VALUES (?, ?, ?, ?, ?, ?)",
                (public, name, str(spec.role), _digest(secret), now.isoformat(), _text(expires)),
            )
        token = Token(name=name, role=spec.role, created=now, expires=expires, last_used=None)
        return token, f"{_PREFIX}_{public}_{secret}"

    def list(self) -> list[Token]:
        """By name; those that have expired, too."""
        return [
            _token(row) for row in self._file.database.rows(f"SELECT {_COLUMNS} FROM tokens ORDER BY name")
        ]

    def remove(self, name: str, *, dry_run: bool = False) -> None:
        """It is not valid any more when this returns. DryRunError."""
        database = self._file.database
        with database.transaction():
            row = database.row("SELECT role FROM tokens WHERE name = ?", (name,))
            if not row:
                raise NotFoundError(f"there is no token '{name}': `xdpdirector token list` shows them")
            if dry_run:
                raise DryRunError((beside("tokens", name, {"name": name, "role": row[0]}, None),))
            database.write("DELETE FROM tokens WHERE name = ?", (name,))

    def any_valid(self) -> bool:
        """Whether anybody could come in with one."""
        return any(self._is_valid(token) for token in self.list())

    def find(self, text: str) -> Token | None:
        """The token of that text, if it is valid now."""
        prefix, _, rest = text.partition("_")
        public, _, secret = rest.partition("_")
        row = self._file.database.row(f"SELECT {_COLUMNS}, digest FROM tokens WHERE id = ?", (public,))
        stored = row[-1] if row else _NO_DIGEST
        same = hmac.compare_digest(_digest(secret), stored)
        if row is None or not same or prefix != _PREFIX:
            return None
        token = _token(row[:-1])
        if not self._is_valid(token):
            return None
        self._note_use(token)
        return token

    def of_session(self, name: str, created: datetime) -> Token | None:
        """The token of that name that was made then, if it is valid now: another one of the name is another one."""
        row = self._file.database.row(f"SELECT {_COLUMNS} FROM tokens WHERE name = ?", (name,))
        token = _token(row) if row else None
        return token if token and token.created == created and self._is_valid(token) else None

    def _is_valid(self, token: Token) -> bool:
        return token.expires is None or self._now() < token.expires

    def _note_use(self, token: Token) -> None:
        now = self._now()
        if token.last_used is not None and now - token.last_used < USE_APART:
            return
        database = self._file.database
        try:
            with database.transaction(synced=False):
                database.write("UPDATE tokens SET used = ? WHERE name = ?", (now.isoformat(), token.name))
        except StoreError as error:  # who is let in does not depend on it
            log.warning("it cannot be stored that token '%s' was used: %s", token.name, error.detail)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def _text(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat()


def _token(row: Row) -> Token:
    name, role, created, expires, used = row
    return Token(name=name, role=Role(role), created=created, expires=expires, last_used=used)
