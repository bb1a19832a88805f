# SPDX-License-Identifier: Apache-2.0
"""What the clients of a pair saw of each step, and whether it was as it should be. Pure.

When a director dies, its peer knows the connections that it was told of. Those that were being opened, or had been
open for less than the sync interval, are counted apart. What is about time says nothing of the directors where the
machine had no time for the clients.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from xdpdirector.lab.expectations import Press
from xdpdirector.lab.report import BUSY, FAIL, PASS
from xdpdirector.lab.sample import Request

Stall = dict[str, Any]
"""A line of the downloads' output."""
GRACEFUL = ("baseline", "hand over", "hand back", "restart", "upgrade", "return")
SHOWN = 20  # failed requests of a step


@dataclass(frozen=True)
class Limits:
    """What clients may see, in seconds. `gap`: for so long, at most, new connections wait; `slow`: a request that
    takes longer has lost a packet; `stall`: a download that gets nothing for longer stalled; `still`: where a
    machine did nothing for longer, it was too busy to judge times."""

    gap: float = 0.6
    slow: float = 0.5
    stall: float = 1.0
    still: float = 1.0


LIMITS = Limits()
"""Of hosts that are namespaces of one machine, and of a tenth of a second between advertisements."""


@dataclass(frozen=True)
class Seen:
    """A step, in seconds of the monotonic clock. `trouble`: what did not happen; `late`: it did not happen in time.
    `died`: when a director was killed, whose peer may have been told `interval` seconds later what it had.
    `refused`: packets that each director dropped or answered itself, by reason. `still`: the longest time in which
    a machine did nothing."""

    name: str
    title: str
    began: float
    ended: float
    trouble: str = ""
    late: bool = False
    died: float | None = None
    interval: float = 0.0
    refused: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    still: float = 0.0


@dataclass(frozen=True)
class Apart:
    """Connections that the peer need not know: how many, and what their clients saw."""

    count: int = 0
    outcomes: dict[str, int] | None = None

    def __str__(self) -> str:
        words = ", ".join(f"{count} {outcome}" for outcome, count in sorted((self.outcomes or {}).items()))
        return f"{self.count} ({words})" if self.count else "0"


@dataclass(frozen=True)
class Failure:
    """Of a request; `at`: when it ended, `opened` and `connected`: when its connection began, and was there (None:
    never); seconds from the step's begin."""

    at: float
    opened: float
    connected: float | None
    kind: str
    family: int
    outcome: str
    backend: str | None


@dataclass(frozen=True)
class Row:
    """What happened in a step. `gap`: seconds from its begin until the last new connection was begun that failed or
    lost a packet; `broken`, `stalled`: downloads; `outcomes`: of failed requests. `half_open`, `young`: see the
    module; not among the others. `press`: how far the clients kept to their schedule; `busy`: not far enough.
    `failures`: the first ones of requests, in seconds from the step's begin; `refused`: see Seen."""

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
    half_open: Apart
    young: Apart
    press: str
    busy: bool
    trouble: str
    late: bool
    failures: tuple[Failure, ...] = ()
    refused: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Judged:
    """`complaints`: a sentence for each thing that was not as it should be. `verdict`: pass, fail, or busy: all of
    that may be for want of a processor."""

    rows: tuple[Row, ...]
    complaints: tuple[str, ...]
    verdict: str

    @property
    def passed(self) -> bool:
        return self.verdict == PASS

    def document(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}


@dataclass(frozen=True)
class _Complaint:
    """`timed`: a busy machine may be why."""

    text: str
    timed: bool


def judged(
    steps: Sequence[Seen],
    requests: Sequence[Request],
    lines: Sequence[Stall],
    rate: float,
    limits: Limits = LIMITS,
) -> Judged:
    """`rate`: new connections a second that were planned."""
    parted = [_parted(step, requests) for step in steps]
    known = {id(each) for half_open, young in parted for each in (*half_open, *young)}
    others = [each for each in requests if id(each) not in known]
    rows = tuple(
        _row(step, apart, others, lines, Press.between(step.began, step.ended, rate, requests), limits)
        for step, apart in zip(steps, parted, strict=True)
    )
    found = [(row, each) for row in rows for each in _complaints(row, rate, limits)]
    certain = any(not (row.busy and each.timed) for row, each in found)
    verdict = FAIL if certain else BUSY if found else PASS
    return Judged(rows, tuple(each.text for _, each in found), verdict)


def _row(
    step: Seen,
    apart: tuple[Sequence[Request], Sequence[Request]],
    others: Sequence[Request],
    lines: Sequence[Stall],
    press: Press,
    limits: Limits,
) -> Row:
    """`apart`: requests that were being opened, and young ones; `others`: all that are so in no step."""
    half_open, young = apart
    inside = [each for each in others if step.began <= each.due < step.ended]
    fresh = [each for each in inside if each.kind == "fresh"]
    hurt = [each.due for each in fresh if each.failed or each.latency > limits.slow]
    told, told_young = _told(step, lines)
    stalls = [
        line["seconds"] for line in told if line["what"] == "stalled" and line["seconds"] > limits.stall
    ]
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
        half_open=_apart(half_open, []),
        young=_apart(young, told_young),
        press=f"{press}; one stood still for {step.still:.1f} s" if step.still else str(press),
        busy=press.too_much or step.still > limits.still,
        trouble=step.trouble,
        late=step.late,
        failures=tuple(_failure(step, each) for each in inside if each.failed)[:SHOWN],
        refused=step.refused,
    )


def _failure(step: Seen, request: Request) -> Failure:
    return Failure(
        at=round(request.end - step.began, 3),
        opened=round(request.opened - step.began, 3),
        connected=round(request.connected - step.began, 3) if request.connected else None,
        kind=request.kind,
        family=request.family,
        outcome=request.outcome,
        backend=request.backend,
    )


def _parted(step: Seen, requests: Sequence[Request]) -> tuple[list[Request], list[Request]]:
    """Those that were being opened when a director died, and those that had just been. They may be of the step
    before."""
    half_open: list[Request] = []
    young: list[Request] = []
    for each in requests:
        if step.died is None or not each.opened < step.died <= each.end:
            continue
        if each.connected == 0 or each.connected > step.died:
            half_open.append(each)
        elif each.connected > step.died - step.interval:
            young.append(each)
    return half_open, young


def _told(step: Seen, lines: Sequence[Stall]) -> tuple[list[Stall], list[Stall]]:
    """What downloads said in a step; and those apart that were young when a director died."""
    told: list[Stall] = []
    young: list[Stall] = []
    opened: dict[int, float] = {}
    for line in lines:
        if line["what"] == "opened":
            opened[line["number"]] = line["at"]
        if step.began <= line["at"] < step.ended:
            is_young = step.died is not None and step.died - step.interval < opened.get(line["number"], 0.0)
            (young if is_young and line["what"] != "opened" else told).append(line)
    return told, young


def _apart(requests: Sequence[Request], lines: Sequence[Stall]) -> Apart:
    outcomes = Counter(each.outcome for each in requests) + Counter(
        f"download {each['what']}" for each in lines
    )
    return Apart(len(requests) + len(lines), dict(outcomes))


def _complaints(row: Row, rate: float, limits: Limits) -> list[_Complaint]:
    found = []
    if row.trouble:
        found.append(_Complaint(f"{row.step}: {row.trouble}", row.late))
    if row.broken:
        found.append(_Complaint(f"{row.step}: {row.broken} downloads broke", timed=False))
    if row.stalled:
        text = f"{row.step}: {row.stalled} downloads stalled, the longest for {row.longest_stall:g} s"
        found.append(_Complaint(text, timed=True))
    only_late = set(row.outcomes) <= {"timeout"}
    if row.step in GRACEFUL and row.failed:
        found.append(_Complaint(f"{row.step}: {row.failed} requests failed: {row.outcomes}", only_late))
    if row.gap > limits.gap:
        text = f"{row.step}: new connections waited for {row.gap:g} s, and {limits.gap:g} is the most"
        found.append(_Complaint(text, timed=True))
    if row.failed > rate * limits.gap:
        found.append(_Complaint(f"{row.step}: {row.failed} requests failed", only_late))
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
    for row in report.rows:
        if row.half_open.count or row.young.count:
            console.print(
                f"{row.step}, counted apart: {row.half_open} being opened when the director died, {row.young} open "
                "for less than the sync interval",
                highlight=False,
            )
    for sentence in report.complaints:
        console.print(f"[bold red]MISSED[/] {sentence}", highlight=False)
    for row in report.rows:
        for name, reasons in row.refused.items() if row.failed or row.broken else ():
            words = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
            console.print(f"{row.step}: refused by {name}: {words}", highlight=False)
    for row in report.rows:
        if row.busy:
            console.print(f"{row.step}: the machine was busy: {row.press}", highlight=False)
    console.print(_WORDS[report.verdict])


_WORDS = {
    PASS: "[green]all as it should be[/]",
    FAIL: "[bold red]not as it should be[/]",
    BUSY: "[bold yellow]this machine was too busy to judge[/]",
}
