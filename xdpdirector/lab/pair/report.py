# SPDX-License-Identifier: Apache-2.0
"""What the clients of a pair saw of each step, and whether it was as it should be. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from xdpdirector.lab.sample import Request

Stall = dict[str, Any]
"""A line of the downloads' output."""
GAP = 0.6  # seconds: for so long, at most, new connections wait when a director dies
GRACEFUL = ("baseline", "hand over", "hand back", "restart", "return")
SLOW = 0.5  # seconds: a request that takes longer has lost a packet


@dataclass(frozen=True)
class Seen:
    """A step, in seconds of the monotonic clock. `trouble`: what did not happen."""

    name: str
    title: str
    began: float
    ended: float
    trouble: str = ""


@dataclass(frozen=True)
class Row:
    """What happened in a step. `gap`: seconds from its begin until the last new connection was begun that failed or
    lost a packet; `broken`, `stalled`: downloads; `outcomes`: of failed requests."""

    step: str
    title: str
    seconds: float
    requests: int
    failed: int
    gap: float
    broken: int
    stalled: int
    longest_stall: float
    outcomes: dict[str, int]
    trouble: str


@dataclass(frozen=True)
class Judged:
    """`complaints`: a sentence for each thing that was not as it should be."""

    rows: tuple[Row, ...]
    complaints: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.complaints

    def document(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}


def judged(steps: Sequence[Seen], requests: Sequence[Request], lines: Sequence[Stall], rate: float) -> Judged:
    """`rate`: new connections a second that were planned."""
    rows = tuple(_row(step, requests, lines) for step in steps)
    return Judged(rows, tuple(sentence for row in rows for sentence in _complaints(row, rate)))


def _row(step: Seen, requests: Sequence[Request], lines: Sequence[Stall]) -> Row:
    inside = [each for each in requests if step.began <= each.due < step.ended]
    fresh = [each for each in inside if each.kind == "fresh"]
    hurt = [each.due for each in fresh if each.failed or each.latency > SLOW]
    told = [line for line in lines if step.began <= line["at"] < step.ended]
    stalls = [line["seconds"] for line in told if line["what"] == "stalled"]
    return Row(
        step=step.name,
        title=step.title,
        seconds=round(step.ended - step.began, 1),
        requests=len(inside),
        failed=sum(each.failed for each in inside),
        gap=round(max(hurt, default=step.began) - min(hurt, default=step.began), 3),
        broken=sum(line["what"] == "broken" for line in told),
        stalled=len(stalls),
        longest_stall=max(stalls, default=0.0),
        outcomes=dict(Counter(each.outcome for each in inside if each.failed)),
        trouble=step.trouble,
    )


def _complaints(row: Row, rate: float) -> list[str]:
    found = []
    if row.trouble:
        found.append(f"{row.step}: {row.trouble}")
    if row.broken:
        found.append(f"{row.step}: {row.broken} downloads broke")
    if row.stalled:
        found.append(f"{row.step}: {row.stalled} downloads stalled, the longest for {row.longest_stall:g} s")
    if row.step in GRACEFUL and row.failed:
        found.append(f"{row.step}: {row.failed} requests failed: {row.outcomes}")
    if row.gap > GAP:
        found.append(f"{row.step}: new connections waited for {row.gap:g} s, and {GAP:g} is the most")
    if row.failed > rate * GAP:
        found.append(f"{row.step}: {row.failed} requests failed")
    return found


def show(report: Judged, console: Console) -> None:
    table = Table(
        title="What was done, and what the clients saw", title_justify="left", box=None, padding=(0, 2, 0, 0)
    )
    table.add_column("step", no_wrap=True)
    table.add_column("")
    for name in ("seconds", "requests", "failed", "gap s", "downloads\nbroken", "stalled"):
        table.add_column(name, justify="right")
    for row in report.rows:
        table.add_row(
            row.step, row.title, f"{row.seconds:.1f}", str(row.requests), str(row.failed), f"{row.gap:.2f}",
            str(row.broken), str(row.stalled),
        )  # fmt: skip
    console.print(table)
    for sentence in report.complaints:
        console.print(f"[bold red]MISSED[/] {sentence}", highlight=False)
    console.print("[green]all as it should be[/]" if report.passed else "[bold red]not as it should be[/]")
