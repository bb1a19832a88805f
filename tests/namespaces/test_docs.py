# SPDX-License-Identifier: Apache-2.0
"""The sessions in README and docs/ are run, command by command, and print what stands there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.console import (
    Command,
    NotRun,
    documents,
    steps,
)
from tests.support.desk import follow, lay_out, opened
from tests.support.terminals import Windows

CHECKOUT = Path(__file__).parents[2]
DOCUMENTS = {str(path.relative_to(CHECKOUT)): list(steps(path.read_text())) for path in documents(CHECKOUT)}
SESSIONS = {
    name: found for name, found in DOCUMENTS.items() if any(isinstance(one, Command) for one in found)
}
LABS = ("shell", "first")  # what the sessions call theirs

# Blocks that are shown only: what they need, this test has not.
NOT_RUN = {"docs/first-hour.md": ["it installs packages, and shows the demo"]}


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    return lay_out(tmp_path, LABS)


@pytest.fixture
def windows(desk: Path) -> Iterator[Windows]:
    with opened(desk, LABS) as windows:
        yield windows


@pytest.mark.root
@pytest.mark.parametrize("name", SESSIONS)
def test_a_session_goes_as_it_stands_there(name: str, desk: Path, windows: Windows) -> None:
    follow(windows, desk, name, SESSIONS[name], LABS)


def test_what_is_not_run_is_named() -> None:
    found = {
        name: [step.why for step in each if isinstance(step, NotRun)] for name, each in DOCUMENTS.items()
    }

    assert {name: whys for name, whys in found.items() if whys} == NOT_RUN
