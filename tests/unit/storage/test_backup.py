# SPDX-License-Identifier: Apache-2.0
"""What a backup took is what a restore puts back, and nothing else is written."""

import io
import json
import os
import sqlite3
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from xdpdirector.errors import ConflictError, InvalidRequestError, StoreError
from xdpdirector.model.access import Role
from xdpdirector.paths import InstancePaths
from xdpdirector.storage import backup
from xdpdirector.storage.offline_access import OfflineAccess
from xdpdirector.storage.store import Store

SERVICES = "interfaces: [eth0]\nservices:\n  web: {listeners: ['192.0.2.10:80/tcp']}\n"


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(backup, "ETC", tmp_path / "etc")
    (tmp_path / "etc").mkdir()
    return tmp_path / "etc"


@pytest.fixture
def configuration(etc: Path) -> Path:
    file = etc / "director.yaml"
    file.write_text(SERVICES)
    return file


@pytest.fixture
def paths() -> Iterator[InstancePaths]:
    paths = InstancePaths(f"backup-{os.getpid()}")
    yield paths
    for left in paths.state.parent.glob("*"):
        left.unlink()
    if paths.state.parent.exists():
        paths.state.parent.rmdir()


def taken(paths: InstancePaths, configuration: Path) -> bytes:
    file = io.BytesIO()
    backup.take(paths, configuration).write(file)
    return file.getvalue()


def read(content: bytes) -> backup.Backup:
    return backup.read(io.BytesIO(content), "the backup")


def tokens(paths: InstancePaths) -> list[str]:
    with OfflineAccess(paths.access) as access:
        return [each["name"] for each in access.list()["items"]]


def add_token(paths: InstancePaths, name: str) -> None:
    with OfflineAccess(paths.access) as access:
        access.add({"name": name, "role": Role.READ.value})


def begin(paths: InstancePaths) -> None:
    paths.state.parent.mkdir(parents=True)
    Store(paths.state).close()


def test_everything_comes_back(paths: InstancePaths, configuration: Path, etc: Path) -> None:
    begin(paths)
    add_token(paths, "deploy")
    paths.events.write_text("7\n")
    key = etc / "tls" / "key.pem"
    key.parent.mkdir()
    key.write_text("secret")
    key.chmod(0o640)
    configuration.write_text(
        SERVICES + f"api: {{listen: ['192.0.2.1:8443'], tls: {{certificate: {key}, key: {key}}}}}\n"
    )
    content, text = taken(paths, configuration), configuration.read_text()
    add_token(paths, "later")
    key.unlink()
    configuration.write_text(SERVICES)

    aside = backup.restore(read(content), paths, configuration, replace=True)

    assert configuration.read_text() == text
    assert (key.read_text(), key.stat().st_mode & 0o777) == ("secret", 0o640)
    assert tokens(paths) == ["deploy"]
    assert paths.events.read_text() == "7\n"
    assert {path.name.partition(".replaced-")[0] for path in aside} == {
        "director.yaml",
        "state.db",
        "access.db",
        "events",
    }
    assert all(path.exists() for path in aside)


def test_what_is_there_is_not_overwritten_unasked(paths: InstancePaths, configuration: Path) -> None:
    begin(paths)
    found = read(taken(paths, configuration))
    configuration.write_text(SERVICES + "# another\n")

    with pytest.raises(ConflictError, match="--replace"):
        backup.restore(found, paths, configuration, replace=False)

    assert configuration.read_text().endswith("# another\n")


def test_on_an_empty_machine_nothing_is_in_the_way(paths: InstancePaths, configuration: Path) -> None:
    begin(paths)
    add_token(paths, "deploy")
    found = read(taken(paths, configuration))
    configuration.unlink()
    for each in paths.state.parent.iterdir():
        each.unlink()

    assert backup.restore(found, paths, configuration, replace=False) == []
    assert tokens(paths) == ["deploy"]
    assert paths.state.parent.stat().st_mode & 0o777 == 0o700


def test_a_database_that_is_being_written_is_copied_whole(paths: InstancePaths, configuration: Path) -> None:
    begin(paths)
    with closing(sqlite3.connect(paths.state)) as database:
        database.execute("CREATE TABLE pairs (name TEXT, number INTEGER)")
        database.commit()
    ended, rounds = threading.Event(), threading.Semaphore(0)

    def write() -> None:
        with closing(sqlite3.connect(paths.state, timeout=30)) as own:
            number = 0
            while not ended.is_set():
                with own:
                    own.execute("INSERT INTO pairs VALUES ('left', ?)", (number,))
                    own.execute("INSERT INTO pairs VALUES ('right', ?)", (number,))
                number += 1
                rounds.release()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        rounds.acquire(timeout=30)
        copies = [backup.take(paths, configuration).state["state.db"] for _ in range(20)]
    finally:
        ended.set()
        writer.join()

    for copy in copies:
        with closing(sqlite3.connect(":memory:")) as found:
            found.deserialize(copy)
            sides = dict(found.execute("SELECT name, count(*) FROM pairs GROUP BY name").fetchall())
        assert sides["left"] == sides["right"] > 0


def changed(content: bytes, change: Callable[[dict[str, bytes]], None]) -> bytes:
    """The archive after a change of its members."""
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        members = {entry.name: archive.extractfile(entry).read() for entry in archive}  # type: ignore[union-attr]
    change(members)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, text in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text))
    return file.getvalue()


def listed(name: str, text: bytes) -> Callable[[dict[str, bytes]], None]:
    """Adds a member, and says so in the list of contents."""

    def change(members: dict[str, bytes]) -> None:
        contents = json.loads(members["backup.json"])
        contents["members"][name] = backup._digest(text)
        members["backup.json"], members[name] = json.dumps(contents).encode(), text

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda members: members.update({"state/state.db": b"x"}), "state/state.db is missing or damaged"),
        (lambda members: members.pop("configuration.yaml"), "configuration.yaml is missing or damaged"),
        (lambda members: members.pop("backup.json"), "is no backup"),
        (lambda members: members.update({"backup.json": b"[]"}), "is no backup"),
        (lambda members: members.update({"more": b"x"}), "more is missing or damaged"),
        (listed("more", b"x"), "unknown member more"),
        (listed("state/state.db", b"no database" * 100), "state.db"),
        (listed("state/other", b"x"), "unknown member state/other"),
        (listed("files/etc/passwd", b"x"), "/etc/passwd is not below"),
        (listed("configuration.yaml", b"interfaces: 7\n"), "interfaces"),
    ],
)
def test_what_is_not_as_it_was_is_refused(
    paths: InstancePaths,
    configuration: Path,
    change: Callable[[dict[str, bytes]], None],
    said: str,
) -> None:
    begin(paths)

    with pytest.raises(InvalidRequestError) as refused:
        read(changed(taken(paths, configuration), change))

    assert said in refused.value.detail


def test_a_path_that_leads_out_is_refused(paths: InstancePaths, configuration: Path, etc: Path) -> None:
    begin(paths)
    name = f"files{etc}/../outside"

    with pytest.raises(InvalidRequestError, match="is not below"):
        read(changed(taken(paths, configuration), listed(name, b"x")))


@pytest.mark.parametrize("length", [0, 20, 400])
def test_what_is_cut_off_is_refused(paths: InstancePaths, configuration: Path, length: int) -> None:
    begin(paths)

    with pytest.raises(InvalidRequestError):
        read(taken(paths, configuration)[:length])


def test_a_file_elsewhere_is_named_as_missing(
    paths: InstancePaths, configuration: Path, tmp_path: Path
) -> None:
    begin(paths)
    other = tmp_path / "key.pem"
    other.write_text("secret")
    configuration.write_text(
        SERVICES + f"api: {{listen: ['192.0.2.1:8443'], tls: {{certificate: {other}, key: {other}}}}}\n"
    )

    found = read(taken(paths, configuration))

    assert [*found.missing] == [str(other)]
    assert found.files == {}


def test_a_link_in_the_daemon_s_directory_is_not_followed(
    paths: InstancePaths, configuration: Path, tmp_path: Path
) -> None:
    begin(paths)
    (tmp_path / "secret").write_text("7\n")
    paths.events.symlink_to(tmp_path / "secret")

    with pytest.raises(StoreError, match="symbolic link"):
        backup.take(paths, configuration)


def test_a_database_that_stays_locked_is_not_waited_for(
    paths: InstancePaths, configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon's user could hold root's command for ever."""
    begin(paths)
    monkeypatch.setattr(backup, "PATIENCE", 0.1)
    with closing(sqlite3.connect(paths.access)) as theirs:
        theirs.execute("PRAGMA journal_mode = DELETE")
        theirs.execute("BEGIN EXCLUSIVE")

        with pytest.raises(StoreError, match="locked"):
            backup.take(paths, configuration)


def test_a_database_that_is_larger_than_a_backup_may_be_is_not_read(
    paths: InstancePaths, configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is copied in memory, and the daemon's user can make a file as large as it likes without filling it."""
    begin(paths)
    monkeypatch.setattr(backup, "LARGEST", 1 << 12)

    with pytest.raises(StoreError, match="has more than"):
        backup.take(paths, configuration)
