# SPDX-License-Identifier: Apache-2.0
"""Sessions of the dashboard, and the one-time codes that begin one.

A session belongs to somebody who is already authenticated: a user of this host, or the holder of a token. It has
never more rights than its holder, and ends when the holder's token does. Only digests are stored, as with tokens.
Sessions outlive the daemon, so that an upgrade asks nobody to log in again; codes do not. Knows no HTTP and no
cookies.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from xdpdirector.errors import DamagedStoreError, NotFoundError, StoreError
from xdpdirector.model.access import Role
from xdpdirector.model.fields import Frozen
from xdpdirector.storage.database import Database, Format, Row, set_aside

LIFETIME = timedelta(hours=12)
IDLE = timedelta(hours=1)
USE_APART = timedelta(minutes=1)
"""How coarse `last_used` is."""
CODE_LIFETIME = timedelta(minutes=2)
MOST, MOST_CODES = 500, 100

_TABLE = """
CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    digest BLOB NOT NULL,
    author TEXT NOT NULL,
    role TEXT NOT NULL,
    uid INTEGER,
    token TEXT,
    token_created TEXT,
    source TEXT NOT NULL,
    created TEXT NOT NULL,
    expires TEXT NOT NULL,
    used TEXT NOT NULL
)
"""
FORMAT = Format(
    name="session database",
    application_id=0x58445053,  # "XDPS"
    migrations=[[_TABLE]],
    anew="or move the file away: everybody logs in again",
)
_COLUMNS = "id, author, role, uid, token, token_created, source, created, expires, used"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Holder:
    """Who a session stands for: a user (`uid`), or a token by its name and the time at which it was made."""

    author: str
    role: Role
    uid: int | None = None
    token: str | None = None
    token_created: datetime | None = None


class SessionView(Frozen):
    """The public part of a session. `last_used` is right to a minute, `source` is where it was begun from."""

    id: str
    author: str
    role: Role
    source: str
    created: datetime
    expires: datetime
    last_used: datetime


@dataclass(frozen=True)
class Session:
    holder: Holder
    view: SessionView


def _now() -> datetime:
    return datetime.now(UTC)


class Sessions:
    """StoreError from every method, but those of codes, when the file cannot be used. A damaged file is set aside:
    then everybody logs in again."""

    def __init__(self, path: Path, *, now: Callable[[], datetime] = _now) -> None:
        self._path, self._now = path, now
        self._opening = threading.RLock()
        """Held while the file is opened or set aside: several threads use it."""
        self._opened: Database | None = None
        self._codes: dict[bytes, tuple[Holder, datetime]] = {}

    # Codes

    def make_code(self, holder: Holder) -> tuple[str, datetime]:
        """A code that begins one session of the holder, and when it expires."""
        now = self._now()
        self._codes = {digest: each for digest, each in self._codes.items() if now < each[1]}
        while len(self._codes) >= MOST_CODES:
            del self._codes[next(iter(self._codes))]
        code, expires = secrets.token_urlsafe(24), now + CODE_LIFETIME
        self._codes[_digest(code)] = (holder, expires)
        return code, expires

    def use_code(self, code: str) -> Holder | None:
        """Who made it. It is used up by this."""
        holder, expires = self._codes.pop(_digest(code), (None, self._now()))
        return holder if self._now() < expires else None

    # Sessions

    def begin(self, holder: Holder, source: str) -> tuple[Session, str]:
        """A new session and the text that proves it. The one that was not used for longest makes room."""
        now, public, secret = self._now(), secrets.token_hex(6), secrets.token_urlsafe(32)
        expires = now + LIFETIME
        made = None if holder.token_created is None else holder.token_created.isoformat()
        database = self._database
        with database.transaction(synced=False):
            database.write(
                "DELETE FROM sessions WHERE expires <= ? OR used <= ?",
                (now.isoformat(), (now - IDLE).isoformat()),
            )
            database.write(
                "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions ORDER BY used DESC LIMIT -1 OFFSET ?)",
                (MOST - 1,),
            )
            database.write(
                f"INSERT INTO sessions (digest, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    _digest(secret),
                    public,
                    holder.author,
                    str(holder.role),
                    holder.uid,
                    holder.token,
                    made,
                    source,
                    now.isoformat(),
                    expires.isoformat(),
                    now.isoformat(),
                ),
            )
        view = SessionView(
            id=public,
            author=holder.author,
            role=holder.role,
            source=source,
            created=now,
            expires=expires,
            last_used=now,
        )
        return Session(holder, view), f"{public}_{secret}"

    def find(self, text: str) -> Session | None:
        """The session of that text, if it is one now; this uses it."""
        public, _, secret = text.partition("_")
        row = self._database.row(f"SELECT {_COLUMNS}, digest FROM sessions WHERE id = ?", (public,))
        if row is None or not hmac.compare_digest(_digest(secret), row[-1]):
            return None
        found = _session(row[:-1])
        if not self._lives(found.view):
            return None
        self._note_use(found.view)
        return found

    def list(self) -> list[SessionView]:
        """Those that live, the one that was used last first."""
        rows = self._database.rows(f"SELECT {_COLUMNS} FROM sessions ORDER BY used DESC, id")
        return [each for each in (_session(row).view for row in rows) if self._lives(each)]

    def end(self, public: str) -> None:
        """NotFoundError when there is none of that id."""
        database = self._database
        with database.transaction():
            if not database.row("SELECT 1 FROM sessions WHERE id = ?", (public,)):
                raise NotFoundError(f"there is no session '{public}': it may have ended already")
            database.write("DELETE FROM sessions WHERE id = ?", (public,))

    def close(self) -> None:
        """It is opened again when it is needed again."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _lives(self, view: SessionView) -> bool:
        now = self._now()
        return now < view.expires and now - view.last_used < IDLE

    def _note_use(self, view: SessionView) -> None:
        now, database = self._now(), self._database
        if now - view.last_used < USE_APART:
            return
        try:
            with database.transaction(synced=False):
                database.write("UPDATE sessions SET used = ? WHERE id = ?", (now.isoformat(), view.id))
        except StoreError as error:  # who is let in does not depend on it
            log.warning("it cannot be stored that session %s was used: %s", view.id, error.detail)

    @property
    def _database(self) -> Database:
        with self._opening:
            if self._opened is not None and self._opened.is_damaged:
                self.close()
                self._set_aside()
            if self._opened is None:
                try:
                    self._opened = Database(self._path, FORMAT, patience=1.0)
                except DamagedStoreError:
                    self._set_aside()
                    self._opened = Database(self._path, FORMAT, patience=1.0)
            return self._opened

    def _set_aside(self) -> None:
        try:
            aside = set_aside(self._path)
        except OSError as error:
            raise StoreError(
                f"the session database {self._path} is damaged, and cannot be renamed: {error.strerror}"
            ) from error
        log.error(
            "the session database %s was damaged and is kept as %s: everybody logs in again",
            self._path,
            aside,
        )


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def _session(row: Row) -> Session:
    public, author, role, uid, token, token_created, source, created, expires, used = row
    made = None if token_created is None else datetime.fromisoformat(token_created)
    view = SessionView(
        id=public,
        author=author,
        role=Role(role),
        source=source,
        created=created,
        expires=expires,
        last_used=used,
    )
    return Session(Holder(author, Role(role), uid, token, made), view)
