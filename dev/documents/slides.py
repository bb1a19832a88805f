# SPDX-License-Identifier: Apache-2.0
"""The slides of the course: each lesson of training/ as HTML and PDF. Marp renders them, for PDF in Chromium.

Its tools are those of docs/slides/package-lock.json. The trainer's notes come from training/trainer.md.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from dev.documents.deck import deck
from xdpdirector.lab.errors import LabError
from xdpdirector.lab.host import run

SLIDES = Path("docs/slides")
NOTES = Path("training/trainer.md")
CHROMIUM = Path("/usr/bin/chromium")
UNAVAILABLE = 69  # of tools/dashboard: what comes from a registry cannot be fetched
_RENDERING = 900.0  # seconds


def build(checkout: Path, output: Path, say: Callable[[str], None]) -> list[Path]:
    """NUMBER-NAME.html and NUMBER-NAME.pdf of each lesson, in `output`. LabError with Marp's words."""
    if not CHROMIUM.exists():
        raise LabError(f"{CHROMIUM} is missing, which prints the PDF: apt-get install chromium")
    home = checkout / ".lab" / "slides"
    node, marp = _tools(checkout, home, say)
    notes = notes_by_lesson((checkout / NOTES).read_text())
    with tempfile.TemporaryDirectory(dir=home) as work:
        place = Path(work)
        for path in sorted(checkout.glob("training/[0-9]*.md")):
            (place / path.name).write_text(deck(path.read_text(), notes[path.name.split("-")[0]]))
        for kind in ("html", "pdf"):
            say(f"rendering the slides as {kind.upper()}")
            _run(
                *(node, str(marp), "--no-stdin", "--input-dir", work, "--output", str(place / "rendered")),
                *("--config-file", str(checkout / SLIDES / "marp.config.mjs")),
                *("--theme-set", str(checkout / SLIDES / "theme.css")),
                *("--browser", "chrome", "--browser-path", str(CHROMIUM)),
                *(("--pdf", "--pdf-outlines") if kind == "pdf" else ()),
            )
        output.mkdir(parents=True, exist_ok=True)
        rendered = sorted((place / "rendered").iterdir())
        return [Path(shutil.copy(path, output)) for path in rendered]


def notes_by_lesson(text: str) -> dict[str, str]:
    """By the number of the lesson: what stands under its heading."""
    parts = re.split(r"^## ", text, flags=re.MULTILINE)
    found = (re.match(r"Lesson (\d+)[^\n]*\n(.*)", part, re.DOTALL) for part in parts)
    return {match[1]: match[2].strip() for match in found if match}


def _tools(checkout: Path, home: Path, say: Callable[[str], None]) -> tuple[str, Path]:
    """Node, and Marp's program."""
    home.mkdir(parents=True, exist_ok=True)
    node = _run(str(checkout / "tools" / "dashboard"), "node").strip()
    marp, mark = home / "node_modules/@marp-team/marp-cli/marp-cli.js", home / "brought"
    locked = (checkout / SLIDES / "package-lock.json").read_text()
    if not (marp.exists() and mark.exists() and mark.read_text() == locked):
        say("fetching the tools of the slides")
        mark.unlink(missing_ok=True)
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(checkout / SLIDES / name, home)
        npm = Path(node).parents[1] / "lib/node_modules/npm/bin/npm-cli.js"
        _run(node, str(npm), "ci", "--prefix", str(home), "--no-audit", "--no-fund", "--loglevel=error")
        mark.write_text(locked)
    return node, marp


def _run(*command: str) -> str:
    """What it prints. root has no sandbox."""
    environment = {"CHROME_NO_SANDBOX": "1", "NODE_USE_SYSTEM_CA": "1"}
    return run(*command, timeout=_RENDERING, environment=environment).stdout
