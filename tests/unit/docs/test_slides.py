# SPDX-License-Identifier: Apache-2.0
"""The slides of the course, as Marp and Chromium make them: nothing stands beyond the edge of a slide."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dev.documents import slides
from tests.support.browser import WEB, lacking, node

pytestmark = [
    pytest.mark.network,  # npm's registry, for Marp
    pytest.mark.skipif(bool(lacking()), reason=lacking() or "-"),
]

CHECKOUT = Path(__file__).parents[3]
LESSONS = sorted(path.stem for path in CHECKOUT.glob("training/[0-9]*.md"))
PATIENCE = 600.0  # seconds, on a busy machine


def said(_text: str) -> None:
    """Nobody listens."""


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("slides")
    slides.build(CHECKOUT, place, said)
    return place


def measured(*files: Path) -> dict[str, Any]:
    """What web/browser/slides.mjs says of them."""
    done = subprocess.run(
        [node(), str(WEB / "browser/slides.mjs"), *map(str, files)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_all_has_room_and_nothing_is_of_another_host(rendered: Path) -> None:
    found = measured(*sorted(rendered.glob("*.html")))

    assert sorted(found) == [f"{name}.html" for name in LESSONS]
    for name, each in found.items():
        assert each["slides"] > 10, name
        assert (each["beyond"], each["strangers"]) == ([], []), name


def test_each_lesson_has_a_pdf(rendered: Path) -> None:
    for name in LESSONS:
        assert (rendered / f"{name}.pdf").read_bytes().startswith(b"%PDF-")


def test_what_has_no_room_is_noticed(rendered: Path, tmp_path: Path) -> None:
    """With letters of twice the size."""
    large = tmp_path / "large.html"
    text = (rendered / f"{LESSONS[0]}.html").read_text()
    large.write_text(
        text.replace("</head>", "<style>section pre { font-size: 40px !important }</style></head>")
    )

    assert measured(large)["large.html"]["beyond"]
