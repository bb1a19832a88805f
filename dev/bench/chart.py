# SPDX-License-Identifier: Apache-2.0
"""The costs as a plot (SVG): nanoseconds a packet over the number of flows, ours and the limits."""

from __future__ import annotations

from importlib import import_module
from itertools import cycle
from math import ceil, log2
from typing import Any

from dev.bench.report import Report
from dev.bench.workload import Workload
from xdpdirector.lab.errors import LabError

_REMEDY = "pip install 'leather>=0.4,<0.5'"
_WIDTH, _HEIGHT = 900, 500
# Told apart by most eyes: Okabe and Ito's palette.
_COLORS = ("#000000", "#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#0072b2", "#d55e00", "#f0e442")
_STEP = 100  # nanoseconds


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
        return import_module("leather")
    except ImportError as error:
        raise LabError(
            f"plots are drawn by the Python package leather, which is missing: {_REMEDY}"
        ) from error


def svg(report: Report) -> str:
    """Flows on a logarithmic axis."""
    points = lines(report)
    counts = sorted({count for line in points.values() for count in line})
    chart = library().Chart(f"Nanoseconds a packet, {Workload.TCP4} ({report.machine.model})")
    for (name, line), color in zip(points.items(), cycle(_COLORS)):
        data = [(log2(count), cost) for count, cost in sorted(line.items())]
        chart.add_line(data, name=name, stroke_color=color)
    highest = max(cost for line in points.values() for cost in line.values())
    chart.add_y_scale(0, ceil(highest / _STEP) * _STEP)
    chart.add_x_axis(ticks=[log2(count) for count in counts], tick_formatter=_flows, name="flows")
    drawn: str = chart.to_svg(width=_WIDTH, height=_HEIGHT)
    return drawn


def _flows(exponent: float, _index: int, _count: int) -> str:
    return f"{round(2**exponent):,}"
