# SPDX-License-Identifier: Apache-2.0
"""The store when its file cannot be used: what is read, what is refused, what is kept aside."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest

from xdpdirector.errors import ForeignStoreError, StoreError
from xdpdirector.model import AdminState, ServiceSpec
from xdpdirector.state.admin_change import AdminChange
from xdpdirector.state.drains import Drains
from xdpdirector.state.revisions import RevisionDraft
from xdpdirector.storage.database import Format
from xdpdirector.storage.fallback import FallbackStore
from xdpdirector.storage.store import FORMAT, Store

WEB = {"web": ServiceSpec.model_validate({"listeners": ["192.0.2.10:80/tcp"]})}
MAIL = {"mail": ServiceSpec.model_validate({"listeners": ["192.0.2.10:25/tcp"]})}
KEY = ("web", "web1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lib" / "state.db"


@pytest.fixture
def spare(tmp_path: Path) -> Path:
    return tmp_path / "run" / "spare"


def fill(path: Path) -> None:
    """One revision and one drain."""
    drains = Drains()
    drains.begin(KEY, 5, AdminChange(AdminState.DRAIN, reason="new memory", deadline=60, on_deadline="cut"))
    with Store(path) as store:
        store.append(RevisionDraft(WEB, author="operator", reason="", drains=drains.running()))


def overwrite(path: Path) -> None:
    path.write_bytes(os.urandom(8192))


def damage_a_page(path: Path) -> None:
    """The header stays: it opens, and fails when it is read."""
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [overwrite, damage_a_page])
def test_a_damaged_file_is_kept_aside_and_a_new_one_begun(
    path: Path, spare: Path, damage: Callable[[Path], None]
) -> None:
    fill(path)
    damage(path)
    damaged = path.read_bytes()

    with FallbackStore(path, spare) as archive:
        before = archive.latest()
        archive.append(RevisionDraft(MAIL, author="operator", reason=""))
        after, [note] = archive.latest(), archive.notes

    [aside] = path.parent.glob("state.db.damaged-*")
    assert aside.read_bytes()[4096:] == damaged[4096:]
    assert (before, after and after.services) == (None, MAIL)
    assert str(aside) in note


def test_a_file_that_breaks_while_it_is_used_is_replaced(path: Path, spare: Path) -> None:
    fill(path)
    with FallbackStore(path, spare) as archive:
        with closing(sqlite3.connect(path)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        damage_a_page(path)

        made = archive.append(RevisionDraft(MAIL, author="operator", reason=""))
        kept, notes = archive.latest(), archive.notes

    assert kept == made
    assert "is kept as" in notes[0]


def test_no_log_of_a_damaged_file_is_taken_for_the_next_ones(path: Path, spare: Path, tmp_path: Path) -> None:
    """As a kill leaves it: the log of the last change beside the file."""
    fill(path)
    with Store(path) as store:
        store.append(RevisionDraft(WEB, author="operator", reason=""))
        for part in ("", "-wal"):
            shutil.copy(f"{path}{part}", tmp_path / f"left{part}")
    for part in ("", "-wal"):
        shutil.move(tmp_path / f"left{part}", f"{path}{part}")
    overwrite(path)

    with FallbackStore(path, spare) as archive:
        assert archive.latest() is None
        assert archive.append(RevisionDraft(MAIL, author="operator", reason="")).id == 1


def test_opening_what_a_kill_left_writes_nothing(path: Path, spare: Path, tmp_path: Path) -> None:
    """On a full disk it would fail, and end by removing the log: then there was room, and changes were stored while
    they were said to be refused."""
    log = path.with_name(path.name + "-wal")
    with Store(path) as store:
        store.append(RevisionDraft(WEB, author="operator", reason=""))
        for part in (path, log):
            shutil.copy(part, tmp_path)
    shutil.copy(tmp_path / path.name, path)
    shutil.move(tmp_path / log.name, log)
    left = path.read_bytes(), log.read_bytes()

    with FallbackStore(path, spare) as archive:
        known = archive.latest()
        assert (path.read_bytes(), log.read_bytes()) == left
    assert known
    assert known.services == WEB


def test_at_work_it_waits_for_nobody_else_for_long(path: Path, spare: Path) -> None:
    """The daemon's loop would stand, and its checks with it."""
    with FallbackStore(path, spare) as archive, closing(sqlite3.connect(path, isolation_level=None)) as other:
        assert archive.database.row("PRAGMA busy_timeout") == (50,)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="another process uses it"):
            archive.append(RevisionDraft(MAIL, author="operator", reason=""))
        other.execute("ROLLBACK")

        assert archive.append(RevisionDraft(MAIL, author="operator", reason="")).id == 1


def test_who_asks_while_another_thread_opens_it_gets_the_same(
    path: Path, spare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two stores of one file: one of them would stay open for ever, and wait for the other."""
    make_usable = make_unusable_parent(path)
    with FallbackStore(path, spare) as archive:
        make_usable()
        opened, together = [], threading.Barrier(2)

        class Slow(Store):
            def __init__(self, path: Path, *, patience: float = 5.0, form: Format = FORMAT) -> None:
                opened.append(path)
                with suppress(threading.BrokenBarrierError):
                    together.wait(0.5)  # the other thread comes, if it can
                super().__init__(path, patience=patience, form=form)

        monkeypatch.setattr("xdpdirector.storage.fallback.Store", Slow)
        with ThreadPoolExecutor(2) as threads:
            one, other = threads.map(lambda _: archive.database, range(2))

    assert one is other
    assert opened == [path]


def make_unusable_parent(path: Path) -> Callable[[], None]:
    path.parent.parent.mkdir(parents=True, exist_ok=True)
    path.parent.write_text("no directory")
    return path.parent.unlink


def make_unusable(path: Path) -> Callable[[], None]:
    """Where its log should be stands a directory; what makes it usable again. Works for root, too."""
    obstacle = path.with_name(path.name + "-wal")
    obstacle.mkdir()
    return obstacle.rmdir


def test_a_file_that_cannot_be_used_is_read_and_nothing_written(path: Path, spare: Path) -> None:
    fill(path)
    mend = make_unusable(path)

    with FallbackStore(path, spare, patience=0.01) as archive:
        known, drains = archive.latest(), archive.drains()
        with pytest.raises(StoreError, match="cannot be opened") as refused:
            archive.append(RevisionDraft(MAIL, author="operator", reason=""))
        with pytest.raises(StoreError):
            archive.try_writing()
        mend()
        archive.try_writing()
        made = archive.append(RevisionDraft(MAIL, author="operator", reason=""))

    assert known
    assert known.services == WEB
    assert (drains[KEY].reason, drains[KEY].on_deadline) == ("new memory", "cut")
    assert str(path) in refused.value.detail
    assert made.id == 2


def test_with_nothing_to_read_the_file_counts_alone(path: Path, spare: Path) -> None:
    path.parent.parent.mkdir(exist_ok=True)
    path.parent.write_text("a file where a directory should be")

    with FallbackStore(path, spare) as archive:
        assert (archive.latest(), archive.drains(), archive.summaries(before=None, limit=1)) == (None, {}, [])
        with pytest.raises(StoreError):
            archive.append(RevisionDraft(WEB, author="operator", reason=""))


def test_somebody_elses_file_stays_where_it_is(path: Path, spare: Path) -> None:
    fill(path)
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 99")

    with pytest.raises(ForeignStoreError):
        FallbackStore(path, spare)

    assert [*path.parent.glob("*damaged*")] == []


@pytest.mark.parametrize("umask", [0, 0o022], ids=oct)
def test_the_copy_is_for_nobody_else_and_goes(path: Path, spare: Path, umask: int) -> None:
    fill(path)
    mend = make_unusable(path)
    before = os.umask(umask)
    try:
        with FallbackStore(path, spare, patience=0.01) as archive:
            modes = {stat.S_IMODE(each.stat().st_mode) for each in spare.iterdir()}
            of_directory = stat.S_IMODE(spare.stat().st_mode)
            mend()
            archive.try_writing()
            after_mending = spare.exists()
            assert archive.latest()
    finally:
        os.umask(before)

    assert (modes, of_directory) == ({0o600}, 0o700)
    assert not after_mending


def test_the_copy_goes_at_the_end(path: Path, spare: Path) -> None:
    fill(path)
    make_unusable(path)

    with FallbackStore(path, spare, patience=0.01):
        there = spare.exists()

    assert (there, spare.exists()) == (True, False)


@pytest.mark.parametrize("left", ["a copy", "a link"])
def test_what_a_killed_daemon_or_somebody_left_goes_and_is_not_followed(
    path: Path, spare: Path, tmp_path: Path, left: str
) -> None:
    fill(path)
    make_unusable(path)
    victims = tmp_path / "victims"
    victims.mkdir()
    spare.parent.mkdir(exist_ok=True)
    if left == "a link":
        spare.symlink_to(victims)
    else:
        spare.mkdir()
        (spare / path.name).symlink_to(victims / "victim")

    with FallbackStore(path, spare, patience=0.01) as archive:
        assert archive.latest()

    assert list(victims.iterdir()) == []
    assert not spare.is_symlink()
