# SPDX-License-Identifier: Apache-2.0
"""The demo's report for people: a table by step, a time line by backend, the expectations, the verdict."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from xdpdirector.lab.report import Report, Row

_BARS = "▁▂▃▄▅▆▇█"


def show(report: Report, console: Console) -> None:
    console.print(summary(report))


def summary(report: Report) -> RenderableType:
    return Group(
        Text(),
        _steps(report),
        Text(),
        _timeline(report),
        Text(),
        _checks(report),
        Text(),
        _verdict(report),
    )


def _steps(report: Report) -> Table:
    table = Table(
        title="Requests by step and backend (share, expected share)", title_justify="left", box=None
    )
    table.add_column("step", no_wrap=True)
    table.add_column("seconds", justify="right")
    table.add_column("requests", justify="right")
    for name in report.backends:
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("failed", "expected", "resent", "p50 ms", "p99 ms", "max ms"):
        table.add_column(name, justify="right")
    for row in report.steps:
        table.add_row(*_cells(row, report.backends))
    return table


def _cells(row: Row, backends: list[str]) -> list[str | Text]:
    good = row.failed == row.excused
    latency = row.latency_ms
    times = (latency.p50, latency.p99, latency.worst) if latency else ()
    return [
        row.step,
        f"{row.seconds:.1f}",
        str(row.requests),
        *(_share(row, name) for name in backends),
        Text(str(row.failed), style="green" if good else "bold red"),
        "in flight" if row.step == "kill" else "0",
        str(row.resent),
        *(f"{time:.1f}" for time in times),
    ]


def _share(row: Row, name: str) -> Text:
    """`612 34% (33%)`; a dash where the backend neither served nor should have."""
    served, expected = row.served.get(name, 0), row.expected_shares.get(name)
    if not served and expected is None:
        return Text("-", style="dim")
    text = Text(f"{served} {row.shares.get(name, 0.0):.0%}")
    if expected is not None:
        text.append(f" ({expected:.0%})", style="dim")
    return text


def _timeline(report: Report) -> Table:
    timeline = report.timeline
    table = Table(
        title=f"Requests over time ({timeline.slice_seconds:g} s a bar)", title_justify="left", box=None
    )
    table.add_column("", no_wrap=True)
    table.add_column("", no_wrap=True)
    highest = max((max(counts) for counts in timeline.served.values()), default=0)
    for name, counts in timeline.served.items():
        table.add_row(name, Text("".join(_bar(count, highest) for count in counts), style="cyan"))
    slices = max((len(counts) for counts in timeline.served.values()), default=0)
    table.add_row("", Text(_marks(timeline.marks, slices), style="dim"))
    return table


def _bar(count: int, highest: int) -> str:
    return _BARS[min(len(_BARS) - 1, count * len(_BARS) // (highest + 1))] if count else " "


def _marks(marks: dict[str, int], slices: int) -> str:
    """Step names under the bars, each at its begin; one too long for its step is cut."""
    line = [" "] * slices
    begins = [*marks.values(), slices]
    for number, (name, begin) in enumerate(marks.items()):
        room = max(0, begins[number + 1] - begin - 1)
        line[begin : begin + room] = f"|{name}"[:room].ljust(room)
    return "".join(line)


def _checks(report: Report) -> Table:
    table = Table(title="Expectations", title_justify="left", box=None)
    table.add_column("", no_wrap=True)
    table.add_column("step", no_wrap=True)
    table.add_column("expected")
    table.add_column("seen")
    for check in report.checks:
        mark = Text("met", style="green") if check.met else Text("MISSED", style="bold red")
        table.add_row(mark, check.name, check.expected, check.seen)
    return table


def _verdict(report: Report) -> Text:
    missed = sum(not check.met for check in report.checks)
    figures = (
        f"{report.requests} requests in {report.seconds:g} s with {report.scheduler}, "
        f"{report.failed} failed, {report.excused} of them as expected"
    )
    if report.passed:
        return Text(f"PASS: {figures}; all {len(report.checks)} expectations met.", style="bold green")
    return Text(f"FAIL: {figures}; {missed} of {len(report.checks)} expectations missed.", style="bold red")
