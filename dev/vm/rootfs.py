# SPDX-License-Identifier: Apache-2.0
"""A Debian system as a directory, from its packages. Knows nothing of disks and of who logs in."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from dev.vm.architecture import of_machine
from dev.vm.build_dir import Runner
from dev.vm.recipe import PYTHONS, Recipe

ENVIRONMENT = Path("/opt/xdpdirector")  # the guest's virtual environment
_WHEELS = "opt/wheels"


class RootFs:
    """The system in `path`, in the making: each step once, in this order."""

    def __init__(self, path: Path, recipe: Recipe, run: Runner) -> None:
        self.path, self.recipe, self.run = path, recipe, run

    def debian(self) -> None:
        early = self.path.parent / "early"
        write(early, self.recipe.early_files)
        options = ["--quiet", "--mode=root", "--variant=minbase", "--format=directory"]
        if self._is_foreign():  # the kernel was told how to run its programs: `foreign_programs`
            options += [f"--architectures={self.recipe.architecture}", "--skip=check/qemu"]
        options += ["--aptopt=Acquire::Languages { none }", "--aptopt=APT::Install-Recommends false"]
        options += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "locale", "man")]
        options += [f'--essential-hook=cp -r "{early}/." "$1"', f"--include={','.join(self.recipe.packages)}"]
        self.run("mmdebstrap", *options, self.recipe.suite, str(self.path))

    def python(self) -> None:
        """As README.md says it, and without a network inside: pip fetches the packages here, for the Python there.
        Nothing when there are no requirements."""
        if not self.recipe.requirements:
            return
        wheels = self.path / _WHEELS
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
        fetch = ("download", "--quiet", "--only-binary=:all:", "--python-version", PYTHONS[self.recipe.suite])
        machine = of_machine(self.recipe.target.machine) if self._is_foreign() else ()
        self.run(*pip, *fetch, *machine, "--dest", str(wheels), *self.recipe.requirements)
        self.inside("/usr/bin/python3", "-m", "venv", "--system-site-packages", str(ENVIRONMENT))
        names = [f"/{_WHEELS}/{path.name}" for path in sorted(wheels.glob("*.whl"))]
        self.inside(f"{ENVIRONMENT}/bin/pip", "install", "--quiet", "--no-index", "--no-deps", *names)
        shutil.rmtree(wheels)

    def _is_foreign(self) -> bool:
        return self.recipe.target.machine != platform.machine()

    def settings(self) -> None:
        write(self.path, self.recipe.files)
        self.inside("systemctl", "--quiet", "enable", *self.recipe.enabled)
        self.inside("systemctl", "--quiet", "mask", *self.recipe.disabled)

    def inside(self, *command: str) -> None:
        place = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"}
        self.run("chroot", str(self.path), *command, environment=place)


def write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
