# SPDX-License-Identifier: Apache-2.0
"""The site of the documents: all links lead somewhere, nothing in a page is of another host, and a browser finds
what it searches for."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dev.documents import site
from tests.support.browser import WEB, lacking, node
from xdpdirector.lab.errors import LabError

pytestmark = pytest.mark.network  # pip's index, for Sphinx

CHECKOUT = Path(__file__).parents[3]
PATIENCE = 300.0  # seconds, on a busy machine
FETCHED = re.compile(
    r'<(?:script|img|iframe|source|video)\b[^>]*\bsrc="([^"]+)"|<link\b[^>]*\bhref="([^"]+)"'
)
IN_STYLES = re.compile(r"url\(\s*[\"']?([^)\"']+)|@import\s+[\"']([^\"']+)")


def said(_text: str) -> None:
    """Nobody listens."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Strictly: a warning is an error."""
    place = tmp_path_factory.mktemp("site") / "html"
    site.build(CHECKOUT, place, said)
    return place


def test_every_document_has_its_page(built: Path) -> None:
    for folder in ("docs", "training"):
        for path in (CHECKOUT / folder).glob("*.md"):
            assert (built / folder / f"{path.stem}.html").exists(), path.name


def test_nothing_in_a_page_is_of_another_host(built: Path) -> None:
    fetched: set[str] = set()
    for page in built.rglob("*.html"):
        fetched.update(found for pair in FETCHED.findall(page.read_text()) for found in pair if found)
    for style in built.rglob("*.css"):
        fetched.update(found for pair in IN_STYLES.findall(style.read_text()) for found in pair if found)

    assert any(each.endswith("searchtools.js") for each in fetched)
    assert [each for each in sorted(fetched) if re.match(r"(?!data:)([a-z]+:|//)", each)] == []


def test_the_licences_of_what_is_in_it_are_with_it(built: Path) -> None:
    text = (built / "licenses.txt").read_text()

    assert "the Sphinx team" in text
    assert "Pradyun Gedam" in text  # Furo


def test_a_link_that_leads_nowhere_is_an_error(tmp_path: Path, built: Path) -> None:
    """`built`: the tools are there."""
    checkout = tmp_path / "checkout"
    for name in site.SOURCES:
        copy = shutil.copytree if (CHECKOUT / name).is_dir() else shutil.copy
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        copy(CHECKOUT / name, checkout / name)
    (checkout / ".lab").mkdir()
    (checkout / ".lab" / "docs").symlink_to(CHECKOUT / ".lab" / "docs")
    with (checkout / "docs" / "pair.md").open("a") as page:
        page.write("\n[A section](fleet.md#no-such-heading), [a page](nowhere.md).\n")

    with pytest.raises(LabError, match="no-such-heading") as refused:
        site.build(checkout, tmp_path / "html", said)

    assert "nowhere.md" in str(refused.value)
    assert not (tmp_path / "html").exists()


@contextmanager
def served(directory: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_arguments: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(directory)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.skipif(bool(lacking()), reason=lacking() or "-")
@pytest.mark.parametrize("opened", ["served", "as files"])
def test_a_browser_finds_what_it_searches_for(built: Path, opened: str) -> None:
    with served(built) as address:
        place = address if opened == "served" else built.as_uri()
        done = subprocess.run(
            [node(), str(WEB / "browser/site.mjs"), place, "gratuitous ARP"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert ["Lesson 6: a pair of directors", "training/6-pair.html"] in [each[:2] for each in result["found"]]
    assert result["title"].endswith("XDP Director")
    assert result["strangers"] == []
