# SPDX-License-Identifier: Apache-2.0
"""`./lab package`: builds the packages and lets lintian judge them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from xdpdirector.lab.package.build import OUTPUT, build, check


def package(checkout: Path, say: Callable[[str], None]) -> None:
    """LabError when a step fails."""
    built = build(checkout, say)
    say("asking lintian")
    check(checkout, built)
    for path in built:
        if path.suffix == ".deb":
            say(f"{OUTPUT}/{path.name}: {path.stat().st_size / 1e6:.1f} MB")
