# SPDX-License-Identifier: Apache-2.0
"""The bench's report for people: costs by flows, ratios to the limits, end to end, targets, and how it was done."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dev.bench.figure import NANOSECONDS, Figure
from dev.bench.goals import Verdict
from dev.bench.report import Report

_STYLES = {None: "dim", True: "green", False: "bold red"}


def show(report: Report, console: Console) -> None:
    console.print(summary(report))


def summary(report: Report) -> RenderableType:
    return Group(
        _spaced(_machine(report)),
        _spaced(_costs(report)),
        _spaced(_rates(report)),
        _spaced(_targets(report)),
        _spaced(_how(report)),
        _spaced(_verdict(report)),
    )


def _spaced(part: RenderableType) -> Padding:
    return Padding(part, (1, 0, 0, 0))


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=None)


def _machine(report: Report) -> Text:
    machine = report.machine
    return Text(
        f"{machine.model}, {machine.cpus} CPUs, kernel {machine.kernel}; measured on CPU {machine.cpu}, "
        f"load {machine.load:g} before, {report.stolen:.1%} of its time stolen\n"
        f"the director's program: {report.program}\n"
        f"tables: {', '.join(f'{count:,} {name}' for name, count in report.program.entries.items())}"
    )


def _costs(report: Report) -> Table:
    """A row for a workload and program, a column for a number of flows."""
    costs = [figure for figure in report.figures.values() if figure.unit == NANOSECONDS]
    counts = sorted({figure.key.flows for figure in costs})
    table = _table("Nanoseconds a packet: min (median, max)")
    for name in ("packets", "program"):
        table.add_column(name, no_wrap=True)
    for count in counts:
        table.add_column(f"{count:,} flow{'s' if count > 1 else ''}", justify="right", no_wrap=True)
    rows: dict[tuple[str, str], dict[int, Figure]] = {}
    for figure in costs:
        rows.setdefault((figure.key.workload, figure.key.program), {})[figure.key.flows] = figure
    previous = ""
    for (workload, program), found in rows.items():
        cells = [_cost(found.get(count)) for count in counts]
        table.add_row("" if workload == previous else workload, program, *cells)
        previous = workload
    return table


def _cost(figure: Figure | None) -> Text:
    if figure is None:
        return Text("")
    series = figure.series
    text = Text(f"{series.least:.0f}")
    text.append(f" ({series.median:.0f}, {series.most:.0f})", style="dim")
    return text


def _rates(report: Report) -> Table:
    """Everything that is not a cost, beside the first program of its workload."""
    table = _table("End to end, and otherwise: best (median, worst), and the share of the first of its kind")
    for name in ("what", "way"):
        table.add_column(name, no_wrap=True)
    for name in ("flows", "best", "", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    by_workload: dict[str, list[Figure]] = {}
    for figure in report.figures.values():
        if figure.unit != NANOSECONDS:
            by_workload.setdefault(figure.key.workload, []).append(figure)
    for figures in by_workload.values():
        for figure in figures:
            table.add_row(*_rate(figure, figures[0]))
    return table


def _rate(figure: Figure, first: Figure) -> list[str | Text]:
    is_first = figure is first
    return [
        figure.key.workload if is_first else "",
        figure.key.program,
        f"{figure.key.flows:,}" if figure.key.flows > 1 else "",
        _number(figure.best),
        Text(f"({_number(figure.series.median)}, {_number(figure.worst)})", style="dim"),
        "" if is_first or not first.best else f"{figure.best / first.best:.0%}",
        figure.unit,
    ]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == round(value) else f"{value:.2f}"


def _targets(report: Report) -> Table:
    table = _table("Targets: ratio of minimums (of medians), allowed")
    table.add_column("", no_wrap=True)
    table.add_column("target", no_wrap=True)
    for name in ("ratio", "median", "allowed"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("seen (the worst)")
    for verdict in report.verdicts:
        ratio, median = verdict.ratio, verdict.median_ratio
        table.add_row(
            _word(verdict),
            verdict.name,
            "" if ratio is None else f"{ratio:.2f}",
            Text("" if median is None else f"({median:.2f})", style="dim"),
            f"{verdict.allowed:g}",
            verdict.seen,
        )
    return table


def _word(verdict: Verdict) -> Text:
    if verdict.is_prize and not verdict.met:
        return Text("no prize" if verdict.met is False else verdict.word, style="dim")
    return Text(verdict.word.upper() if verdict.met is False else verdict.word, style=_STYLES[verdict.met])


def _how(report: Report) -> Table:
    """Each sentence once, with the workloads that it is about."""
    sentences: dict[str, list[str]] = {}
    for figure in report.figures.values():
        names = sentences.setdefault(figure.how, [])
        if figure.key.workload not in names:
            names.append(figure.key.workload)
    table = _table("How each number was obtained")
    table.add_column("", ratio=1)
    table.add_column("", ratio=3)
    for how, names in sentences.items():
        table.add_row("; ".join(names), Text(how, style="dim"))
    return table


def _verdict(report: Report) -> Text:
    owed = [verdict for verdict in report.verdicts if not verdict.is_prize]
    missed = sum(verdict.met is False for verdict in owed)
    measured = sum(verdict.met is not None for verdict in owed)
    text = f"{measured - missed} of {measured} targets met"
    text += f", {len(owed) - measured} not measured" if len(owed) > measured else ""
    return Text(f"{text}; {report.seconds:.0f} s.", style="bold red" if missed else "bold green")
