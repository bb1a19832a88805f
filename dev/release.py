# SPDX-License-Identifier: Apache-2.0
"""`./lab release set VERSION` and `./lab release check`: the version in all the places that say it.

A release is made so: `set`, write its section of CHANGELOG.md, `check`, `./lab test --all`, `./lab package --try`,
commit, `git tag vVERSION`. Versions are MAJOR.MINOR.PATCH (semver.org): what breaks a file, an API client or an
upgrade from the release before grows MAJOR (MINOR as long as MAJOR is 0).
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
MODULE, PACKAGE, CHANGES, API = (
    "xdpdirector/__init__.py",
    "debian/changelog",
    "CHANGELOG.md",
    "api/openapi.json",
)
VERSION = re.compile(r"\d+\.\d+\.\d+")
ENTRY = """\
xdpdirector ({version}) bookworm; urgency=medium

  * See CHANGELOG.md.

 -- XDP Director maintainers <maintainers@xdpdirector.example>  {date:%a, %d %b %Y %H:%M:%S} +0000

"""


def said(root: Path) -> dict[str, str]:
    """File -> the version that it says."""
    patterns = {
        MODULE: r'__version__ = "([^"]+)"',
        PACKAGE: r"\Axdpdirector \(([^)]+)\)",
        CHANGES: r"^## (\d+\.\d+\.\d+)",
        API: r'"version": "([^"]+)"',
    }
    found = {}
    for name, pattern in patterns.items():
        match = re.search(pattern, (root / name).read_text(), re.MULTILINE)
        found[name] = match[1] if match else "nothing"
    return found


def complaints(root: Path) -> list[str]:
    """What is not ready for a release, a sentence each."""
    versions = said(root)
    if len(set(versions.values())) == 1:
        return []
    return [f"{name} says {version}" for name, version in versions.items()]


def set_version(root: Path, version: str, now: datetime) -> None:
    """Into the module and the Debian changelog. ValueError when it is no version, or not a later one."""
    if not VERSION.fullmatch(version):
        raise ValueError(f"'{version}' is no version: write MAJOR.MINOR.PATCH")
    present = said(root)[MODULE]
    if _numbers(version) <= _numbers(present):
        raise ValueError(f"{version} is not later than {present}")
    module, package = root / MODULE, root / PACKAGE
    module.write_text(module.read_text().replace(f'"{present}"', f'"{version}"'))
    package.write_text(ENTRY.format(version=version, date=now) + package.read_text())


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _document(root: Path) -> None:
    """The API's document says the version, too."""
    subprocess.run([sys.executable, "-m", "dev.openapi_contract"], cwd=root, check=True)


def main(arguments: Sequence[str] | None = None, document: Callable[[Path], None] = _document) -> int:
    parser = argparse.ArgumentParser(prog="./lab release", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("set", help="write a version").add_argument("version")
    verbs.add_parser("check", help="whether all places say the same one")
    options = parser.parse_args(arguments)
    if options.verb == "set":
        try:
            set_version(CHECKOUT, options.version, datetime.now(UTC))
        except ValueError as error:
            parser.error(str(error))
        document(CHECKOUT)
        print(f"now write the section '## {options.version}' of {CHANGES}")
        return 0
    found = complaints(CHECKOUT)
    print("\n".join(found) if found else f"ready: {said(CHECKOUT)[MODULE]}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
