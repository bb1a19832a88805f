# SPDX-License-Identifier: Apache-2.0
"""What changes wait for: the disk once, beside the loop; and nothing is written while nothing changes."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.stage import (
    ME,
    Stage,
    service,
    story,
    until,
)
from tests.support.staged_daemon import StagedDaemon
from xdpdirector.client import UnixConnection
from xdpdirector.model import AdminState
from xdpdirector.state.admin_change import AdminChange
from xdpdirector.state.revisions import RevisionDraft
from xdpdirector.storage.database import Database
from xdpdirector.storage.denylist_store import SqliteDenyList
from xdpdirector.storage.fallback import FallbackStore

DEADLINE = 20.0


def test_a_change_waits_for_the_disk_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempt, revision, kept answer and outcome are four transactions."""
    synced: list[bool] = []
    threads: list[threading.Thread] = []
    transaction = Database.transaction

    @contextmanager
    def counted(database: Database, **how: bool) -> Iterator[None]:
        synced.append(how.get("synced", True))
        threads.append(threading.current_thread())
        with transaction(database, **how):
            yield

    web = service("web1").model_dump(mode="json", exclude_unset=True)
    with StagedDaemon() as daemon:
        daemon.client.post("/v1/services", {"name": "web", **web})
        monkeypatch.setattr(Database, "transaction", counted)

        connection: http.client.HTTPConnection = UnixConnection(daemon.socket, DEADLINE)
        headers = {"content-type": "application/json", "idempotency-key": "k"}
        path = "/v1/services/web/backends/web1/drain"
        connection.request("POST", path, json.dumps({"reason": "new disk"}), headers)
        answer = connection.getresponse()
        status, _ = answer.status, answer.read()  # to its end: the outcome is written down before that
        connection.close()
        monkeypatch.undo()

    assert status == 200
    assert sorted(synced) == [False, False, False, True]
    assert daemon._thread not in threads


@story
async def test_nothing_is_written_while_nothing_changes(tmp_path: Path) -> None:
    with FallbackStore(tmp_path / "state.db", tmp_path / "spare") as archive:
        async with Stage(
            kept=(archive, SqliteDenyList(lambda: archive.database)), web=service("web1")
        ) as stage:
            await stage.director.drains.set_admin("web", "web1", AdminChange(AdminState.DRAIN), intent=ME)
            before = written(tmp_path)

            for _ in range(5):
                await stage.director._desired.try_storing()
                await stage.director.guard.look()

            assert written(tmp_path) == before


def written(directory: Path) -> dict[str, tuple[int, int]]:
    """What tells whether somebody has written."""
    return {
        path.name: (path.stat().st_size, path.stat().st_mtime_ns)
        for path in directory.iterdir()
        if not path.name.endswith("-shm")
    }


@story
async def test_the_loop_turns_while_a_revision_is_stored() -> None:
    begun, gate = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        assert gate.wait(DEADLINE)

    async with Stage(web=service("web1")) as stage:
        stage.history.before_writing = wait
        change = asyncio.create_task(
            stage.director.drains.set_admin("web", "web1", AdminChange(AdminState.DRAIN), intent=ME)
        )
        await until(begun.is_set)

        assert not change.done()

        gate.set()
        await change
        assert stage.history.revisions[-1].services["web"].backends["web1"].admin is AdminState.DRAIN


@story
async def test_a_change_that_is_cancelled_while_it_is_stored_is_made() -> None:
    """It cannot be taken back from the disk: then plane and wishes have it, too."""
    begun, gate = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        assert gate.wait(DEADLINE)

    async with Stage(web=service("web1")) as stage:
        stage.history.before_writing = wait
        change = asyncio.create_task(
            stage.director.drains.set_admin("web", "web1", AdminChange(AdminState.DRAIN), intent=ME)
        )
        await until(begun.is_set)
        change.cancel()
        gate.set()
        await asyncio.gather(change, return_exceptions=True)

        wanted = stage.wanted()["web"].backends["web1"].admin
        assert stage.history.revisions[-1].services["web"].backends["web1"].admin is AdminState.DRAIN
        assert wanted is AdminState.DRAIN
        assert not stage.member(("web", "web1")).accepts


def test_who_reads_waits_for_no_writer(tmp_path: Path) -> None:
    with FallbackStore(tmp_path / "state.db", tmp_path / "spare") as archive:
        archive.append(RevisionDraft({"web": service("web1")}, author="me", reason="first"))
        begun, gate = threading.Event(), threading.Event()

        def write() -> None:
            with archive.database.transaction():
                archive.database.write("UPDATE revisions SET reason = 'second'")
                assert archive.database.row("SELECT reason FROM revisions") == ("second",)
                begun.set()
                assert gate.wait(DEADLINE)

        writer = threading.Thread(target=write)
        writer.start()
        assert begun.wait(DEADLINE)
        during = archive.database.row("SELECT reason FROM revisions")
        gate.set()
        writer.join()

        assert during == ("first",)
        assert archive.database.row("SELECT reason FROM revisions") == ("second",)
