# SPDX-License-Identifier: Apache-2.0
"""The store with fallbacks: a director serves also with a disk that is full, read-only or broken.

    the file can be used         everything
    it cannot be used now        a copy of it is read, nothing is written; tried again with each access
    its content is damaged       the file is moved aside, and a new one is created

Knows files; `store` knows their content.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from xdpdirector.errors import DamagedStoreError, ForeignStoreError, StoreError
from xdpdirector.model import Key, ServiceSpec
from xdpdirector.state.drains import Drain
from xdpdirector.state.revisions import Revision, RevisionDraft, Summary
from xdpdirector.storage.database import Database, Format, set_aside
from xdpdirector.storage.store import FORMAT, Store

_HASTE = 0.05  # seconds that a running daemon waits for another process: its loop blocks meanwhile
_PRIVATE, _PRIVATE_DIRECTORY = 0o600, 0o700

Found = TypeVar("Found")
log = logging.getLogger(__name__)


class FallbackStore:
    """A `xdpdirector.state.revisions.History`. ForeignStoreError when the file is another release's or another
    program's.

    `path`: the store's file; `spare`: a directory, made when it is needed, in which a copy of it may stand.
    `on_revision` is called with each revision that was stored, in the thread that stored it.
    """

    def __init__(
        self,
        path: Path,
        spare: Path,
        *,
        patience: float = 5.0,
        form: Format = FORMAT,
        on_revision: Callable[[Revision], None] = lambda revision: None,
    ) -> None:
        self._on_revision, self._form = on_revision, form
        self._path, self._spare, self._patience = path, spare, patience
        self._note = ""
        self._changing = threading.RLock()
        """Held while the store is opened, closed or moved aside: threads write, others read."""
        self._store: Store | None = None
        self._copy: Store | None = None
        self._forget_copy()  # that of a daemon that was killed
        self._begin()
        self._hasten()

    def __enter__(self) -> FallbackStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Can be called twice."""
        with self._changing:
            if self._store:
                self._store.close()
                self._store = None
            self._forget_copy()

    @property
    def notes(self) -> tuple[str, ...]:
        return (self._note,) if self._note else ()

    @property
    def database(self) -> Database:
        """The one that can be written; StoreError when there is none."""
        return self._opened().database

    def latest(self) -> Revision | None:
        return self._read(Store.latest, None)

    def revision(self, number: int) -> Revision | None:
        return self._read(lambda store: store.revision(number), None)

    def summaries(self, *, before: int | None, limit: int) -> list[Summary]:
        return self._read(lambda store: store.summaries(before=before, limit=limit), [])

    def drains(self) -> dict[Key, Drain]:
        return self._read(Store.drains, {})

    def file(self) -> dict[str, ServiceSpec] | None:
        return self._read(Store.file, None)

    def append(self, draft: RevisionDraft) -> Revision:
        try:
            stored = self._opened().append(draft)
        except DamagedStoreError as error:
            self._begin_anew(error)
            stored = self._opened().append(draft)
        self._on_revision(stored)
        return stored

    def record(self, number: int, at: datetime, draft: RevisionDraft) -> Revision:
        """Store a revision that was made elsewhere. StoreError."""
        return self._opened().record(number, at, draft)

    def note_file(self, digest: str, services: Mapping[str, ServiceSpec]) -> None:
        """See `Store.note_file`. StoreError."""
        self._opened().note_file(digest, services)

    def fleet(self) -> str:
        """See `Store.fleet`."""
        return self._read(Store.fleet, "")

    def note_fleet(self, history: str) -> None:
        """See `Store.note_fleet`. StoreError."""
        self._opened().note_fleet(history)

    def begin_anew(self, why: str) -> Path:
        """Keep the file under another name, which is returned, and begin an empty one. StoreError."""
        with self._changing:
            self.close()
            try:
                aside = set_aside(self._path, why)
            except OSError as error:
                raise StoreError(f"{self._path} cannot be renamed: {error.strerror}") from error
            self._opened()
        return aside

    def look(self) -> None:
        """StoreError when it can be seen that nothing can be stored now. Writes nothing."""
        self._opened().look()

    def try_writing(self) -> None:
        """StoreError when nothing can be stored now."""
        self._opened().try_writing()

    def _begin(self) -> None:
        try:
            self._opened().latest()
            self._opened().drains()
        except ForeignStoreError:
            self.close()
            raise
        except DamagedStoreError as error:
            self._begin_anew(error)
        except StoreError as error:
            log.error("%s", error.detail)
            self._read_copy()

    def _hasten(self) -> None:
        self._patience = min(self._patience, _HASTE)
        if self._store:
            self._store.database.be_patient(self._patience)

    def _opened(self) -> Store:
        if store := self._store:
            return store
        with self._changing:
            if self._store is None:
                self._store = Store(self._path, patience=self._patience, form=self._form)
                self._forget_copy()
            return self._store

    def _read(self, ask: Callable[[Store], Found], nothing: Found) -> Found:
        store = self._store or self._copy
        return ask(store) if store else nothing

    def _begin_anew(self, error: DamagedStoreError) -> None:
        """Move the damaged file aside, and create a new one if possible."""
        with self._changing:
            self.close()
            try:
                aside = set_aside(self._path)
                self._note = (
                    f"the state database {self._path} was damaged and is kept as {aside}; "
                    "what it knew of former changes is lost"
                )
                self._opened()
            except (OSError, StoreError):
                self._note = self._note or error.detail
        log.error("%s", self._note)

    def _read_copy(self) -> None:
        """What the file says, and its log, without writing where it stands."""
        copy = self._spare / self._path.name
        try:
            self._spare.mkdir(_PRIVATE_DIRECTORY, parents=True)
            for part in ("", "-wal"):
                if Path(f"{self._path}{part}").is_file():
                    _copy(Path(f"{self._path}{part}"), Path(f"{copy}{part}"))
            self._copy = Store(copy, form=self._form)
            self._copy.latest()
        except (OSError, StoreError) as error:
            self._forget_copy()
            self._note = f"what was stored cannot be read ({error}): the configuration file counts alone"
            log.error("%s", self._note)

    def _forget_copy(self) -> None:
        """Delete the copy: it becomes outdated, and is private."""
        if self._copy:
            self._copy.close()
            self._copy = None
        try:
            if self._spare.is_symlink():
                self._spare.unlink()
            else:
                shutil.rmtree(self._spare)
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning("an old copy of the state cannot be removed: %s", error)


def _copy(source: Path, target: Path) -> None:
    """Copy to a new file that only this user can read, whatever the umask is."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with source.open("rb") as original, os.fdopen(os.open(target, flags, _PRIVATE), "wb") as copy:
        shutil.copyfileobj(original, copy)
