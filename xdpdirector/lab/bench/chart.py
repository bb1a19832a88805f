# SPDX-License-Identifier: Apache-2.0
"""The costs as a plot (SVG): nanoseconds a packet over the number of flows, ours and the limits."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from xdpdirector.lab.bench.report import Report
from xdpdirector.lab.bench.workload import Workload
from xdpdirector.lab.errors import LabError

_REMEDY = "pip install 'pygal>=3,<4'"


def lines(report: Report, workload: Workload = Workload.TCP4) -> dict[str, dict[int, float]]:
    """By program, the minimum for each number of flows."""
    found: dict[str, dict[int, float]] = {}
    for key, figure in report.figures.items():
        if key.workload == workload:
            found.setdefault(key.program, {})[key.flows] = figure.series.least
    return found


def library() -> Any:
    """What draws; LabError when it is missing."""
    try:
        return import_module("pygal")
    except ImportError as error:
        raise LabError(f"plots are drawn by the Python package pygal, which is missing: {_REMEDY}") from error


def svg(report: Report) -> bytes:
    points = lines(report)
    counts = sorted({count for line in points.values() for count in line})
    chart = library().Line(
        title=f"Cost of a packet, {Workload.TCP4}",
        x_title=f"flows ({report.machine.model}, kernel {report.machine.kernel})",
        y_title="nanoseconds, minimum",
        include_x_axis=True,  # from zero
        js=[],  # nothing is fetched when somebody looks at it
        show_minor_y_labels=False,
        legend_at_bottom=True,
    )
    chart.x_labels = [f"{count:,}" for count in counts]
    for name, line in points.items():
        chart.add(name, [line.get(count) for count in counts])
    rendered: bytes = chart.render()
    return rendered
