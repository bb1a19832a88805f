# SPDX-License-Identifier: Apache-2.0
"""Builds the Debian packages: wheels are fetched, laid beside debian/ in a copy, and debhelper does the rest.

Knows nothing of what stands in debian/, but that its rules want wheels/ and contrib/.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from xdpdirector.lab.errors import LabError
from xdpdirector.lab.vm.parcel import wheel
from xdpdirector.lab.vm.workshop import workshop

DEBIANS = ("numpy", "rich", "markdown-it-py", "mdurl", "pygments", "ruamel-yaml-clib")
"""Wheels that are left out: Debian's packages do, or nobody asks for them. The first two are in debian/control."""
PYTHONS = ("3.11", "3.12", "3.13")
"""The releases that the package serves, the oldest first: debian/control and debian/rules name the same."""
PARTS = ("debian", "contrib", "docs", "README.md")
OUTPUT = "dist"
_SURE = {"LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": "0"}
_BUILDING, _CHECKING = 600.0, 300.0  # seconds


def build(checkout: Path, say: Callable[[str], None]) -> list[Path]:
    """The packages, in `checkout`/dist. LabError with the builder's last words."""
    home = checkout / ".lab" / "package"
    wheels = _fetched(checkout, home, say)
    with workshop(home) as work:
        source = work / "xdpdirector"
        source.mkdir()
        for part in PARTS:
            copy = shutil.copytree if (checkout / part).is_dir() else shutil.copy
            copy(checkout / part, source / part)
        say("building the packages")
        (source / "wheels").mkdir()
        for found in [*wheels, wheel(checkout, _made(work / "own"))]:
            shutil.copy(found, source / "wheels")
        run(
            ["dpkg-buildpackage", "--build=binary", "--no-sign", "--no-check-builddeps"],
            home / "build.log",
            _BUILDING,
            cwd=source,
        )
        return [
            Path(shutil.copy(found, _made(checkout / OUTPUT)))
            for pattern in ("*.deb", "*.changes", "*.buildinfo")
            for found in sorted(work.glob(pattern))
        ]


def check(checkout: Path, built: Sequence[Path]) -> None:
    """LabError when lintian finds an error in the packages."""
    changes = [str(path) for path in built if path.suffix == ".changes"]
    log = checkout / ".lab" / "package" / "lintian.log"
    run(["lintian", "--allow-root", "--fail-on=error", "--tag-display-limit=0", *changes], log, _CHECKING)


def run(command: Sequence[str], log: Path, patience: float, cwd: Path | None = None) -> None:
    """With its output in `log`. LabError with the end of it."""
    with log.open("w") as output:
        try:
            status = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=_environment(os.environ),
                timeout=patience,
                check=False,
            ).returncode
        except FileNotFoundError as error:
            raise LabError(
                f"the command '{command[0]}' is missing: apt-get install debhelper lintian"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise LabError(f"'{command[0]}' did not end within {patience:g} s (see {log})") from error
    if status:
        words = "\n".join(log.read_text(errors="replace").strip().splitlines()[-15:])
        raise LabError(f"'{command[0]}' ended with status {status} (all of it: {log}):\n{words}")


def _environment(present: Mapping[str, str]) -> dict[str, str]:
    """Debian's own Python builds, not that of a virtual environment."""
    path = [each for each in present.get("PATH", "").split(os.pathsep) if not _in_environment(each)]
    return {**present, **_SURE, "PATH": os.pathsep.join(path)}


def _in_environment(directory: str) -> bool:
    return (Path(directory).parent / "pyvenv.cfg").exists()


def _fetched(checkout: Path, home: Path, say: Callable[[str], None]) -> list[Path]:
    """What the project requires and Debian has not, by pip within pyproject.toml's ranges; kept for next time.

    The versions are those of the oldest Python; of a compiled package there is a wheel for each Python.
    """
    requirements = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]["dependencies"]
    digest = sha256("\n".join([*PYTHONS, *requirements]).encode()).hexdigest()[:12]
    place = home / f"wheels-{digest}"
    if not place.is_dir():
        say("fetching the Python packages")
        unfinished = home / "wheels.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        _fetch(PYTHONS[0], requirements, _made(unfinished), home / "fetch.log")
        versions = [_pinned(path) for path in sorted(unfinished.glob("*.whl"))]
        for python in PYTHONS[1:]:
            _fetch(python, versions, unfinished, home / "fetch.log")
        unfinished.rename(place)
    return [path for path in sorted(place.glob("*.whl")) if _project(path) not in DEBIANS]


def _fetch(python: str, requirements: Sequence[str], place: Path, log: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--quiet"]
    wheels = ["--only-binary=:all:", "--python-version", python, "--dest", str(place)]
    run([*pip, *wheels, *requirements], log, _BUILDING)


def _pinned(wheel: Path) -> str:
    """The requirement of this very version (PEP 427: a wheel's name begins with project and version)."""
    project, version = wheel.name.split("-")[:2]
    return f"{project}=={version}"


def _project(path: Path) -> str:
    """A wheel's project, as the index writes it (PEP 503)."""
    return path.name.split("-")[0].replace("_", "-").replace(".", "-").lower()


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory
