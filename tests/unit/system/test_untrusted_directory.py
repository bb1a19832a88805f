# SPDX-License-Identifier: Apache-2.0
"""What root does in a directory of another user: whom it is not led to by links, FIFOs and exchanges."""

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from xdpdirector.system import untrusted_directory

NOBODY = 65534
SECRET = "root's own"
ROUNDS = [50, pytest.param(1000, marks=pytest.mark.soak)]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A directory of another user's, in one of ours."""
    path = tmp_path / "ours" / "theirs"
    path.mkdir(parents=True)
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    return path


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that is none of theirs."""
    path = tmp_path / "secrets" / "secret"
    path.parent.mkdir()
    path.write_text(SECRET)
    path.chmod(0o600)
    return path


def as_the_directory(path: Path) -> None:
    """Its owner makes the file."""
    if os.geteuid() == 0:
        os.chown(path, path.parent.stat().st_uid, path.parent.stat().st_gid)


def plant_link(place: Path, secret: Path) -> None:
    place.symlink_to(secret)


def plant_dangling_link(place: Path, secret: Path) -> None:
    place.symlink_to(secret.with_name("profile"))


def plant_hard_link(place: Path, secret: Path) -> None:
    place.hardlink_to(secret)


def plant_fifo(place: Path, _secret: Path) -> None:
    os.mkfifo(place)


PLANTS = [plant_link, plant_dangling_link, plant_hard_link, plant_fifo]
Plant = Callable[[Path, Path], None]


def names(secret: Path) -> list[str]:
    return sorted(path.name for path in secret.parent.iterdir())


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR | os.O_CREAT], ids=["to read", "to make it"])
def test_nothing_but_a_plain_file_is_opened(theirs: Path, secret: Path, plant: Plant, flags: int) -> None:
    plant(theirs / "file", secret)

    with pytest.raises(OSError, match=r".") as refused, untrusted_directory.opened(theirs / "file", flags):
        pass

    assert refused.value.errno in (errno.ELOOP, errno.EINVAL, errno.EMLINK)
    assert (secret.read_text(), names(secret)) == (SECRET, ["secret"])


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("name", ["file", "file.new"])
def test_what_is_written_goes_nowhere_else(theirs: Path, secret: Path, plant: Plant, name: str) -> None:
    """Also by the name that it has until it is whole."""
    plant(theirs / name, secret)

    with untrusted_directory.directory(theirs) as place:
        untrusted_directory.write(place, "file", b"ours", 0o644)

    assert (theirs / "file").read_text() == "ours"
    assert stat.S_IMODE((theirs / "file").lstat().st_mode) == 0o644
    assert (secret.read_text(), names(secret)) == (SECRET, ["secret"])


@pytest.mark.parametrize("plant", PLANTS)
def test_what_is_removed_is_the_link(theirs: Path, secret: Path, plant: Plant) -> None:
    plant(theirs / "file", secret)

    with untrusted_directory.directory(theirs) as place:
        untrusted_directory.remove(place, "file")

    assert list(theirs.iterdir()) == []
    assert secret.read_text() == SECRET


def test_a_file_that_grows_without_end_is_not_read(theirs: Path) -> None:
    (theirs / "file").write_text("x" * 11)
    as_the_directory(theirs / "file")

    with pytest.raises(OSError, match="more than 10 octets"):
        untrusted_directory.read(theirs / "file", 10)


@as_root
@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("folder", [".", "spare"])
def test_what_is_not_theirs_is_not_given(theirs: Path, secret: Path, plant: Plant, folder: str) -> None:
    (theirs / folder).mkdir(exist_ok=True)
    (theirs / folder / "plain").touch()
    as_the_directory(theirs / folder / "plain")
    plant(theirs / folder / "planted", secret)

    untrusted_directory.give(theirs, NOBODY, NOBODY, 0o700)

    assert secret.stat().st_uid == 0
    assert {path.stat().st_uid for path in (theirs, theirs / folder, theirs / folder / "plain")} == {NOBODY}
    assert stat.S_IMODE(theirs.stat().st_mode) == 0o700


@as_root
def test_a_file_of_root_s_in_their_directory_is_left_alone(theirs: Path) -> None:
    """It may have come there by a hard link whose other name is gone by the time that names are counted."""
    (theirs / "file").write_text(SECRET)

    untrusted_directory.give(theirs, NOBODY, NOBODY, 0o700)

    assert (theirs / "file").stat().st_uid == 0
    with (
        pytest.raises(PermissionError, match="another user"),
        untrusted_directory.opened(theirs / "file", os.O_RDWR | os.O_CREAT),
    ):
        pass


@as_root
def test_what_root_makes_there_is_theirs(theirs: Path) -> None:
    with untrusted_directory.opened(theirs / "lock", os.O_RDWR | os.O_CREAT):
        pass
    with untrusted_directory.directory(theirs) as place:
        untrusted_directory.write(place, "file", b"content")

    assert {path.stat().st_uid for path in theirs.iterdir()} == {NOBODY}


@as_root
@pytest.mark.parametrize("plant", [plant_link, plant_dangling_link, plant_fifo])
def test_what_root_takes_back_leads_nowhere(theirs: Path, secret: Path, plant: Plant) -> None:
    """Root's own links stay: the state may stand elsewhere."""
    plant(theirs / "planted", secret)
    os.chown(theirs / "planted", NOBODY, NOBODY, follow_symlinks=False)
    (theirs / "plain").touch()
    as_the_directory(theirs / "plain")
    (theirs / "roots").symlink_to(secret)

    untrusted_directory.give(theirs, 0, 0, 0o755)

    assert {path.name for path in theirs.iterdir()} == {"plain", "roots"}
    assert {theirs.stat().st_uid, (theirs / "plain").stat().st_uid} == {0}
    assert secret.read_text() == SECRET


@as_root
@pytest.mark.parametrize(
    ("owner", "group", "mode"),
    [(NOBODY, 0, 0o755), (0, NOBODY, 0o775), (0, 0, 0o1777)],
    ids=["another's", "a group's", "all's"],
)
def test_root_does_nothing_where_others_could_exchange_the_directory(
    theirs: Path, owner: int, group: int, mode: int
) -> None:
    os.chown(theirs.parent, owner, group)
    theirs.parent.chmod(mode)

    with pytest.raises(PermissionError), untrusted_directory.directory(theirs):
        pass


@as_root
@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_what_others_can_write_is_not_believed(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "layouts"
    with untrusted_directory.own_directory(path, make=True):
        pass
    os.chown(path, 0, NOBODY)
    path.chmod(mode)

    with pytest.raises(PermissionError), untrusted_directory.own_directory(path):
        pass


@as_root
@pytest.mark.parametrize("umask", [0o077, 0], ids=oct)
def test_what_is_made_can_be_read_by_all_and_written_by_root(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with untrusted_directory.own_directory(tmp_path / "run" / "layouts", make=True) as place:
            untrusted_directory.write(place, "layout.json", b"{}", 0o644)
    finally:
        os.umask(before)

    paths = [tmp_path / "run", tmp_path / "run/layouts", tmp_path / "run/layouts/layout.json"]
    assert [oct(stat.S_IMODE(path.stat().st_mode)) for path in paths] == ["0o755", "0o755", "0o644"]


EXCHANGE = """
import os, shutil, sys
from contextlib import suppress
place, secret, kinds = sys.argv[1], sys.argv[2], sys.argv[3].split(",")
def directory(path):
    os.mkdir(path)
    open(f"{path}/secret", "w").close()
SHAPES = {
    "directory": directory,
    "file": lambda path: open(path, "w").close(),
    "link": lambda path: os.symlink(secret, path),
    "link to the directory": lambda path: os.symlink(os.path.dirname(secret), path),
    "hard link": lambda path: os.link(secret, path),
    "fifo": os.mkfifo,
}
def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(FileNotFoundError):
            os.unlink(path)
made, old = f"{place}.made", f"{place}.old"
while True:
    for kind in kinds:
        remove(made)
        remove(old)
        SHAPES[kind](made)
        with suppress(FileNotFoundError):  # root may have been quicker
            os.rename(place, old)
        with suppress(OSError):
            os.rename(made, place)
        os.write(1, b".")
"""


@contextmanager
def exchanging(place: Path, secret: Path, *kinds: str) -> Iterator[Callable[[], int]]:
    """One thing after the other has that name, as quick as another process can, while the block lasts; how
    often it happened since it was asked last.
    """
    command = [sys.executable, "-c", EXCHANGE, str(place), str(secret), ",".join(kinds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            yield lambda: len(os.read(child.stdout.fileno(), 65536))  # type: ignore[union-attr]
            assert child.poll() is None
        finally:
            child.kill()


@as_root
@pytest.mark.parametrize("rounds", ROUNDS)
def test_nobody_wins_a_race_for_a_directory(theirs: Path, secret: Path, rounds: int) -> None:
    """A directory with a file is exchanged for a link to root's directory, in which there is one of that name."""
    exchanged = 0
    with exchanging(theirs / "spare", secret, "directory", "link to the directory") as since:
        for _ in range(rounds):
            exchanged += since()
            untrusted_directory.give(theirs, NOBODY, NOBODY, 0o755)

    assert exchanged >= rounds
    assert (secret.stat().st_uid, secret.parent.stat().st_uid) == (0, 0)


@as_root
@pytest.mark.parametrize("rounds", ROUNDS)
def test_nobody_wins_a_race_for_a_file(theirs: Path, secret: Path, rounds: int) -> None:
    exchanged = 0
    with exchanging(theirs / "file", secret, "file", "link", "hard link", "fifo") as since:
        for _ in range(rounds):
            exchanged += since()
            untrusted_directory.give(theirs, NOBODY, NOBODY, 0o755)
            with (
                suppress(OSError),
                untrusted_directory.opened(theirs / "file", os.O_RDWR | os.O_CREAT) as found,
            ):
                os.ftruncate(found, 0)

    assert exchanged >= rounds
    assert (secret.stat().st_uid, secret.read_text()) == (0, SECRET)


@as_root
@pytest.mark.parametrize("rounds", ROUNDS)
def test_nobody_wins_a_race_for_what_is_written(theirs: Path, secret: Path, rounds: int) -> None:
    """Neither at the name that it gets nor at the one that it has until it is whole."""
    exchanged = 0
    with exchanging(theirs / "file.new", secret, "file", "link", "hard link", "fifo") as since:
        for _ in range(rounds):
            exchanged += since()
            with suppress(OSError), untrusted_directory.directory(theirs) as place:
                untrusted_directory.write(place, "file", b"ours")

    assert exchanged >= rounds
    assert secret.read_text() == SECRET
