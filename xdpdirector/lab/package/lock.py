# SPDX-License-Identifier: Apache-2.0
"""debian/wheels.lock: the Python packages that the Debian package brings along, each with its version and hashes.

What is built is what somebody looked at: nothing comes by a version range, and no index can exchange a file. So
somebody has to renew it: `renew` takes the newest versions that pyproject.toml admits, `audit` asks which of them
have known faults. Knows pip and its files; nothing of Debian's.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from pathlib import Path

from xdpdirector.lab.errors import LabError
from xdpdirector.lab.package.running import run

LOCK = Path("debian/wheels.lock")
PYTHONS = ("3.11", "3.12", "3.13")
"""The releases that the package serves, the oldest first: debian/control and debian/rules name the same."""
DEBIANS = ("numpy", "rich", "markdown-it-py", "mdurl", "pygments", "ruamel-yaml-clib")
"""Wheels that are left out: Debian's packages do, or nobody asks for them. The first two are in debian/control."""
AUDITOR = "pip_audit"
_FETCHING = 600.0  # seconds
_HEAD = """\
# SPDX-License-Identifier: Apache-2.0
# What the Debian package brings along besides Debian's own. Made by `./lab package --renew`; see docs/packages.md.
"""
_PIN = re.compile(r"^([a-z0-9.-]+)==([^\\ ]+)", re.MULTILINE)


def pins(text: str) -> dict[str, str]:
    """Versions by project."""
    return dict(_PIN.findall(text))


def fetched(checkout: Path, home: Path, say: Callable[[str], None]) -> list[Path]:
    """The wheels that are locked, of each release of Python; kept for next time, while the lock is the same."""
    lock = checkout / LOCK
    text = lock.read_text()
    place = home / f"wheels-{sha256(text.encode()).hexdigest()[:12]}"
    if not place.is_dir():
        say("fetching the Python packages")
        unfinished = _emptied(home / "wheels.new")
        for python in PYTHONS:
            _fetch(python, ["--require-hashes", "--no-deps", "--requirement", str(lock)], unfinished, home)
        unfinished.rename(place)
    found = sorted(place.glob("*.whl"))
    for path in found:
        if f"--hash=sha256:{_digest(path)}" not in text:
            raise LabError(f"{path} is not what {LOCK} says: remove {place}")
    return found


def renew(checkout: Path, home: Path, say: Callable[[str], None]) -> None:
    """The newest that pyproject.toml admits. The versions are those of the oldest Python; of a compiled package
    there is a wheel for each Python, for machines like this one."""
    requirements = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]["dependencies"]
    before = pins((checkout / LOCK).read_text()) if (checkout / LOCK).exists() else {}
    place = _emptied(home / "wheels.renewed")
    _fetch(PYTHONS[0], requirements, place, home)
    versions = ["==".join(_named(path)) for path in sorted(place.glob("*.whl"))]
    for python in PYTHONS[1:]:
        _fetch(python, ["--no-deps", *versions], place, home)
    text = locked(path for path in place.glob("*.whl") if _named(path)[0] not in DEBIANS)
    (checkout / LOCK).write_text(text)
    shutil.rmtree(place)
    for project, version in pins(text).items():
        if before.get(project) != version:
            say(f"{project} {before.get(project, 'none')} -> {version}")
    say(f"{LOCK} is renewed: look at what changed, and run the tests")


def audit(checkout: Path, home: Path) -> str:
    """What is known of the locked versions. LabError when one has a known fault, or nobody can be asked."""
    if importlib.util.find_spec(AUDITOR) is None:
        raise LabError("the auditor is missing: pip install pip-audit (it asks PyPI, or OSV with `--osv`)")
    run(audit_command(checkout), home / "audit.log", _FETCHING)
    return f"no fault is known of the {len(pins((checkout / LOCK).read_text()))} packages in {LOCK}"


def audit_command(checkout: Path) -> list[str]:
    """It installs and resolves nothing: what is locked is what is asked for."""
    return [
        *(sys.executable, "-m", AUDITOR, "--requirement", str(checkout / LOCK)),
        *("--require-hashes", "--disable-pip", "--progress-spinner", "off"),
    ]


def locked(wheels: Iterable[Path]) -> str:
    """The lock's text for these files."""
    hashes: dict[tuple[str, str], set[str]] = {}
    for path in wheels:
        hashes.setdefault(_named(path), set()).add(_digest(path))
    lines = []
    for (project, version), digests in sorted(hashes.items()):
        each = [f"{project}=={version}", *(f"    --hash=sha256:{digest}" for digest in sorted(digests))]
        lines.append(" \\\n".join(each))
    return _HEAD + "\n".join(lines) + "\n"


def _fetch(python: str, what: Sequence[str], place: Path, home: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--quiet"]
    wheels = ["--only-binary=:all:", "--python-version", python, "--dest", str(place)]
    run([*pip, *wheels, *what], home / "fetch.log", _FETCHING)


def _named(path: Path) -> tuple[str, str]:
    """A wheel's project, as the index writes it (PEP 503), and its version (PEP 427)."""
    project, version = path.name.split("-")[:2]
    return re.sub(r"[-_.]+", "-", project).lower(), version


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def _emptied(directory: Path) -> Path:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory
