# SPDX-License-Identifier: Apache-2.0
"""A chaos run's report for people: what was done, what broke, the verdict, and how to see it again."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dev.chaos.expectations import Broken, Verdict
from dev.chaos.report import Report

MOST = 20  # connections that are shown one by one
_STYLES = {Verdict.PASS: "bold green", Verdict.FAIL: "bold red", Verdict.BUSY: "bold yellow"}


def show(report: Report, console: Console) -> None:
    console.print(_table(report))
    console.print()
    for each in report.broken[:MOST]:
        console.print(_broken(report, each), highlight=False, markup=False, soft_wrap=True)
    if len(report.broken) > MOST:
        rest = Counter(each.connection.outcome for each in report.broken[MOST:])
        console.print(f"and more: {_counted(rest)}", highlight=False, markup=False)
    for finding in report.findings:
        line = f"{report.since(finding.at):7.1f} s  {finding.text}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(Text(verdict(report), style=_STYLES[report.verdict]))


def _table(report: Report) -> Table:
    table = Table(title="What was done", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ("", "", "times"):
        table.add_column(name)
    for (lane, kind), outcomes in report.counts().items():
        table.add_row(lane, kind, _counted(outcomes))
    return table


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def _broken(report: Report, broken: Broken) -> str:
    one = broken.connection
    who = f"{one.kind} connection from port {one.port} to {one.service} (IPv{one.family}), {one.backend}"
    opened = "" if one.last is None else f", heard last at {report.since(one.last)} s"
    lines = [f"{report.since(one.at):7.1f} s  {who}: {one.outcome} {one.detail}".rstrip() + opened]
    for each in broken.before:
        span = f"{report.since(each.began)} to {report.since(each.ended)} s"
        lines.append(f"             before: {span}: {each.action.lane} {each.action}")
    return "\n".join(lines)


def verdict(report: Report) -> str:
    figures = (
        f"{len(report.actions)} actions in {report.seconds:.0f} s; {report.ended.total()} running connections "
        f"({_counted(report.ended)}); {report.served} new ones served, {report.late} of them after more than 1 s, "
        f"the slowest after {report.slowest:.1f} s"
    )
    again = f"again: --seed {report.options.seed} --minutes {report.options.minutes:g}"
    if report.verdict is Verdict.PASS:
        return f"PASS: {figures}; none broke, and every disturbance was named. {again}"
    if report.verdict is Verdict.BUSY:
        return (
            f"NOT JUDGED: this machine was too busy, its clients came up to {report.lag:.1f} s too late: "
            f"{len(report.broken)} connections had no answer in time. {figures}. {again}"
        )
    outcomes = Counter(each.connection.outcome for each in report.broken)
    broke = f"{len(report.broken)} connections broke" + (f" ({_counted(outcomes)})" if outcomes else "")
    return f"FAIL: {broke}, {len(report.findings)} other findings; {figures}. {again}"
