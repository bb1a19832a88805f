# SPDX-License-Identifier: Apache-2.0
"""What is remembered of wishes: revisions, and the drains under way; and the seam to where they are kept.

`xdpdirector.storage.store.Store` keeps them. Knows nothing of files and databases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from xdpdirector.model import Key, ServiceSpec
from xdpdirector.state.drains import Drain


@dataclass(frozen=True)
class Summary:
    """A revision without what it says."""

    id: int
    at: datetime
    author: str
    reason: str


@dataclass(frozen=True)
class Revision(Summary):
    """One state of the services. `file_digest` and `file_services` are of the file that was taken in last."""

    services: dict[str, ServiceSpec]
    file_digest: str | None
    file_services: frozenset[str]


@dataclass(frozen=True)
class RevisionDraft:
    """A revision that is to be stored. `drains`: those under way (None: those that were). One that takes in a
    configuration file has its digest and its services; with others both are None, and the last file stays."""

    services: Mapping[str, ServiceSpec]
    author: str
    reason: str
    drains: Mapping[Key, Drain] | None = None
    file_digest: str | None = None
    file_services: Mapping[str, ServiceSpec] | None = None


class History(Protocol):
    """Where wishes are kept; a StoreError when they cannot be."""

    @property
    def notes(self) -> Sequence[str]:
        """What its keeper should know of it, a sentence each."""

    def latest(self) -> Revision | None: ...

    def revision(self, number: int) -> Revision | None: ...

    def summaries(self, *, before: int | None, limit: int) -> list[Summary]:
        """The newest first, at most `limit`, with numbers below `before`."""

    def drains(self) -> dict[Key, Drain]: ...

    def file(self) -> dict[str, ServiceSpec] | None:
        """The services of the configuration file that was taken in last, as it stated them; None when that is not
        known."""

    def append(self, draft: RevisionDraft) -> Revision:
        """Store a revision: what is wanted from now on. It is on the disk when this returns."""

    def look(self) -> None:
        """A StoreError when it can be seen that nothing can be kept now. Writes nothing."""

    def try_writing(self) -> None:
        """A StoreError when nothing can be kept now. Changes nothing."""
