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


def copied(place: Path) -> Path:
    """With what was brought already."""
    shutil.copytree(
        CHECKOUT / "web", place / "web", ignore=shutil.ignore_patterns("node_modules", "schema.d.ts")
    )
    for name in ("tools/dashboard", "api/openapi.json"):
        (place / name).parent.mkdir(exist_ok=True)
        shutil.copy2(CHECKOUT / name, place / name)
    for brought in (".lab/node", "web/node_modules"):
        (CHECKOUT / brought).mkdir(parents=True, exist_ok=True)
        (place / brought).parent.mkdir(exist_ok=True)
        (place / brought).symlink_to(CHECKOUT / brought)
    return place


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What is said of the pages as they are. Without a way to npm's registry that is said."""
    place = copied(tmp_path_factory.mktemp("dashboard"))
    done = check(place)
    if done.returncode == UNAVAILABLE:
        pytest.skip(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stdout
    assert (place / "api/static/index.html").exists()
    return done.stdout


def test_the_pages_fit_the_api_and_the_budget(checked: str) -> None:
    assert "octets (gzip)" in checked


@pytest.mark.usefixtures("checked")
def test_pages_that_an_edit_of_the_api_leaves_behind_are_found(tmp_path: Path) -> None:
    place = copied(tmp_path)
    document = place / "api/openapi.json"
    document.write_text(document.read_text().replace('"way_out"', '"egress"'))

    done = check(place)

    assert done.returncode != 0
    assert "Property 'way_out' does not exist" in done.stdout
