# SPDX-License-Identifier: Apache-2.0
"""One SQLite file: opened, migrated to the newest schema, and used with errors that say what to do.

Knows SQLite and files; must not know what the tables hold.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from xdpdirector.errors import DamagedStoreError, ForeignStoreError, StoreError

Row = tuple[Any, ...]

_REMEDIES = {
    "SQLITE_BUSY": "another process uses it: is a second daemon of this instance running?",
    "SQLITE_CANTOPEN": "it cannot be opened: look at the directory and its permissions",
    "SQLITE_FULL": "the disk is full: make room",
    "SQLITE_IOERR": "the disk fails: look at the kernel's log",
    "SQLITE_PERM": "this user may not use it: change its owner or mode",
    "SQLITE_READONLY": "this user may not write it: change its owner or mode, or the mount",
}
PARTS = ("-shm", "-wal", "")  # the file itself last: its log must not be taken for the next one's
CACHE = 256 << 10
"""Octets of pages that a connection keeps; SQLite's own default is 2 MB. Little is read twice, a revision of a
thousand services is half a megabyte, and the daemon has four connections."""
PAGE = 16 << 10
"""Octets of a page of a new file: a revision of a thousand services takes 35 of them, and with SQLite's own 4 kB
twice the time."""
_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")


@dataclass(frozen=True)
class Format:
    """What a kind of database is.

    `name` stands in sentences: "state database". `application_id`: 32 bits that tell it from other programs' files.
    `migrations`: step n holds the statements that lead from format n to n + 1; a step that was released never
    changes. `anew` ends the sentences that offer to begin again: "or move the file away to ...".
    """

    name: str
    application_id: int
    migrations: Sequence[Sequence[str]]
    anew: str

    @property
    def version(self) -> int:
        return len(self.migrations)


def _connected(path: Path, patience: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=patience, isolation_level=None, check_same_thread=False)
    try:
        connection.execute(f"PRAGMA cache_size = -{CACHE >> 10}")
    except BaseException:
        connection.close()
        raise
    return connection


def set_aside(path: Path, why: str = "damaged") -> Path:
    """Rename a file and its log, so that another one can begin; the new name, which has `why` in it. OSError when
    that fails."""
    aside = _beside(path, why)
    for part in PARTS:
        with suppress(FileNotFoundError):
            Path(f"{path}{part}").rename(f"{aside}{part}")
    return aside


def _beside(path: Path, why: str) -> Path:
    return path.with_name(f"{path.name}.{why}-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}")


class Database:
    """The file at `path`, made (mode 0600) when it is not there; one process at a time.

    What is written is on the disk when `transaction` ends. Threads may use it: writers wait for each other, and who
    reads sees what was written before, and waits for nobody. Every failure is a StoreError that names the file and
    the remedy; a DamagedStoreError when the file's content is at fault, a ForeignStoreError when it is somebody
    else's. `patience`: how many seconds to wait for
    another process.
    """

    def __init__(self, path: Path, form: Format, *, patience: float = 5.0) -> None:
        self.path, self._format = path, form
        self.is_damaged = False
        """Whether what it holds was found to be damaged."""
        with self._explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._db = _connected(path, patience)
        self._patience = patience
        self._writing, self._looking = threading.Lock(), threading.Lock()
        self._writer: int | None = None
        """The thread that is in a transaction."""
        self._reader: sqlite3.Connection | None = None
        try:
            with self._explained():
                self._db.execute(f"PRAGMA page_size = {PAGE}")  # of a file that exists it stays as it is
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = FULL")
                with self.transaction():
                    self._migrate()
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
        with self._looking:
            if self._reader is not None:
                self._reader.close()
        self._db.close()

    def be_patient(self, patience: float) -> None:
        """From now on wait so many seconds for another process."""
        self._patience = patience
        with self._explained(), self._looking:
            for connection in filter(None, (self._db, self._reader)):
                connection.execute(f"PRAGMA busy_timeout = {round(patience * 1000)}")

    def rows(self, query: str, parameters: Sequence[object] = ()) -> list[Row]:
        with self._explained(), self._readable() as connection:
            return connection.execute(query, parameters).fetchall()

    def row(self, query: str, parameters: Sequence[object] = ()) -> Row | None:
        """The first row; None when there is none."""
        with self._explained(), self._readable() as connection:
            found: Row | None = connection.execute(query, parameters).fetchone()
        return found

    @contextmanager
    def _readable(self) -> Iterator[sqlite3.Connection]:
        """The writer's own, for who is in a transaction; else another one, which waits for no writer."""
        if self._writer == threading.get_ident():
            yield self._db
            return
        with self._looking:
            if self._reader is None:
                self._db.execute("SELECT 1")  # a closed one stays closed
                self._reader = _connected(self.path, self._patience)
            yield self._reader

    def write(self, statement: str, parameters: Sequence[object] = ()) -> int:
        """Inside a `transaction`. The id of the row that was inserted, if one was."""
        with self._explained():
            return self._db.execute(statement, parameters).lastrowid or 0

    @contextmanager
    def transaction(self, *, synced: bool = True) -> Iterator[None]:
        """All of the block's writes, or none when it raises. Not `synced`: they outlive this process as soon as
        they are made, and a failure of power from the next synced transaction on."""
        with self._writing:
            try:
                with self._explained():
                    self._db.execute(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
                    self._db.execute("BEGIN IMMEDIATE")
                self._writer = threading.get_ident()
                yield
                with self._explained():
                    self._db.execute("COMMIT")
            finally:
                self._writer = None
                with suppress(sqlite3.ProgrammingError):  # it was closed meanwhile
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")

    def copied(self, why: str) -> Path:
        """A copy of the whole beside it, with `why` in its name."""
        copy = _beside(self.path, why)
        with self._explained():
            os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            self._db.execute("VACUUM INTO ?", (str(copy),))
        return copy

    def look(self) -> None:
        """StoreError when it can be seen that nothing could be written. Writes nothing itself."""
        about = f"the {self._format.name} {self.path}"
        self.row("SELECT count(*) FROM sqlite_master")
        try:
            said = os.statvfs(self.path)
        except OSError as error:
            raise StoreError(f"{about}: {error.strerror}") from error
        if said.f_flag & os.ST_RDONLY:
            raise StoreError(f"{about}: {_REMEDIES['SQLITE_READONLY']}")
        if said.f_blocks and not (said.f_bavail if os.geteuid() else said.f_bfree):
            raise StoreError(f"{about}: {_REMEDIES['SQLITE_FULL']}")

    def _migrate(self) -> None:
        form, version = self._format, self._number("PRAGMA user_version")
        if version > form.version:
            raise ForeignStoreError(
                f"the {form.name} {self.path} was written by a newer release (format {version}, "
                f"this one knows {form.version}): install that release, {form.anew}"
            )
        foreign = self._number("PRAGMA application_id") != form.application_id
        if foreign and self._number("SELECT count(*) FROM sqlite_master"):
            raise ForeignStoreError(f"{self.path} is a database of another program: move it away")
        if version == form.version and not foreign:
            return  # a full disk keeps nobody from opening it: failing, SQLite would fold the log in and make room
        for step in form.migrations[version:]:
            for statement in step:
                self._db.execute(statement)
        self._db.execute(f"PRAGMA application_id = {form.application_id}")
        self._db.execute(f"PRAGMA user_version = {form.version}")

    def _number(self, query: str) -> int:
        return int(self._db.execute(query).fetchone()[0])

    @contextmanager
    def _explained(self) -> Iterator[None]:
        about = f"the {self._format.name} {self.path}"
        try:
            yield
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            if name.startswith(_DAMAGE):
                self.is_damaged = True
                raise DamagedStoreError(f"{about}: it is damaged: restore it, {self._format.anew}") from error
            remedy = next((text for start, text in _REMEDIES.items() if name.startswith(start)), str(error))
            raise StoreError(f"{about}: {remedy}") from error
        except OSError as error:
            raise StoreError(
                f"{about} cannot be opened: {error.strerror}: look at the directory and its permissions"
            ) from error
