# SPDX-License-Identifier: Apache-2.0
"""The Debian packages hold what their users need, and nothing that only proves or builds this project."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

from dev.package.build import PARTS
from tests.support.wheels import CHECKOUT

DEBIAN = CHECKOUT / "debian"
RULES = (DEBIAN / "rules").read_text()
LISTS = sorted(path.name for kind in ("docs", "examples", "manpages") for path in DEBIAN.glob(f"*.{kind}"))
FOR_DEVELOPERS = {"docs/architecture.md", "docs/chaos.md"}


def listed(name: str) -> list[str]:
    """The lines of a list that a tool of debhelper reads."""
    return (DEBIAN / name).read_text().split()


def left_out(tool: str) -> list[str]:
    """What the rules have the tool leave out: parts of names."""
    [call] = re.findall(rf"^\t{tool} (.*)$", RULES, re.MULTILINE)
    return re.findall(r"-X(\S+)", call)


def installed_by_rules() -> list[str]:
    """Patterns of the files that the rules install by themselves."""
    calls = re.findall(r"^\tinstall -D -m \d+ (?:-t \S+ )?(\S+)", RULES, re.MULTILINE)
    return [call for call in calls if not call.startswith("-")]


def files(listed_path: str, excluded: list[str]) -> set[str]:
    """The files of the checkout below a path of a list."""
    path = CHECKOUT / listed_path
    found = [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]
    names = {each.relative_to(CHECKOUT).as_posix() for each in found if "__pycache__" not in each.parts}
    return {name for name in names if not any(part in name for part in excluded)}


def documents() -> set[str]:
    excluded = left_out("dh_installdocs")
    return {name for line in listed("xdpdirector.docs") for name in files(line, excluded)}


def examples() -> set[str]:
    excluded = left_out("dh_installexamples")
    return {name for line in listed("xdpdirector.examples") for name in files(line, excluded)}


@pytest.mark.parametrize("name", LISTS)
def test_what_is_listed_is_there_and_comes_to_the_builder(name: str) -> None:
    for line in listed(name):
        assert (CHECKOUT / line).exists(), line
        assert line.split("/")[0] in PARTS


def test_what_the_rules_install_is_there_and_comes_to_the_builder() -> None:
    patterns = installed_by_rules()

    assert "debian/launcher" in patterns
    assert "contrib/systemd/*" in patterns
    for pattern in patterns:
        assert list(CHECKOUT.glob(pattern)), pattern
        assert pattern.split("/")[0] in PARTS


def test_all_of_contrib_is_installed_but_tests() -> None:
    patterns, shown = installed_by_rules(), examples()

    for name in files("contrib", []):
        is_installed = name in shown or any(fnmatch(name, pattern) for pattern in patterns)
        assert is_installed == (not name.endswith(".test.yaml")), name


def test_documents_are_those_for_users() -> None:
    folders = ("docs", "training")
    texts = {
        path.relative_to(CHECKOUT).as_posix() for each in folders for path in (CHECKOUT / each).glob("*.md")
    }

    assert documents() == {"README.md", "CHANGELOG.md"} | texts - FOR_DEVELOPERS


def test_no_document_takes_the_place_of_another() -> None:
    """The tools put what is listed into one directory, without the directories before it."""
    names = [Path(line).name for line in listed("xdpdirector.docs")]

    assert len(names) == len({*names})
    assert not any("*" in name for name in names)


def test_the_changelog_that_debians_names_is_there() -> None:
    [named] = set(re.findall(r"\* See (\S+)\.$", (DEBIAN / "changelog").read_text(), re.MULTILINE))

    assert named in documents()


def test_examples_that_documents_link_to_are_there() -> None:
    """Documents and examples stand beside each other, as in the checkout."""
    shown = examples()

    for document in sorted(documents() - {"CHANGELOG.md"}):
        text = (CHECKOUT / document).read_text()
        for target in re.findall(r"\]\((?:\.\./)?(examples/[^)#]+)", text):
            assert any(name == target or name.startswith(f"{target}/") for name in shown), (document, target)
