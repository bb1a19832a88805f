# SPDX-License-Identifier: Apache-2.0
"""Files that are written in one step: what somebody else prepared under the temporary name is not written into."""

import os
from pathlib import Path

import pytest

from xdpdirector.system import files

OLD, NEW = b"what was there", b"secrets"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file, and beside it the name that a new one has until it is complete."""
    path = tmp_path / "backup.tar.gz"
    path.write_bytes(OLD)
    return path


def unfinished(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def write(path: Path) -> None:
    with files.replacing(path, 0o600) as file:
        file.write(NEW)


def break_off(path: Path) -> None:
    with files.replacing(path) as file:
        file.write(NEW)
        raise ValueError("no more")


def test_a_file_that_was_prepared_does_not_get_the_content(path: Path) -> None:
    unfinished(path).touch(0o666)
    with unfinished(path).open("rb") as theirs:
        write(path)

        assert theirs.read() == b""
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (NEW, 0o600)


def test_a_fifo_is_not_waited_for(path: Path) -> None:
    os.mkfifo(unfinished(path))

    write(path)

    assert path.read_bytes() == NEW


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(OLD)
    unfinished(path).symlink_to(tmp_path / "elsewhere")

    write(path)

    assert (tmp_path / "elsewhere").read_bytes() == OLD
    assert not path.is_symlink()


def test_what_is_not_complete_replaces_nothing(path: Path) -> None:
    with pytest.raises(ValueError, match="no more"):
        break_off(path)

    assert path.read_bytes() == OLD
    assert not unfinished(path).exists()
