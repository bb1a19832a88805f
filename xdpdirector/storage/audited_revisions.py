# SPDX-License-Identifier: Apache-2.0
"""A history whose every revision appears in the audit: beside the request that made it, or as the daemon's own.

Knows the seams of both, and neither's file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from xdpdirector.model import Key, ServiceSpec
from xdpdirector.state.drains import Drain
from xdpdirector.state.revisions import History, Revision, RevisionDraft, Summary
from xdpdirector.storage.audit_log import Outcome, attempt_under_way


class Notebook(Protocol):
    """See `xdpdirector.storage.audit_log.Audit`."""

    @property
    def notes(self) -> Sequence[str]: ...

    def note_own(self, author: str, outcome: Outcome) -> None: ...


class Recorded:
    """Is itself a `History`."""

    def __init__(self, history: History, notebook: Notebook) -> None:
        self._history, self._notebook = history, notebook

    @property
    def notes(self) -> Sequence[str]:
        return (*self._history.notes, *self._notebook.notes)

    def latest(self) -> Revision | None:
        return self._history.latest()

    def revision(self, number: int) -> Revision | None:
        return self._history.revision(number)

    def summaries(self, *, before: int | None, limit: int) -> list[Summary]:
        return self._history.summaries(before=before, limit=limit)

    def drains(self) -> dict[Key, Drain]:
        return self._history.drains()

    def file(self) -> dict[str, ServiceSpec] | None:
        return self._history.file()

    def look(self) -> None:
        self._history.look()

    def try_writing(self) -> None:
        self._history.try_writing()

    def append(self, draft: RevisionDraft) -> Revision:
        made = self._history.append(draft)
        attempt = attempt_under_way()
        if attempt is None:
            self._notebook.note_own(draft.author, Outcome(revision=made.id, reason=draft.reason))
        else:
            attempt.revision, attempt.reason = made.id, draft.reason
        return made
