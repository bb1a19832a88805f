# SPDX-License-Identifier: Apache-2.0
"""The demo's report for people: a table by step, a time line by backend, the expectations, the verdict."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from xdpdirector.lab.report import BUSY, Report, Row

_MARKS = {
    True: Text("met", style="green"),
    False: Text("MISSED", style="bold red"),
    None: Text("busy", style="bold yellow"),
}
_BARS = "▁▂▃▄▅▆▇█"
_MARGIN = 14  # columns beside the bars


def show(report: Report, console: Console) -> None:
    console.print(summary(report, console.width))


def summary(report: Report, width: int) -> RenderableType:
    """For a screen of that many columns, 80 at least."""
    parts: list[RenderableType] = [_steps(report), _shares(report), _timeline(report, width), _checks(report)]
    return Group(*(piece for part in parts for piece in (Text(), part)), Text(), _verdict(report))


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))


def _steps(report: Report) -> Table:
    table = _table("What was done, and what the clients saw")
    table.add_column("step", no_wrap=True)
    table.add_column("")
    for name in ("seconds", "requests", "failed", "expected", "p50 ms", "p99 ms", "max ms"):
        first, _, unit = name.partition(" ")
        table.add_column(f"{first}\n{unit}" if unit else name, justify="right")
    for row in report.steps:
        table.add_row(*_step(row))
    return table


def _step(row: Row) -> list[str | Text]:
    good = row.failed == row.excused
    latency = row.latency_ms
    times = (latency.p50, latency.p99, latency.worst) if latency else ()
    return [
        row.step,
        row.title,
        f"{row.seconds:.1f}",
        str(row.requests),
        Text(str(row.failed), style="green" if good else "bold red"),
        "in flight" if row.step == "kill" else "0",
        *(f"{time:.1f}" for time in times),
    ]


def _shares(report: Report) -> Table:
    table = _table("Requests by backend: served, share (share by weight)")
    table.add_column("step", no_wrap=True)
    for name in report.backends:
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.steps:
        table.add_row(row.step, *(_share(row, name) for name in report.backends))
    return table


def _share(row: Row, name: str) -> Text:
    """`612 34% (33%)`; a dash where the backend neither served nor should have."""
    served, expected = row.served.get(name, 0), row.expected_shares.get(name)
    if not served and expected is None:
        return Text("-", style="dim")
    text = Text(f"{served} {row.shares.get(name, 0.0):.0%}")
    if expected is not None:
        text.append(f" ({expected:.0%})", style="dim")
    return text


def _timeline(report: Report, width: int) -> Table:
    timeline = report.timeline
    slices = max((len(counts) for counts in timeline.served.values()), default=0)
    merged = max(1, -(-slices // (width - _MARGIN)))
    table = _table(f"Requests over time, {timeline.slice_seconds * merged:g} s a bar")
    table.add_column("", no_wrap=True)
    table.add_column("", no_wrap=True)
    bars = {name: _merge(counts, merged) for name, counts in timeline.served.items()}
    highest = max((max(counts) for counts in bars.values()), default=0)
    for name, counts in bars.items():
        table.add_row(name, Text("".join(_bar(count, highest) for count in counts), style="cyan"))
    marks = {name: begin // merged for name, begin in timeline.marks.items()}
    table.add_row("", Text(_marks(marks, -(-slices // merged)), style="dim"))
    return table


def _merge(counts: list[int], size: int) -> list[int]:
    return [sum(counts[begin : begin + size]) for begin in range(0, len(counts), size)]


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
    table = _table("Expectations")
    table.add_column("", no_wrap=True)
    table.add_column("step", no_wrap=True)
    table.add_column("expected")
    table.add_column("seen")
    for check in report.checks:
        table.add_row(_MARKS[check.met], check.name, check.expected, check.seen)
    return table


def _verdict(report: Report) -> Text:
    missed = sum(check.met is False for check in report.checks)
    open_ = sum(check.met is None for check in report.checks)
    figures = (
        f"{report.requests} requests in {report.seconds:g} s with {report.scheduler}, "
        f"{report.failed} failed, {report.excused} of them as expected"
    )
    if report.passed:
        return Text(f"PASS: {figures}; all {len(report.checks)} expectations met.", style="bold green")
    if report.verdict == BUSY:
        return Text(
            f"NOT JUDGED: this machine was too busy for {open_} of {len(report.checks)} expectations: "
            f"{report.press}. No other was missed. Run it again when the machine has less to do, or with a lower "
            f"--rate. {figures}.",
            style="bold yellow",
        )
    return Text(f"FAIL: {figures}; {missed} of {len(report.checks)} expectations missed.", style="bold red")
