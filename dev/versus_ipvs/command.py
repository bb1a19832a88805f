# SPDX-License-Identifier: Apache-2.0
"""`./lab versus-lvs`: a guest that counts, the contest in it; tables, JSON and a plot out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from dev.versus_ipvs import show
from dev.versus_ipvs.account import Account, Figure, Plan
from dev.vm.qemu import Shape
from dev.vm.session import PLACE, PYTHON, Course, furnished_guest
from xdpdirector.lab.errors import LabError

SHAPE = Shape(megabytes=2560, counting=True)
QUICK = Plan(flows=(1, 1 << 14), packets=1 << 14, rounds=1)
CONTEST = 3600.0  # seconds
STANDARD_OUTPUT = "-"
WIDTH = 120


def versus(
    checkout: Path, quick: bool, document: str | None, plot: Path | None, say: Callable[[str], None]
) -> bool:
    """Whether the target is met. `document`: a file for the JSON; `-` is standard output, instead of tables."""
    if plot:
        show.library()  # it is missed now rather than in the end
    course = Course()
    with furnished_guest(checkout, SHAPE, course, say) as guest:
        plan = json.dumps(asdict(QUICK if quick else Plan()))
        with course.step("measuring", say):
            text = guest.run(
                "env", f"PYTHONPATH={PLACE}", PYTHON, "-m", "dev.versus_ipvs.run", plan, timeout=CONTEST
            )
        account = Account(figures(text), guest.run("uname", "-rv").strip())
    say(str(course))
    whole = json.dumps(account.document(), indent=1)
    if plot:
        plot.write_text(show.svg(account))
    if document == STANDARD_OUTPUT:
        sys.stdout.write(whole + "\n")
        return account.met
    if document:
        Path(document).write_text(whole + "\n")
    console = Console()
    show.show(account, console if console.is_terminal else Console(width=WIDTH))
    return account.met


def figures(text: str) -> list[Figure]:
    """From what the contest printed; LabError when that is something else."""
    try:
        return [Figure(**each) for each in _list(json.loads(text))]
    except (TypeError, ValueError) as error:
        raise LabError(f"the contest in the guest answered what is no account: {text[:200]!r}") from error


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return value
