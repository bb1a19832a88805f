# SPDX-License-Identifier: Apache-2.0
"""The account for people: a table of instructions, one of ratios, and a plot (SVG)."""

from __future__ import annotations

from importlib import import_module
from itertools import cycle
from math import ceil, log2
from typing import Any

from rich.console import Console
from rich.table import Table

from dev.versus_ipvs.account import (
    ESTABLISHED,
    HOW,
    SCHEDULERS,
    TARGET,
    Account,
)
from xdpdirector.lab.errors import LabError

_WIDTH, _HEIGHT = 900, 500
_COLORS = ("#000000", "#e69f00", "#56b4e9", "#009e73")  # Okabe and Ito's palette
_STEP = 1000  # instructions


def show(account: Account, console: Console) -> None:
    console.print(_instructions(account))
    console.print(_ratios(account))
    word = "met" if account.met else "missed"
    console.print(
        f"\nat least {TARGET:g} times fewer instructions than IPVS, established: {account.worst:.1f}, {word}"
    )
    console.print(f"\n{HOW}", style="dim")


def _instructions(account: Account) -> Table:
    table = _table(
        account, f"Instructions for each packet, net of {account.reference:,.0f} (kernel {account.kernel})"
    )
    for name in account.names:
        found = {(figure.what, figure.flows): figure for figure in account.figures if figure.who == name}
        cells = [
            f"{account.net(found[column]):,.0f}" if column in found else "" for column in account.columns
        ]
        table.add_row(name, *cells)
    return table


def _ratios(account: Account) -> Table:
    table = _table(account, "Times fewer than IPVS with the same scheduler")
    for scheduler in SCHEDULERS:
        table.add_row(scheduler, *(f"{account.ratio(scheduler, *column):.1f}" for column in account.columns))
    return table


def _table(account: Account, title: str) -> Table:
    table = Table(title=title, title_justify="left", box=None)
    table.add_column("")
    for what, flows in account.columns:
        name = f"{flows:,} flow{'s' * (flows > 1)}" if what == ESTABLISHED else what
        table.add_column(name, justify="right", no_wrap=True)
    return table


def library() -> Any:
    """What draws; LabError when it is missing."""
    try:
        return import_module("leather")
    except ImportError as error:
        raise LabError(
            "plots are drawn by the Python package leather, which is missing: pip install leather"
        ) from error


def svg(account: Account) -> str:
    """Net instructions for each packet of established flows, over the number of flows (logarithmic)."""
    counts = [flows for what, flows in account.columns if what == ESTABLISHED]
    chart = library().Chart(f"Instructions for each packet, established flows, net (kernel {account.kernel})")
    highest = 0.0
    for name, color in zip((name for name in account.names if name.endswith(SCHEDULERS)), cycle(_COLORS)):
        points = [(log2(count), account.net(account.find(name, ESTABLISHED, count))) for count in counts]
        highest = max(highest, *(cost for _, cost in points))
        chart.add_line(points, name=name, stroke_color=color)
    chart.add_y_scale(0, ceil(highest / _STEP) * _STEP)
    chart.add_x_axis(ticks=[log2(count) for count in counts], tick_formatter=_flows, name="flows")
    drawn: str = chart.to_svg(width=_WIDTH, height=_HEIGHT)
    return drawn


def _flows(exponent: float, _index: int, _count: int) -> str:
    return f"{round(2**exponent):,}"
