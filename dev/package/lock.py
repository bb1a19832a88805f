# SPDX-License-Identifier: Apache-2.0
"""debian/wheels.lock: the Python packages that the Debian package brings along, each with its version and hashes;
and docs/site/requirements.lock, the same of what builds the site.

What is built is what somebody looked at: nothing comes by a version range, and no index can exchange a file. The
hashes are those of all machines that the package serves, on whichever it was renewed. So somebody has to renew it:
`renew` takes the newest versions that pyproject.toml admits, `audit` asks which of them have known faults, and
fails where nobody knows. Knows pip and its files; nothing of Debian's.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from dev.package.running import run
from dev.vm.architecture import of_machine
from xdpdirector.lab.errors import LabError

LOCK = Path("debian/wheels.lock")
PYTHONS = ("3.11", "3.12", "3.13")
"""The releases that the package serves, the oldest first: debian/control and debian/rules name the same."""
MACHINES = ("x86_64", "aarch64")
"""amd64 and arm64, as the names of wheels have them: debian/control has the same."""
DEBIANS = ("numpy", "rich", "markdown-it-py", "mdurl", "pygments", "ruamel-yaml-clib")
"""Wheels that are left out: Debian's packages do, or nobody asks for them. The first two are in debian/control."""
SITE = Path("docs/site/requirements.in")
"""What builds the site; its lock stands beside it."""
AUDITOR = "pip_audit"
_FETCHING = 600.0  # seconds
_HEAD = "# SPDX-License-Identifier: Apache-2.0\n"
_PACKAGED = (
    _HEAD
    + """\
# What the Debian package brings along besides Debian's own. Made by `./lab package --renew`; see docs/packages.md.
"""
)
_OF_THE_SITE = (
    _HEAD
    + """\
# What builds the site of the documents. Made by `./lab package --renew` out of requirements.in.
"""
)
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
    """Both locks: the newest that pyproject.toml and requirements.in admit."""
    requirements = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]["dependencies"]
    _renew(checkout / LOCK, requirements, home, say, left_out=DEBIANS, head=_PACKAGED)
    lines = (checkout / SITE).read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    _renew((checkout / SITE).with_suffix(".lock"), wanted, home, say, head=_OF_THE_SITE)
    say("the locks are renewed: look at what changed, and run the tests")


def _renew(
    lock: Path,
    requirements: Sequence[str],
    home: Path,
    say: Callable[[str], None],
    *,
    head: str,
    left_out: Sequence[str] = (),
) -> None:
    """The versions are those of the oldest Python; of a compiled package there is a wheel for each Python and
    machine."""
    before = pins(lock.read_text()) if lock.exists() else {}
    place = _emptied(home / "wheels.renewed")
    _fetch(PYTHONS[0], requirements, place, home)
    versions = ["==".join(_named(path)) for path in sorted(place.glob("*.whl"))]
    ours = [version for version in versions if version.partition("==")[0] not in left_out]
    for machine in MACHINES:
        for python in PYTHONS:
            _fetch(python, ["--no-deps", *of_machine(machine), *ours], place, home)
    text = locked((path for path in place.glob("*.whl") if _named(path)[0] not in left_out), head)
    lock.write_text(text)
    shutil.rmtree(place)
    for project, version in pins(text).items():
        if before.get(project) != version:
            say(f"{project} {before.get(project, 'none')} -> {version}")


def audit(checkout: Path, home: Path) -> str:
    """What is known of the locked versions. LabError when one has a known fault, and when nothing could be learned
    of one: an index that is asked need not have the data, and says nothing then."""
    if importlib.util.find_spec(AUDITOR) is None:
        raise LabError("the auditor is missing: pip install pip-audit (it asks PyPI for known faults)")
    report = home / "audit.json"
    report.unlink(missing_ok=True)
    failure: LabError | None = None
    try:
        run(audit_command(checkout, report), home / "audit.log", _FETCHING)
    except LabError as error:  # so does a known fault end; then there is a report
        failure = error
    try:
        found = json.loads(report.read_text())["dependencies"]
    except (OSError, ValueError, KeyError):
        raise LabError(
            f"no data on known faults was to be had: is PyPI within reach? Nothing is audited. {failure or ''}"
        ) from failure
    return judged(pins((checkout / LOCK).read_text()), found)


def judged(locked: Mapping[str, str], found: Sequence[Mapping[str, Any]]) -> str:
    """The sentence about what pip-audit `found`. LabError, see `audit`."""
    asked = {each["name"]: each for each in found if "skip_reason" not in each}
    unknown = sorted(project for project in locked if project not in asked)
    faults = [
        f"{name} {each['version']} has {fault['id']}"
        + (f", mended in {' or '.join(fault['fix_versions'])}" if fault.get("fix_versions") else "")
        for name, each in sorted(asked.items())
        for fault in each.get("vulns", ())
    ]
    if unknown:
        faults.append(
            f"of {len(unknown)} of {len(locked)} packages no data on faults was to be had, so that they are not "
            f"audited: {', '.join(unknown)}"
        )
    if faults:
        raise LabError("; ".join(faults))
    return f"no fault is known of the {len(locked)} packages in {LOCK}"


def audit_command(checkout: Path, report: Path) -> list[str]:
    """It installs and resolves nothing: what is locked is what is asked for."""
    return [
        *(sys.executable, "-m", AUDITOR, "--requirement", str(checkout / LOCK)),
        *("--require-hashes", "--disable-pip", "--progress-spinner", "off"),
        *("--format", "json", "--output", str(report)),
    ]


def locked(wheels: Iterable[Path], head: str = _PACKAGED) -> str:
    """The lock's text for these files."""
    hashes: dict[tuple[str, str], set[str]] = {}
    for path in wheels:
        hashes.setdefault(_named(path), set()).add(_digest(path))
    lines = []
    for (project, version), digests in sorted(hashes.items()):
        each = [f"{project}=={version}", *(f"    --hash=sha256:{digest}" for digest in sorted(digests))]
        lines.append(" \\\n".join(each))
    return head + "\n".join(lines) + "\n"


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
