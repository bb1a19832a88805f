# SPDX-License-Identifier: Apache-2.0
"""What holds of all source files. Who may import whom is checked by import-linter (pyproject.toml, `./lab
lint`)."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
FOLDERS = ("xdpdirector", "api", "bpf", "dev", "tests")
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
FILE = re.compile(r"(?<![\w./])(?:\w+/)*\w+\.(?:h|c|py)\b(?![./])")
PROGRAM_FILE = re.compile(r"(?<![\w/])bpf/\w+\.[ch]\b")


def sources() -> list[Path]:
    python = itertools.chain(*((CHECKOUT / root).rglob("*.py") for root in FOLDERS))
    scripts = (path for root in (".ci", "tools") for path in (CHECKOUT / root).iterdir() if path.is_file())
    return sorted([*python, *(CHECKOUT / "bpf").glob("*.[ch]"), *scripts, CHECKOUT / "lab"])


def names_its_licence(path: Path) -> bool:
    licence = "GPL-2.0-only" if path.parent == CHECKOUT / "bpf" else "Apache-2.0"
    first = next(line for line in path.read_text().splitlines() if not line.startswith("#!"))
    return f"SPDX-License-Identifier: {licence}" in first


def test_each_source_names_its_licence() -> None:
    found = sources()

    assert len(found) > 500
    assert [str(path.relative_to(CHECKOUT)) for path in found if not names_its_licence(path)] == []


def test_each_package_says_what_it_is_for() -> None:
    """And what it must not know: the first words of its `__init__`."""
    packages = [path for root in FOLDERS[:-1] for path in (CHECKOUT / root).rglob("__init__.py")]

    assert [str(path) for path in packages if '"""' not in path.read_text()] == []


def test_comments_of_the_packet_program_name_files_that_there_are() -> None:
    ends = {f"/{path.relative_to(CHECKOUT)}" for path in sources() if path.suffix}
    commented = (
        (path, text) for path in sources() if path.parent.name == "bpf" for text in [path.read_text()]
    )
    named = [
        (path.name, name)
        for path, text in commented
        for comment in COMMENT.findall(text)
        for name in FILE.findall(comment)
    ]

    assert len(named) > 20
    assert [(path, name) for path, name in named if not any(end.endswith(f"/{name}") for end in ends)] == []


def test_the_packet_programs_files_are_named_as_they_are() -> None:
    texts = [*sources(), CHECKOUT / "README.md", *(CHECKOUT / "docs").glob("*.md")]
    named = [(path.name, name) for path in texts for name in PROGRAM_FILE.findall(path.read_text())]

    assert len(named) > 20
    assert [(path, name) for path, name in named if not (CHECKOUT / name).is_file()] == []
