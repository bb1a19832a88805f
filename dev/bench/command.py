# SPDX-License-Identifier: Apache-2.0
"""`./lab bench`: options in, tables, JSON and plot out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from dev.bench import chart
from dev.bench.bench import Options, run_bench
from dev.bench.show import show
from dev.bench.workload import CALM, QUICK

WIDTH = 160
STANDARD_OUTPUT = "-"


def bench(
    name: str | None, quick: bool, document: str | None, plot: Path | None, say: Callable[[str], None]
) -> bool:
    """Whether no target was missed. `document`: a file for the JSON; `-` is standard output, instead of tables."""
    if plot:
        chart.library()  # it is missed now rather than in the end
    report = run_bench(Options(name or "bench", QUICK if quick else CALM, numbered=name is None), say)
    text = json.dumps(report.document(), indent=1)
    if document and document != STANDARD_OUTPUT:
        Path(document).write_text(text + "\n")
    if plot:
        plot.write_text(chart.svg(report))
    if document == STANDARD_OUTPUT:
        sys.stdout.write(text + "\n")
    else:
        console = Console()
        show(report, console if console.is_terminal else Console(width=WIDTH))
    return not any(verdict.met is False for verdict in report.verdicts if not verdict.is_prize)
