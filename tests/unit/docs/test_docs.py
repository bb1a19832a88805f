# SPDX-License-Identifier: Apache-2.0
"""What README, docs/ and training/ say is so: links lead somewhere, configurations are valid, commands and options
exist, and the tables of reasons and errors are those of the code."""

import re
import shlex
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.main import get_command

from xdpdirector import errors
from xdpdirector.api.http.problems import STATUS
from xdpdirector.cli.app import app
from xdpdirector.model import Configuration

CHECKOUT = Path(__file__).parents[3]
DOCUMENTS = [
    CHECKOUT / "README.md",
    *sorted(CHECKOUT.glob("docs/*.md")),
    *sorted(CHECKOUT.glob("training/*.md")),
]
OPERATIONS = CHECKOUT / "docs" / "operations.md"
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCED = re.compile(r"^ *```(?P<language>\S*)\n(?P<body>.*?)^ *```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`(xdpdirector [^`]+)`")


def words(path: Path) -> str:
    """Without what stands in fences."""
    return FENCED.sub("", path.read_text())


def anchors(path: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", words(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def rows(path: Path, heading: str) -> Iterator[list[str]]:
    """The cells of the table under that heading."""
    section = path.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    for line in lines[2:]:
        yield [cell.strip() for cell in line.strip("|").split("|")]


def configurations() -> Iterator[Any]:
    """Parts of one, too: those whose keys are all a configuration's."""
    for path in DOCUMENTS:
        for number, block in enumerate(FENCED.finditer(path.read_text())):
            if block["language"] != "yaml":
                continue
            document = YAML(typ="safe").load(block["body"])
            if isinstance(document, dict) and document.keys() <= Configuration.model_fields.keys():
                yield pytest.param(document, id=f"{path.name}-{number}")


def commands() -> Iterator[Any]:
    """Those of all documents but cli.md, which is made out of the commands."""
    for path in DOCUMENTS:
        if path.name == "cli.md":
            continue
        spans = {" ".join(span.split()) for span in SPAN.findall(words(path))}
        yield from (pytest.param(span, id=f"{path.name}: {span}") for span in sorted(spans))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    dead = []
    for link in LINK.findall(words(path)):
        target, _, anchor = link.partition("#")
        other = (path.parent / target) if target else path
        if "://" in link:
            continue
        if not other.exists() or (anchor and anchor not in anchors(other)):
            dead.append(link)

    assert dead == []


def test_every_document_is_in_the_contents_of_the_site() -> None:
    """As Sphinx wants it, which `./lab docs` and tests/unit/docs/test_site.py run."""
    listed = (CHECKOUT / "docs" / "site" / "index.md").read_text().splitlines()
    names = [path.relative_to(CHECKOUT).as_posix() for path in DOCUMENTS]

    assert [name for name in names if not any(fnmatch(name, line) for line in listed if line)] == []


@pytest.mark.parametrize("document", list(configurations()))
def test_configurations_are_valid(document: dict[str, Any]) -> None:
    services = document.get("services", {})
    for service in services.values():
        service.setdefault("listeners", ["192.0.2.10:80/tcp"])

    Configuration.model_validate({"interfaces": ["eth0"], **document})


@pytest.mark.parametrize("line", list(commands()))
def test_commands_and_their_options_exist(line: str) -> None:
    command: Any = get_command(app)
    options = {name: parameter for parameter in command.params for name in parameter.opts}
    words = iter(shlex.split(line.replace("...", ""))[1:])
    for word in words:
        if word.startswith("-"):
            name, written, _ = word.partition("=")
            assert name in options, line
            if not written and not getattr(options[name], "is_flag", False):
                next(words, None)  # its value
        elif hasattr(command, "commands"):
            assert word in command.commands, line
            command = command.commands[word]
            if command.context_settings.get("ignore_unknown_options"):
                return  # what stands behind is another program's
            options |= {name: parameter for parameter in command.params for name in parameter.opts}


def test_every_reason_is_explained() -> None:
    enum = re.findall(r"^\t([A-Z_]+) ?=\s", (CHECKOUT / "bpf" / "reason.h").read_text(), re.MULTILINE)
    named = [name for row in rows(OPERATIONS, "Reasons") for name in re.findall(r"`(\w+)`", row[0])]

    assert sorted(named) == sorted(name.lower() for name in enum if name != "REASONS")


def every_error() -> list[type[errors.DirectorError]]:
    return [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.DirectorError)
    ]


def status(kind: type[errors.DirectorError]) -> int:
    return next(STATUS[base].value for base in kind.__mro__ if base in STATUS)


def test_every_error_is_explained() -> None:
    expected = {kind.slug: (status(kind), kind.exit_code) for kind in every_error()}

    found = {}
    for row in rows(OPERATIONS, "Errors"):
        slugs, statuses = re.findall(r"`([\w-]+)`", row[0]), [int(one) for one in row[1].split(", ")]
        for place, slug in enumerate(slugs):
            found[slug] = (statuses[min(place, len(statuses) - 1)], int(row[2]))

    assert found == expected
