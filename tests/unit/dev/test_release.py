# SPDX-License-Identifier: Apache-2.0
"""One version in all the places that say it."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dev import release

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in (release.MODULE, release.PACKAGE, release.CHANGES, release.API):
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(release.CHECKOUT / name, target)
    return tmp_path


def test_this_checkout_says_one_version() -> None:
    assert release.complaints(release.CHECKOUT) == []


def test_a_version_is_set_and_what_is_left_is_told(root: Path) -> None:
    release.set_version(root, "77.0.1", NOW)

    versions = release.said(root)
    assert versions[release.MODULE] == versions[release.PACKAGE] == "77.0.1"
    assert f"{release.CHANGES} says {versions[release.CHANGES]}" in release.complaints(root)
    assert "Mon, 30 Nov 2026 12:00:00 +0000" in (root / release.PACKAGE).read_text()


@pytest.mark.parametrize("version", ["0.0.1", "1.0", "v9.9.9", "9.9.9rc1", ""])
def test_what_is_no_later_version_is_refused(root: Path, version: str) -> None:
    before = release.said(root)
    with pytest.raises(ValueError, match=r"is no version|is not later"):
        release.set_version(root, version, NOW)
    assert release.said(root) == before
