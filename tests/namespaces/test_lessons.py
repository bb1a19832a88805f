# SPDX-License-Identifier: Apache-2.0
"""The course in training/: commands print what stands behind them, and an exercise is not solved before those of
its solution have been run."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.console import steps
from tests.support.desk import CHECKOUT, follow, lay_out, opened
from xdpdirector.lab.lessons import MODULES, lesson
from xdpdirector.lab.waiting import wait_until

SOLUTION = "\n## Solution\n"
NUMBERS = range(1, len(MODULES) + 1)


def text(number: int) -> str:
    return (CHECKOUT / "training" / lesson(number).file).read_text()


def asked(number: int, step: str) -> tuple[int, str]:
    """Exit status and output of `xdpdirector lab lesson NUMBER STEP`."""
    line = [sys.executable, "-m", "xdpdirector", "lab", "lesson", str(number), step]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


def solved(number: int) -> str | None:
    """What `check` says, once it misses nothing: on a busy machine a backend may be down for a moment."""
    status, said = asked(number, "check")
    return None if status else said


@pytest.mark.root
@pytest.mark.parametrize(
    "number", [pytest.param(number, marks=pytest.mark.smoke if number == 1 else ()) for number in NUMBERS]
)
def test_an_exercise_is_solved_by_its_solution_and_not_before(number: int, tmp_path: Path) -> None:
    before, _, after = text(number).partition(SOLUTION)
    skipped = "\n" * (before + SOLUTION).count("\n")  # lines are counted in the whole file
    labs, file = [f"lesson{number}"], lesson(number).file

    with opened(lay_out(tmp_path, labs), labs) as windows:
        follow(windows, tmp_path, file, steps(before), labs)
        status, said = asked(number, "check")
        assert (status, "missing  " in said) == (1, True), said
        status, said = asked(number, "hint")
        assert (status, "hint     " in said) == (1, True), said

        follow(windows, tmp_path, file, steps(skipped + after), labs)
        said = wait_until(lambda: solved(number), f"the check of lesson {number} passes", 30.0)
        assert said.count("ok       ") == len(lesson(number).checks), said
