# SPDX-License-Identifier: Apache-2.0
"""Revisions, drains and tables such as the deny list in etcd, with a copy of what was seen last in a SQLite file of
this director.

One revision is one transaction, on the condition that `PREFIX/head` is as it was when the draft was made. Reading
never waits: it reads the copy, which `refresh` keeps up. An etcd that went back to an earlier state (a backup) gets
the revisions back that this director knows; where others were made there meanwhile, those count, and the copy is
kept under another name. Knows nothing of the data plane.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

from xdpdirector.errors import StoreError, SupersededError, UncertainError
from xdpdirector.model import Key, ServiceSpec
from xdpdirector.model.fleet import DirectorReport
from xdpdirector.state.drains import Drain
from xdpdirector.state.revisions import Known, Revision, RevisionDraft, Summary
from xdpdirector.storage.etcd import documents
from xdpdirector.storage.etcd.documents import Head
from xdpdirector.storage.etcd.gateway import (
    Gateway,
    Item,
    Watch,
    after_all,
    delete,
    get,
    items,
    put,
    unchanged,
)
from xdpdirector.storage.etcd.reports import Reports
from xdpdirector.storage.etcd.shared_table import SharedTable
from xdpdirector.storage.fallback import FallbackStore
from xdpdirector.storage.store import KEPT
from xdpdirector.system import boot_time

FETCHED_FIRST = 100
"""How many former revisions a director gets that joins."""
_PAGE = 20  # revisions in one request
_ROUNDS = 20  # of reading what changes meanwhile
FRESH = 5.0
"""Seconds since etcd answered before, within which a new revision was written just now."""

log = logging.getLogger(__name__)


class FleetStore:
    """A `xdpdirector.state.revisions.SharedHistory`. Threads may use it.

    `on_revision` is called with each revision that was made through this director, in the thread that made it.
    `is_exposed`: etcd is reached without TLS, of which `notes` warn.
    """

    def __init__(
        self,
        gateway: Gateway,
        prefix: str,
        mirror: FallbackStore,
        director: str,
        *,
        on_revision: Callable[[Revision], None] = lambda revision: None,
        is_exposed: bool = False,
    ) -> None:
        self._weakness = (
            "the desired state travels to etcd in the clear (store.insecure)" if is_exposed else ""
        )
        self._gateway, self._mirror, self._director = gateway, mirror, director
        self._on_revision = on_revision
        self._head_key, self._drains_key = f"{prefix}/head", f"{prefix}/drains"
        self._revisions = f"{prefix}/revisions/"
        self._turn = threading.RLock()
        """Held while what is known is replaced; never while etcd is asked."""
        self._asking = threading.Lock()
        """Held by who asks etcd for what is new."""
        self._asked = 0.0
        """When that began last; monotonic seconds."""
        self._generation = 0
        """Counts what was replaced: an answer that was on its way meanwhile is old."""
        self._database = lambda: mirror.database
        self.denials = SharedTable(gateway, prefix, "denied", self._database)
        self.tokens = SharedTable(gateway, prefix, "tokens", self._database)
        self.maintenance = SharedTable(gateway, prefix, "maintenance", self._database)
        self._tables = [self.denials, self.tokens, self.maintenance]
        self.before_exchange: Callable[[], None] = lambda: None
        """Called each time before directors are told of this one, in a thread that may wait."""
        self._known, self._kept_drains, self._history = mirror.latest(), mirror.drains(), mirror.fleet()
        self._head: Head | None = None
        self._trouble = ""
        self._reached: float | None = None
        self._note = self._mirror_note = ""
        self._watch: Watch | None = None
        self._reports = Reports(gateway, prefix, director)

    @property
    def director(self) -> str:
        """This one's name."""
        return self._director

    def exchange(self, report: DirectorReport) -> dict[str, DirectorReport]:
        """See `xdpdirector.state.revisions.SharedHistory`."""
        self.before_exchange()
        return self._reports.exchange(report)

    def reports(self) -> dict[str, DirectorReport]:
        """See `xdpdirector.state.revisions.SharedHistory`."""
        return self._reports.all()

    def follow(self, on_change: Callable[[], None]) -> None:
        """See `xdpdirector.state.revisions.SharedHistory`."""
        self._watch = Watch(self._gateway, self._head_key, on_change, after_all(f"{self._head_key}/"))
        self._watch.start()

    def close(self) -> None:
        """Ask nobody any more; the others see at once that this director is gone."""
        if not self._trouble and self._reached is not None:
            with suppress(StoreError):
                self._reports.leave()
        self._gateway.close()
        if self._watch:
            self._watch.close()

    # Reading, without waiting

    @property
    def notes(self) -> tuple[str, ...]:
        copies = next((each.note for each in self._tables if each.note), "")
        own = (self._note, self._mirror_note or copies, self._weakness)
        return (*self._mirror.notes, *filter(None, own))

    def latest(self) -> Revision | None:
        return self._known

    def revision(self, number: int) -> Revision | None:
        known = self._known
        return known if known and known.id == number else self._mirror.revision(number)

    def summaries(self, *, before: int | None, limit: int) -> list[Summary]:
        return self._mirror.summaries(before=before, limit=limit)

    def drains(self) -> dict[Key, Drain]:
        return dict(self._kept_drains)

    def drains_now(self) -> dict[Key, Drain]:
        return dict(self._kept_drains)

    def file(self) -> dict[str, ServiceSpec] | None:
        return self._mirror.file()

    def known(self) -> Known:
        age = None if self._reached is None else time.monotonic() - self._reached
        why = self._trouble or ("etcd has not answered yet" if age is None else "")
        return Known(self._known, not why, why, age, str(self._gateway.endpoint))

    def look(self) -> None:
        if self._trouble:
            raise StoreError(self._trouble)

    def try_writing(self) -> None:
        self.look()

    # Writing

    def note_file(self, digest: str, services: Mapping[str, ServiceSpec]) -> None:
        with self._turn:
            self._mirror.note_file(digest, services)
            if self._known:
                names = frozenset(services)
                self._known = replace(self._known, file_digest=digest, file_services=names)

    def append(self, draft: RevisionDraft) -> Revision:
        """See `xdpdirector.state.revisions.SharedHistory`. UncertainError: it may be made yet."""
        with self._turn:
            self.look()
            if self._reached is None:
                raise StoreError("etcd has not answered yet")
            head, history, drains = self._head, self._history, self._kept_drains
        if draft.base != (head.revision if head else 0):
            raise SupersededError("another director changed the desired state just now")
        at, number = datetime.now(UTC), draft.base + 1
        made = Revision(number, at, draft.author, draft.reason, dict(draft.services), None, frozenset())
        wanted = Head(number, history or uuid.uuid4().hex, at.isoformat(), uuid.uuid4().hex)
        drains = drains if draft.drains is None else dict(draft.drains)
        try:
            written = self._write(head, wanted, made, drains)
        except StoreError as error:
            self._trouble = error.detail
            raise
        with self._turn:
            stored = self._note_made(written, made, replace(draft, drains=drains))
        self._on_revision(stored)
        return stored

    def _write(self, head: Head | None, wanted: Head, made: Revision, drains: Mapping[Key, Drain]) -> Head:
        """The head as it stands in etcd then. SupersededError."""
        operations = [
            put(self._head_key, documents.head_value(wanted)),
            put(self._key(made.id), documents.revision_value(made, self._director)),
            put(self._drains_key, documents.drains_value(drains, boot_time.now())),
        ]
        if made.id > KEPT:
            operations.append(delete(self._key(made.id - KEPT)))
        try:
            done, answers = self._gateway.transaction(
                [unchanged(self._head_key, head.changed if head else 0)], operations
            )
        except UncertainError:
            seen = self._read_head()
            if seen and seen.write == wanted.write:
                return seen
            if (seen.changed if seen else 0) == (head.changed if head else 0):
                raise  # it may come yet
            done = False
        if not done:
            raise SupersededError("another director changed the desired state just now")
        return replace(wanted, changed=int(answers[0]["header"]["revision"]))

    def _note_made(self, head: Head, made: Revision, draft: RevisionDraft) -> Revision:
        self._generation += 1
        known = self._known
        if known and known.id > made.id:  # seen already, and more
            return made
        self._note_history(head.history)
        self._head, self._kept_drains = head, dict(draft.drains or {})
        self._known = self._record(made, draft)
        return self._known

    # Keeping up

    def refresh(self) -> None:
        """See `xdpdirector.state.revisions.SharedHistory`. Of many who ask at once one does it for all."""
        called = time.monotonic()
        with self._asking:
            if self._asked >= called:
                self.look()
                return
            self._asked = time.monotonic()
            self._refresh()

    def _refresh(self) -> None:
        try:
            for _ in range(_ROUNDS):
                if self._keep_up():
                    self._trouble, self._reached = "", time.monotonic()
                    return
            raise StoreError("what is in etcd changes more quickly than it can be read")
        except StoreError as error:
            self._trouble = error.detail
            raise
        finally:
            if self._watch and self._watch.endpoint not in (None, self._gateway.endpoint):
                self._watch.move()

    def _keep_up(self) -> bool:
        """Whether what is known now is what etcd says."""
        with self._turn:
            generation, known, history = self._generation, self._known, self._history
            is_fresh = self._reached is not None and time.monotonic() - self._reached < FRESH
        heads, found, *tables = (
            items(each)
            for each in self._gateway.read(
                get(self._head_key), get(self._drains_key), *(get(each.head_key) for each in self._tables)
            )
        )
        if not self._keep_up_revisions(heads, found, generation, known, history, is_fresh=is_fresh):
            return False
        taken = [
            table.take(seen[0] if seen else None) for table, seen in zip(self._tables, tables, strict=True)
        ]
        return all(taken)

    def _keep_up_revisions(
        self,
        heads: list[Item],
        found: list[Item],
        generation: int,
        known: Revision | None,
        history: str,
        *,
        is_fresh: bool,
    ) -> bool:
        seen = documents.head(heads[0].value, heads[0].changed) if heads else None
        is_another = bool(seen and known and history and seen.history != history)
        if not is_another and (seen is None or (known and seen.revision < known.id)):
            return self._went_back(seen, known, generation)
        assert seen
        new = None if is_another else self._new(seen, known)
        if new is None:
            self._set_copy_aside(generation)
            return False
        drains = (
            documents.drains(found[0].value, boot_time.now(), is_fresh=is_fresh) if found and new else None
        )
        with self._turn:
            if generation == self._generation:
                self._take(seen, new, drains)
                return True
        return False

    def _new(self, seen: Head, known: Revision | None) -> list[Revision] | None:
        """The revisions after the one that is known; None when that is another one in etcd."""
        if known is None:
            return self._fetched(max(1, seen.revision - FETCHED_FIRST + 1), seen.revision)
        if known.id == seen.revision:
            return [] if known.at.isoformat() == seen.at else None
        found = self._fetched(max(known.id, seen.revision - KEPT + 1), seen.revision)
        if found and found[0].id == known.id:
            return found[1:] if found[0].at == known.at else None
        return found

    def _take(self, seen: Head, new: list[Revision], drains: dict[Key, Drain] | None) -> None:
        if self._head == seen and not new:
            return
        self._generation += 1
        self._note_history(seen.history)
        for each in new:
            of_newest = drains if each is new[-1] else None
            draft = RevisionDraft(each.services, each.author, each.reason, drains=of_newest)
            self._known = self._record(each, draft)
        if drains is not None:
            self._kept_drains = drains
        self._head = seen

    def _went_back(self, seen: Head | None, known: Revision | None, generation: int) -> bool:
        """etcd has fewer revisions than are known here, or none."""
        if known is None:
            with self._turn:
                self._head = None
            return True
        if seen and not ((mine := self.revision(seen.revision)) and mine.at.isoformat() == seen.at):
            self._set_copy_aside(generation)
            return False
        self._put_back(seen, known)
        return False

    def _put_back(self, seen: Head | None, known: Revision) -> None:
        """Give etcd the revisions that it lost. Another director may do the same: then the conditions fail."""
        conditions = [unchanged(self._head_key, seen.changed if seen else 0)]
        first = seen.revision + 1 if seen else max(1, known.id - FETCHED_FIRST + 1)
        for start in range(first, known.id + 1, _PAGE):
            numbers = range(start, min(start + _PAGE, known.id + 1))
            found = [each for number in numbers if (each := self.revision(number))]
            values = [
                put(self._key(each.id), documents.revision_value(each, self._director)) for each in found
            ]
            if values and not self._gateway.transaction(conditions, values)[0]:
                return
        wanted = Head(known.id, self._history or uuid.uuid4().hex, known.at.isoformat(), uuid.uuid4().hex)
        drains = documents.drains_value(self._kept_drains, boot_time.now())
        done, _ = self._gateway.transaction(
            conditions, [put(self._head_key, documents.head_value(wanted)), put(self._drains_key, drains)]
        )
        if done:
            with self._turn:
                self._note_history(wanted.history)
            log.warning(
                "etcd had lost revisions %d to %d: they are back, from what this director knew",
                first,
                known.id,
            )

    def _set_copy_aside(self, generation: int) -> None:
        """What this director knew is not what the fleet wants now: keep the file, and fetch anew."""
        with self._turn:
            if generation != self._generation:
                return
            self._generation += 1
            aside = self._mirror.begin_anew("former")
            for table in self._tables:
                table.forget()
            known = f" up to revision {self._known.id}" if self._known else ""
            self._note = (
                f"etcd holds another history than this director knew{known}: etcd's counts, and what was known is "
                f"kept as {aside}"
            )
            log.error("%s", self._note)
            self._known, self._kept_drains, self._history, self._head = None, {}, "", None

    def _fetched(self, first: int, last: int) -> list[Revision]:
        found: list[Item] = []
        for start in range(first, last + 1, _PAGE):
            end = min(start + _PAGE - 1, last)
            found += self._gateway.range(self._key(start), self._key(end) + "\0")
        made = [documents.revision(int(each.key.rpartition("/")[2]), each.value) for each in found]
        if not made or made[-1].id != last:
            raise StoreError(f"etcd says that revision {last} is the newest, and does not have it")
        return made

    def _read_head(self) -> Head | None:
        found = items(self._gateway.read(get(self._head_key))[0])
        return documents.head(found[0].value, found[0].changed) if found else None

    def _key(self, number: int) -> str:
        return f"{self._revisions}{number:010}"

    # The copy

    def _record(self, made: Revision, draft: RevisionDraft) -> Revision:
        """As it is in the copy; a copy that cannot be written is a warning, as etcd has the revision."""
        try:
            stored = self._mirror.record(made.id, made.at, draft)
            self._mirror_note = ""
        except StoreError as error:
            self._mirror_note = f"what the fleet wants is not stored here: {error.detail}"
            before = self._known
            digest = draft.file_digest or (before.file_digest if before else None)
            names = draft.file_services or (before.file_services if before else ())
            stored = replace(made, file_digest=digest, file_services=frozenset(names) & made.services.keys())
        return stored

    def _note_history(self, history: str) -> None:
        if history != self._history:
            self._history = history
            try:
                self._mirror.note_fleet(history)
            except StoreError as error:
                self._mirror_note = f"what the fleet wants is not stored here: {error.detail}"
