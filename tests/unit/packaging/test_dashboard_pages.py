# SPDX-License-Identifier: Apache-2.0
"""The dashboard's pages against the committed API document: `tools/dashboard check`, in a copy of what it reads."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.network

CHECKOUT = Path(__file__).parents[3]
PATIENCE = 600.0  # seconds, on a busy machine
UNAVAILABLE = 69  # sysexits.h


def check(place: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(place / "tools/dashboard"), "check"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """With what was brought already."""
    shutil.copytree(
        CHECKOUT / "web",
        tmp_path / "web",
        ignore=shutil.ignore_patterns("node_modules", "schema.d.ts"),
    )
    for name in ("tools/dashboard", "api/openapi.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy2(CHECKOUT / name, tmp_path / name)
    for brought in (".lab/node", "web/node_modules"):
        (CHECKOUT / brought).mkdir(parents=True, exist_ok=True)
        (tmp_path / brought).parent.mkdir(exist_ok=True)
        (tmp_path / brought).symlink_to(CHECKOUT / brought)
    return tmp_path


def test_the_pages_fit_the_api_and_the_budget(copy: Path) -> None:
    done = check(copy)
    if done.returncode == UNAVAILABLE:
        pytest.skip(done.stdout.splitlines()[-1])

    assert done.returncode == 0, done.stdout
    assert "octets (gzip)" in done.stdout
    assert (copy / "api/static/index.html").exists()


def test_pages_that_an_edit_of_the_api_leaves_behind_are_found(copy: Path) -> None:
    document = copy / "api/openapi.json"
    document.write_text(document.read_text().replace('"way_out"', '"egress"'))

    done = check(copy)
    if done.returncode == UNAVAILABLE:
        pytest.skip(done.stdout.splitlines()[-1])

    assert done.returncode not in (0, UNAVAILABLE)
    assert "Property 'way_out' does not exist" in done.stdout
