# SPDX-License-Identifier: Apache-2.0
"""Builds the Debian packages: locked wheels and the site of the documents are laid beside debian/ in a copy, and
debhelper does the rest.

Knows nothing of what stands in debian/, but that its rules want wheels/, site/ and `PARTS`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from dev.documents import site
from dev.package import lock
from dev.package.running import run
from dev.vm.build_dir import workshop
from dev.vm.payload import wheel

PARTS = ("debian", "contrib", "docs", "training", "examples", "README.md", "CHANGELOG.md")
OUTPUT = "dist"
_BUILDING, _CHECKING = 600.0, 300.0  # seconds


def build(checkout: Path, say: Callable[[str], None]) -> list[Path]:
    """The packages, in `checkout`/dist. LabError with the builder's last words."""
    home = checkout / ".lab" / "package"
    wheels = lock.fetched(checkout, _made(home), say)
    with workshop(home) as work:
        source = work / "xdpdirector"
        source.mkdir()
        for part in PARTS:
            copy = shutil.copytree if (checkout / part).is_dir() else shutil.copy
            copy(checkout / part, source / part)
        site.build(checkout, source / "site", say)
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


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory
