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

from xdpdirector.errors import CapacityError, ConflictError, NotFoundError, StoreError, SupersededError
from xdpdirector.model.access import Role
from xdpdirector.model.fields import Between, Duration, Frozen, Name
from xdpdirector.state.dry_run import DryRunError, beside
from xdpdirector.storage.access_db import AccessFile
from xdpdirector.storage.token_store import SqliteTokens, StoredToken, TokenStore

MOST = 1000
USE_APART = timedelta(minutes=5)
"""How coarse `last_used` is."""

Lifetime = Annotated[
    Duration,
    Between(1, 3660 * 86400, "must be from 1s to 3660d; leave it out for a token that does not expire"),
]
_PREFIX = "xdpd"
_NO_DIGEST = bytes(32)
_TRIES = 50  # of a change that other directors forestall

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
        self._store: TokenStore = SqliteTokens(file)
        self._now = now

    @property
    def store(self) -> TokenStore:
        """Where they are kept."""
        return self._store

    def keep_in(self, store: TokenStore) -> None:
        """From now on they are kept there."""
        self._store = store

    def add(self, spec: TokenSpec, *, dry_run: bool = False) -> tuple[Token, str]:
        """A new token and its text, which is shown only once. ConflictError: the name is taken.

        DryRunError when it is only tried."""
        now, name = self._now(), spec.name
        expires = None if spec.lifetime is None else now + timedelta(seconds=spec.lifetime)
        public, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        stored = StoredToken(
            public, name, str(spec.role), _digest(secret), now.isoformat(), _text(expires), None
        )

        def add() -> None:
            if self._store.named(name):
                raise ConflictError(
                    f"there is a token '{name}' already: remove it first, or take another name"
                )
            if len(self._store.all()) >= MOST:
                raise CapacityError(f"there are {MOST} tokens: remove those that nobody uses")
            if dry_run:
                raise DryRunError((beside("tokens", name, None, spec.model_dump(mode="json")),))
            self._store.add(stored)

        self._change(add)
        token = Token(name=name, role=spec.role, created=now, expires=expires, last_used=None)
        return token, f"{_PREFIX}_{public}_{secret}"

    def list(self) -> list[Token]:
        """By name; those that have expired, too."""
        return [_token(each) for each in self._store.all()]

    def remove(self, name: str, *, dry_run: bool = False) -> None:
        """It is not valid any more when this returns. DryRunError."""

        def remove() -> None:
            found = self._store.named(name)
            if not found:
                raise NotFoundError(f"there is no token '{name}': `xdpdirector token list` shows them")
            if dry_run:
                raise DryRunError((beside("tokens", name, {"name": name, "role": found.role}, None),))
            self._store.remove(found)

        self._change(remove)

    def _change(self, change: Callable[[], None]) -> None:
        """As one transaction; again when another director was quicker."""
        for left in range(_TRIES - 1, -1, -1):
            try:
                with self._store.changing():
                    change()
                return
            except SupersededError:
                if not left:
                    raise

    def any_valid(self) -> bool:
        """Whether anybody could come in with one."""
        return any(self._is_valid(token) for token in self.list())

    def find(self, text: str) -> Token | None:
        """The token of that text, if it is valid now."""
        prefix, _, rest = text.partition("_")
        public, _, secret = rest.partition("_")
        stored = self._store.find(public)
        same = hmac.compare_digest(_digest(secret), stored.digest if stored else _NO_DIGEST)
        if stored is None or not same or prefix != _PREFIX:
            return None
        token = _token(stored)
        if not self._is_valid(token):
            return None
        self._note_use(token, stored)
        return token

    def of_session(self, name: str, created: datetime) -> Token | None:
        """The token of that name that was made then, if it is valid now: another one of the name is another one."""
        stored = self._store.named(name)
        token = _token(stored) if stored else None
        return token if token and token.created == created and self._is_valid(token) else None

    def _is_valid(self, token: Token) -> bool:
        return token.expires is None or self._now() < token.expires

    def _note_use(self, token: Token, stored: StoredToken) -> None:
        now = self._now()
        if token.last_used is not None and now - token.last_used < USE_APART:
            return
        try:
            self._store.note_use(stored, now)
        except StoreError as error:  # who is let in does not depend on it
            log.warning("it cannot be stored that token '%s' was used: %s", token.name, error.detail)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def _text(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat()


def _token(stored: StoredToken) -> Token:
    return Token.model_validate(
        {
            "name": stored.name,
            "role": stored.role,
            "created": stored.created,
            "expires": stored.expires,
            "last_used": stored.used,
        }
    )
