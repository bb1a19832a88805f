# SPDX-License-Identifier: Apache-2.0
"""What the Debian package brings along is what is locked, by version and hash."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from hashlib import sha256
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from xdpdirector.lab.errors import LabError
from xdpdirector.lab.package import lock

CHECKOUT = Path(__file__).parents[2]
TEXT = (CHECKOUT / lock.LOCK).read_text()


def project(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_what_the_project_requires_is_locked_within_its_ranges() -> None:
    document = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    requirements = [Requirement(text) for text in document["project"]["dependencies"]]
    locked = lock.pins(TEXT)

    wanted = [each for each in requirements if project(each.name) not in lock.DEBIANS]
    assert [each.name for each in wanted if project(each.name) not in locked] == []
    assert [str(each) for each in wanted if not each.specifier.contains(locked[project(each.name)])] == []


def test_each_has_a_hash_and_no_range() -> None:
    entries = re.sub(r" \\\n *", " ", TEXT).splitlines()

    pinned = re.compile(r"[a-z0-9-]+==[^ ]+( --hash=sha256:[0-9a-f]{64})+")
    assert [line for line in entries if not line.startswith("#") and not pinned.fullmatch(line)] == []


def wheel(directory: Path, name: str, content: bytes = b"PK") -> Path:
    path = directory / name
    path.write_bytes(content)
    return path


def test_the_lock_says_what_the_files_are(tmp_path: Path) -> None:
    """One that is compiled has a file for each Python."""
    files = [
        wheel(tmp_path, "google_re2-1.1-cp311-cp311-linux_x86_64.whl", b"1"),
        wheel(tmp_path, "google_re2-1.1-cp312-cp312-linux_x86_64.whl", b"2"),
        wheel(tmp_path, "h11-0.16.0-py3-none-any.whl", b"3"),
    ]

    text = lock.locked(files)

    assert lock.pins(text) == {"google-re2": "1.1", "h11": "0.16.0"}
    assert {sha256(number).hexdigest() for number in (b"1", b"2", b"3")} == set(
        re.findall("[0-9a-f]{64}", text)
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """One whose wheels are there already."""
    (tmp_path / "debian").mkdir()
    file = wheel(tmp_path, "h11-0.16.0-py3-none-any.whl")
    text = lock.locked([file])
    (tmp_path / lock.LOCK).write_text(text)
    place = tmp_path / "home" / f"wheels-{sha256(text.encode()).hexdigest()[:12]}"
    place.mkdir(parents=True)
    file.rename(place / file.name)
    return tmp_path


def test_what_was_fetched_is_kept_and_looked_at_again(checkout: Path) -> None:
    (kept,) = lock.fetched(checkout, checkout / "home", print)
    kept.write_bytes(b"another")

    with pytest.raises(LabError, match=r"is not what debian/wheels\.lock says"):
        lock.fetched(checkout, checkout / "home", print)


def test_another_lock_takes_nothing_that_was_kept(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A renewed version is fetched, by hash and nothing else."""
    asked: list[list[str]] = []
    monkeypatch.setattr(lock, "run", lambda command, *_: asked.append(list(command)))
    with (checkout / lock.LOCK).open("a") as file:
        file.write("# renewed\n")

    assert lock.fetched(checkout, checkout / "home", print) == []
    assert len(asked) == len(lock.PYTHONS)
    assert all({"--require-hashes", "--no-deps", "--only-binary=:all:"} <= set(command) for command in asked)


def test_who_cannot_ask_for_faults_is_told_how(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)

    with pytest.raises(LabError, match="pip install pip-audit"):
        lock.audit(checkout, checkout / "home")


def test_the_auditor_is_asked_for_what_is_locked(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: object())
    monkeypatch.setattr(lock, "run", lambda command, *_: asked.append(list(command)))

    said = lock.audit(checkout, checkout / "home")

    assert str(checkout / lock.LOCK) in asked[0]
    assert "no fault is known of the 1 packages" in said
