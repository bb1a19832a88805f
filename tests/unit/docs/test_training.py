# SPDX-License-Identifier: Apache-2.0
"""Each lesson of the course has its text, with all parts; what cannot be asked in a lab is missing there."""

from pathlib import Path
from typing import Any

import pytest

from xdpdirector.errors import UnreachableError
from xdpdirector.lab.lessons import MODULES, lesson
from xdpdirector.lab.lessons.lesson import Check

TRAINING = Path(__file__).parents[3] / "training"
PARTS = ["Aim", "Drawing", "Text", "Exercise", "Solution", "Questions"]
NUMBERS = range(1, len(MODULES) + 1)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_lesson_has_all_its_parts(number: int) -> None:
    lines = (TRAINING / lesson(number).file).read_text().splitlines()

    assert lines[0] == f"# Lesson {number}: {lesson(number).title}"
    assert [line[3:] for line in lines if line.startswith("## ")] == PARTS


def test_every_text_is_of_a_lesson() -> None:
    files = {lesson(number).file for number in NUMBERS}

    assert {path.name for path in TRAINING.glob("*.md")} - files == {"README.md", "trainer.md"}


@pytest.mark.parametrize("error", [UnreachableError("no daemon"), KeyError("persistence"), StopIteration()])
def test_what_cannot_be_asked_is_missing(error: Exception) -> None:
    def ask(_lab: Any) -> bool:
        raise error

    lab: Any = None
    assert Check("the director is ready", "start it", ask).met(lab) is False
