# SPDX-License-Identifier: Apache-2.0
"""What the guest gets of a checkout: the package as a wheel, as a user would install it, and the tests."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from xdpdirector.lab.errors import LabError

PACKAGE = ("xdpdirector", "api", "bpf")
FILES = ("pyproject.toml", "README.md")
SOURCES = ("tests", "dev", "bpf", "examples", "contrib")
_BUILT = ("__pycache__", "*.egg-info", "build", "dist")


def parcel(checkout: Path, work: Path) -> bytes:
    """A tar archive: one wheel, what proves it (`SOURCES`; bpf/ with the baselines) and pyproject.toml; `work` is
    an empty directory to build the wheel in.

    LabError when the wheel cannot be built.
    """
    built = wheel(checkout, work)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(built, built.name, filter=_plain)
        for folder in SOURCES:
            archive.add(checkout / folder, folder, filter=_plain)
        archive.add(checkout / FILES[0], FILES[0], filter=_plain)
    return buffer.getvalue()


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Root's, and without what Python leaves behind."""
    if "__pycache__" in member.name.split("/"):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def wheel(checkout: Path, directory: Path) -> Path:
    """The package's, in `directory`. Built from a copy: a build leaves files that the next one would pick up.

    LabError when it cannot be built.
    """
    copy = directory / "checkout"
    copy.mkdir()
    for file in FILES:
        shutil.copy(checkout / file, copy)
    for package in PACKAGE:
        shutil.copytree(checkout / package, copy / package, ignore=shutil.ignore_patterns(*_BUILT))
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-index"]
    command += ["--no-deps", "--no-build-isolation", "--wheel-dir", str(directory), str(copy)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    wheels = list(directory.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise LabError(f"the package's wheel could not be built: {done.stderr.strip()[-2000:]}")
    return wheels[0]
