# SPDX-License-Identifier: Apache-2.0
"""The site of the documents: Sphinx reads the Markdown files as they are, at the paths that their links name.

Its tools are in an environment of their own, with the versions and hashes of docs/site/requirements.lock. Every
warning is an error: of a link that leads nowhere, of a page that no list of contents has.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from xdpdirector.lab.host import run

SITE = Path("docs/site")
LOCK = SITE / "requirements.lock"
SOURCES = (
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs", "training", "examples", "contrib"),
    *("vagrant/README.md", "tests/README.md", "tests/corpus/README.md"),
)
"""The pages, and the files to which they lead."""
LICENSES = "licenses.txt"
_BUILDING = 600.0  # seconds


def build(checkout: Path, output: Path, say: Callable[[str], None]) -> None:
    """The site, in the directory `output`, whose content before goes. LabError with Sphinx's words."""
    home = checkout / ".lab" / "docs"
    home.mkdir(parents=True, exist_ok=True)
    python = _tools(checkout, home, say)
    with tempfile.TemporaryDirectory(dir=home) as work:
        source, built = Path(work, "source"), Path(work, "html")
        lay_out(checkout, source)
        say("building the site")
        strict = ("--nitpicky", "--fail-on-warning", "--keep-going")
        run(
            *(str(python), "-m", "sphinx", "--quiet", *strict, "--builder", "html", str(source), str(built)),
            timeout=_BUILDING,
            environment={"LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": "0"},
        )
        for needless in (".doctrees", ".buildinfo", "_sources"):
            _remove(built / needless)
        (built / LICENSES).write_text(_licenses(python))
        _remove(output)
        output.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(built, output)


def lay_out(checkout: Path, source: Path) -> None:
    """The pages at their places, with the site's index and configuration at the top."""
    for name in SOURCES:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        if (checkout / name).is_dir():
            shutil.copytree(checkout / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(checkout / name, source / name)
    (source / "_static").mkdir()
    for name, place in {"conf.py": ".", "index.md": ".", "file_urls.js": "_static"}.items():
        shutil.move(source / SITE / name, source / place / name)
    shutil.rmtree(source / SITE)


def _tools(checkout: Path, home: Path, say: Callable[[str], None]) -> Path:
    """The Python that has Sphinx; made anew when the lock is another, or its making was interrupted."""
    environment, mark = home / "tools", home / "tools.lock"
    locked = (checkout / LOCK).read_text() + sys.version
    python = environment / "bin" / "python"
    if python.exists() and mark.exists() and mark.read_text() == locked:
        return python
    say("fetching the tools of the site")
    mark.unlink(missing_ok=True)
    _remove(environment)
    run(sys.executable, "-m", "venv", str(environment), timeout=_BUILDING)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    chosen = ("--require-hashes", "--no-deps", "--only-binary=:all:", "-r", str(checkout / LOCK))
    run(*pip, *chosen, timeout=_BUILDING)
    mark.write_text(locked)
    return python


def _licenses(python: Path) -> str:
    """Of those who wrote the scripts and styles."""
    texts = []
    for tool in ("sphinx", "furo"):
        [found] = python.parents[1].glob(f"lib/python*/site-packages/{tool}-*.dist-info/licenses/LICENSE*")
        texts.append(f"{tool}\n\n{found.read_text().strip()}\n")
    return "\n\n".join(texts)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
