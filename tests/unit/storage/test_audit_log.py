# SPDX-License-Identifier: Apache-2.0
"""The audit's rows: added, shown, pruned in one way, and never changed."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from xdpdirector.errors import StoreError
from xdpdirector.state.revisions import RevisionDraft
from xdpdirector.storage.access_db import KEPT, AccessFile
from xdpdirector.storage.audit_log import (
    LONGEST,
    Audit,
    Entry,
    Outcome,
    attempting,
)
from xdpdirector.storage.fallback import FallbackStore

ROOT = Entry(
    "root", "admin", "uid 0, pid 4242", "drain_backend", "POST /v1/services/web/backends/web1/drain", "k1"
)
DEPLOY = Entry(
    "token:deploy", "operate", "192.0.2.7:40000", "patch_backend", "PATCH /v1/services/web/backends/web1"
)
DONE = Outcome(200, revision=7, reason="new disk")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[AccessFile]:
    file = AccessFile(tmp_path / "access.db")
    yield file
    file.close()


@pytest.fixture
def audit(file: AccessFile) -> Audit:
    return Audit(file)


def test_an_attempt_is_there_before_its_outcome(audit: Audit) -> None:
    attempt = audit.begin(ROOT)
    begun = audit.page()
    audit.finish(attempt, DONE)
    finished = audit.page()

    assert [(row.id, row.outcome, row.status) for row in begun] == [(attempt, "unknown", None)]
    (row,) = finished
    assert (row.author, row.role, row.source, row.operation, row.request, row.key) == tuple(
        vars(ROOT).values()
    )
    assert (row.outcome, row.status, row.revision, row.reason) == ("done", 200, 7, "new disk")
    assert datetime.now(UTC) - row.at < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(200, "done"), (204, "done"), (304, "done"), (409, "failed"), (500, "failed"), (403, "refused")],
)
def test_the_status_says_what_came_of_it(audit: Audit, status: int, outcome: str) -> None:
    audit.finish(audit.begin(ROOT), Outcome(status))

    assert [row.outcome for row in audit.page()] == [outcome]


def test_a_refusal_is_one_step(audit: Audit) -> None:
    audit.refused(DEPLOY, Outcome(403, detail="needs admin"))

    assert [(row.author, row.outcome, row.detail) for row in audit.page()] == [
        ("token:deploy", "refused", "needs admin")
    ]


def test_pages_go_from_new_to_old(audit: Audit) -> None:
    attempts = [audit.begin(ROOT) for _ in range(5)]

    first = audit.page(limit=2)
    rest = audit.page(limit=10, before=first[-1].id)

    assert [row.id for row in (*first, *rest)] == attempts[::-1]


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ({}, 3),
        ({"author": "root"}, 2),
        ({"operation": "patch_backend"}, 1),
        ({"author": "root", "operation": "patch_backend"}, 0),
        ({"since": datetime(2020, 1, 1, tzinfo=UTC)}, 3),
        ({"since": datetime(2120, 1, 1, tzinfo=UTC)}, 0),
        ({"author": "' OR 1=1 --"}, 0),
    ],
    ids=["all", "author", "operation", "both", "since", "since tomorrow", "SQL"],
)
def test_rows_are_filtered(audit: Audit, filters: dict[str, object], count: int) -> None:
    for entry in (ROOT, DEPLOY, ROOT):
        audit.begin(entry)

    assert len(audit.page(**filters)) == count  # type: ignore[arg-type]


def test_what_a_client_can_make_long_is_cut(audit: Audit) -> None:
    long = "x" * 20_000

    audit.finish(
        audit.begin(Entry(long, "admin", long, "patch", long, long)), Outcome(409, reason=long, detail=long)
    )

    (row,) = audit.page()
    assert {name: len(getattr(row, name)) for name in LONGEST} == LONGEST


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET author = 'somebody else'",
        "UPDATE outcomes SET status = 200",
        "DELETE FROM audit",
        "DELETE FROM outcomes",
        "REPLACE INTO audit SELECT id, kind, number, at, 'x', role, source, operation, request, key FROM audit",
        "REPLACE INTO outcomes SELECT attempt, at, 200, revision, reason, detail FROM outcomes",
    ],
    ids=["update", "update outcome", "delete", "delete outcome", "replace", "replace outcome"],
)
def test_rows_cannot_be_changed(audit: Audit, file: AccessFile, statement: str) -> None:
    audit.refused(DEPLOY, Outcome(403))
    before = audit.page()
    audit.finish(audit.begin(ROOT), DONE)

    with sqlite3.connect(file.path) as database, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        database.execute(statement)
    database.close()

    assert audit.page()[1:] == before


def test_the_oldest_are_pruned_and_refusals_wash_out_nothing_else(audit: Audit, file: AccessFile) -> None:
    audit.finish(first := audit.begin(ROOT), DONE)
    surplus = 5
    with file.database.transaction():
        for _ in range(KEPT["refusal"] + surplus):
            audit._close(audit._insert(DEPLOY, "refusal"), Outcome(403))

    kept = {row.id for row in audit.page(limit=100_000)}

    assert len(kept) == KEPT["refusal"] + 1
    assert first in kept
    assert not kept & set(range(first + 1, first + 1 + surplus))
    assert file.database.rows("SELECT count(*) FROM outcomes") == [(KEPT["refusal"] + 1,)]


def test_numbers_are_never_used_again(audit: Audit, file: AccessFile) -> None:
    last = audit.begin(ROOT)
    file.close()

    with closing(AccessFile(file.path)) as again:
        assert Audit(again).begin(ROOT) == last + 1


def test_what_cannot_be_stored_is_an_error_before_and_a_log_line_after(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("")
    audit = Audit(AccessFile(blocked / "access.db"))

    with pytest.raises(StoreError, match="access database"):
        audit.begin(ROOT)
    with pytest.raises(StoreError, match="access database"):
        audit.refused(ROOT, Outcome(403))
    audit.finish(1, DONE)
    audit.note_own("director", DONE)

    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]


@pytest.fixture
def history(tmp_path: Path, audit: Audit) -> Iterator[FallbackStore]:
    with FallbackStore(tmp_path / "state.db", tmp_path / "spare", on_revision=audit.note_revision) as store:
        yield store


def test_a_revision_belongs_to_the_request_that_made_it(audit: Audit, history: FallbackStore) -> None:
    async def request(reason: str) -> None:
        attempt, outcome = audit.begin(ROOT), Outcome(200)
        with attempting(outcome):
            await asyncio.sleep(0)
            history.append(RevisionDraft({}, author="root", reason=reason))
        audit.finish(attempt, outcome)

    async def requests() -> None:
        await asyncio.gather(request("one"), request("two"))

    asyncio.run(requests())

    assert [(row.revision, row.reason) for row in audit.page()] == [(2, "two"), (1, "one")]


def test_a_revision_of_no_request_is_the_daemons_own(audit: Audit, history: FallbackStore) -> None:
    history.append(RevisionDraft({}, author="director", reason="deadline of web/web1"))

    (row,) = audit.page()
    assert (row.author, row.source, row.outcome) == ("director", "daemon", "done")
    assert (row.revision, row.reason, row.status) == (1, "deadline of web/web1", None)
