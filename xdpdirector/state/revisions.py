# SPDX-License-Identifier: Apache-2.0
"""Revisions of the desired state with the drains under way, and the interface of the store that keeps them.

`xdpdirector.storage.store.Store` has this interface. Knows nothing of files and databases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from xdpdirector.model import Key, ServiceSpec
from xdpdirector.model.fleet import DirectorReport
from xdpdirector.state.drains import Drain


@dataclass(frozen=True)
class Summary:
    """A revision without its services."""

    id: int
    at: datetime
    author: str
    reason: str


@dataclass(frozen=True)
class Revision(Summary):
    """One state of the services. `file_digest` and `file_services` are those of the file that was merged last."""

    services: dict[str, ServiceSpec]
    file_digest: str | None
    file_services: frozenset[str]


@dataclass(frozen=True)
class RevisionDraft:
    """A revision that is to be stored. `drains`: those under way (None: those that were). One that merges a
    configuration file has its digest and its services; with others both are None, and the last file stays. `base`:
    the revision that it was made from; only a store that others write, too, asks for it."""

    services: Mapping[str, ServiceSpec]
    author: str
    reason: str
    drains: Mapping[Key, Drain] | None = None
    file_digest: str | None = None
    file_services: Mapping[str, ServiceSpec] | None = None
    base: int = 0


class History(Protocol):
    """The store of revisions. StoreError when it cannot be used."""

    @property
    def notes(self) -> Sequence[str]:
        """Warnings about the store, a sentence each."""

    def latest(self) -> Revision | None: ...

    def revision(self, number: int) -> Revision | None: ...

    def summaries(self, *, before: int | None, limit: int) -> list[Summary]:
        """The newest first, at most `limit`, with numbers below `before`."""

    def drains(self) -> dict[Key, Drain]: ...

    def file(self) -> dict[str, ServiceSpec] | None:
        """The services of the configuration file that was merged last, as it states them; None when unknown."""

    def append(self, draft: RevisionDraft) -> Revision:
        """Store a revision: what is wanted from now on. It is on the disk when this returns."""

    def look(self) -> None:
        """StoreError when it is visible, without writing, that nothing can be stored."""

    def try_writing(self) -> None:
        """StoreError when nothing can be stored. Changes nothing."""


@dataclass(frozen=True)
class Known:
    """What is known of a store that others write, too. `revision`: its newest; None as long as there is none.
    `reached`: whether it answered when it was asked last; `why`: what was wrong then. `age`: seconds since it
    answered; None when it has not since the start. `endpoint`: who is asked."""

    revision: Revision | None
    reached: bool
    why: str
    age: float | None
    endpoint: str


class SharedHistory(History, Protocol):
    """A store that several directors write. What is read is what this director saw last, without waiting; `append`
    raises a SupersededError for a draft that was not made from the newest revision."""

    def follow(self, on_change: Callable[[], None]) -> None:
        """Call that, in another thread, whenever there may be something new, until it is closed."""

    def close(self) -> None:
        """Ask nobody any more."""

    def exchange(self, report: DirectorReport) -> dict[str, DirectorReport]:
        """Say this of this director, and hear what all live ones say, by name. StoreError."""

    def reports(self) -> dict[str, DirectorReport]:
        """What all live directors say, by name. StoreError."""

    def refresh(self) -> None:
        """Ask for the newest revision; it waits for the network. StoreError when that cannot be asked."""

    def known(self) -> Known: ...

    @property
    def director(self) -> str:
        """What the others call this one."""

    def drains_now(self) -> dict[Key, Drain]:
        """Those of the newest revision that is known, by this machine's clock."""

    def note_file(self, digest: str, services: Mapping[str, ServiceSpec]) -> None:
        """Take the configuration file for merged, and merge only what changes in it from now on."""
