# SPDX-License-Identifier: Apache-2.0
"""What the Debian package brings along is what is locked, by version and hash."""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib
from hashlib import sha256
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from dev.package import lock
from xdpdirector.lab.errors import LabError

CHECKOUT = Path(__file__).parents[3]
TEXT = (CHECKOUT / lock.LOCK).read_text()
OF_THE_SITE = (CHECKOUT / lock.SITE).with_suffix(".lock").read_text()


def project(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_what_the_project_requires_is_locked_within_its_ranges() -> None:
    document = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    requirements = [Requirement(text) for text in document["project"]["dependencies"]]
    locked = lock.pins(TEXT)

    wanted = [each for each in requirements if project(each.name) not in lock.DEBIANS]
    assert [each.name for each in wanted if project(each.name) not in locked] == []
    assert [str(each) for each in wanted if not each.specifier.contains(locked[project(each.name)])] == []


def test_what_builds_the_site_is_locked_within_its_ranges() -> None:
    lines = (CHECKOUT / lock.SITE).read_text().splitlines()
    requirements = [Requirement(line) for line in lines if not line.startswith("#")]
    locked = lock.pins(OF_THE_SITE)

    assert len(requirements) >= 3
    assert [str(each) for each in requirements if not each.specifier.contains(locked[each.name])] == []


@pytest.mark.parametrize("text", [TEXT, OF_THE_SITE], ids=["package", "site"])
def test_each_has_a_hash_and_no_range(text: str) -> None:
    entries = re.sub(r" \\\n *", " ", text).splitlines()

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


def report(monkeypatch: pytest.MonkeyPatch, found: object, *, fails: bool = False) -> list[list[str]]:
    """pip-audit writes that; None: nothing. What it was asked."""
    asked: list[list[str]] = []

    def answer(command: list[str], *_: object) -> None:
        asked.append(list(command))
        if found is not None:
            Path(command[command.index("--output") + 1]).write_text(json.dumps({"dependencies": found}))
        if fails:
            raise LabError("pip-audit failed: no such host")

    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: object())
    monkeypatch.setattr(lock, "run", answer)
    return asked


def test_the_auditor_is_asked_for_what_is_locked(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = report(monkeypatch, [{"name": "h11", "version": "0.16.0", "vulns": []}])

    said = lock.audit(checkout, checkout / "home")

    assert str(checkout / lock.LOCK) in asked[0]
    assert "no fault is known of the 1 packages" in said


def test_a_known_fault_is_told(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = {"id": "PYSEC-1", "fix_versions": ["0.17.0"]}
    report(monkeypatch, [{"name": "h11", "version": "0.16.0", "vulns": [fault]}], fails=True)

    with pytest.raises(LabError, match=r"^h11 0\.16\.0 has PYSEC-1, mended in 0\.17\.0$"):
        lock.audit(checkout, checkout / "home")


@pytest.mark.parametrize("found", [[{"name": "h11", "skip_reason": "not found on PyPI"}], []])
def test_what_nobody_knows_of_is_not_audited(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, found: object
) -> None:
    """pip-audit ends well then, and says that there is no known vulnerability."""
    report(monkeypatch, found)

    with pytest.raises(LabError, match=r"of 1 of 1 packages no data on faults was to be had.*: h11$"):
        lock.audit(checkout, checkout / "home")


def test_an_index_out_of_reach_is_no_clean_bill(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report(monkeypatch, None, fails=True)

    with pytest.raises(LabError, match=r"no data on known faults was to be had.*no such host"):
        lock.audit(checkout, checkout / "home")


def test_the_machines_of_the_package_are_locked() -> None:
    """What is compiled has a wheel for each Python and machine; debian/control names those."""
    control = (CHECKOUT / "debian/control").read_text()
    entries = re.sub(r" \\\n *", " ", TEXT).splitlines()
    counts = {line.partition("==")[0]: line.count("--hash") for line in entries if "==" in line}

    assert "Architecture: amd64 arm64" in control
    assert {*counts.values()} == {1, len(lock.PYTHONS) * len(lock.MACHINES)}
    assert counts["pydantic-core"] == counts["google-re2"] == len(lock.PYTHONS) * len(lock.MACHINES)


def test_a_renewal_asks_for_each_machine(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    (checkout / "pyproject.toml").write_text('[project]\ndependencies = ["h11"]\n')
    (checkout / lock.SITE).parent.mkdir(parents=True)
    (checkout / lock.SITE).write_text("# A comment.\nh11\n")

    def fetch(command: list[str], *_: object) -> None:
        asked.append(list(command))
        wheel(Path(command[command.index("--dest") + 1]), "h11-0.17.0-py3-none-any.whl")

    monkeypatch.setattr(lock, "run", fetch)

    lock.renew(checkout, checkout / "home", print)

    locks = (checkout / lock.LOCK, (checkout / lock.SITE).with_suffix(".lock"))
    assert [lock.pins(path.read_text()) for path in locks] == [{"h11": "0.17.0"}] * 2
    for machine in lock.MACHINES:
        times = sum(f"manylinux_2_28_{machine}" in command for command in asked)
        assert times == len(lock.PYTHONS) * len(locks)
