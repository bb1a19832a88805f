# SPDX-License-Identifier: Apache-2.0
"""The demo's figures in one document: rows by step, a time line, the checks and the verdict. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from xdpdirector.lab import expectations
from xdpdirector.lab.expectations import Check
from xdpdirector.lab.sample import Request
from xdpdirector.lab.timeline import DemoRun, Step

PASS, FAIL, BUSY = "pass", "fail", "busy"


@dataclass(frozen=True)
class Latency:
    """Milliseconds of good requests, from when they were due."""

    p50: float
    p99: float
    worst: float

    @classmethod
    def of(cls, requests: Sequence[Request]) -> Latency | None:
        times = sorted(request.latency * 1000 for request in requests if not request.failed)
        if not times:
            return None
        return cls(*(round(times[min(len(times) - 1, int(len(times) * part))], 2) for part in (0.5, 0.99, 1)))


@dataclass(frozen=True)
class Row:
    """One step. `shares` and `expected_shares` are fractions of the good requests since the step settled.

    `failed` counts all failures, `excused` those that the kill explains; `resent` TCP segments sent again.
    """

    step: str
    title: str
    seconds: float
    requests: int
    served: dict[str, int]
    shares: dict[str, float]
    expected_shares: dict[str, float]
    failed: int
    excused: int
    outcomes: dict[str, int]
    resent: int
    latency_ms: Latency | None


@dataclass(frozen=True)
class Timeline:
    """Good requests by backend in slices of `slice_seconds` from the begin on; `marks`: step to slice."""

    slice_seconds: float
    served: dict[str, list[int]]
    marks: dict[str, int]


@dataclass(frozen=True)
class Report:
    """`verdict` is pass, fail, or busy: the machine had too much to do for a judgement. `press` says how much."""

    verdict: str
    scheduler: str
    seconds: float
    requests: int
    failed: int
    excused: int
    program_id: int | None
    steps: tuple[Row, ...]
    checks: tuple[Check, ...]
    timeline: Timeline
    statistics: dict[str, Any]
    press: str = ""

    @property
    def passed(self) -> bool:
        return self.verdict == PASS

    @property
    def backends(self) -> list[str]:
        return sorted(self.timeline.served)

    def document(self) -> dict[str, Any]:
        """As plain types, for JSON."""
        return asdict(self)


def report(
    demo_run: DemoRun,
    requests: Sequence[Request],
    statistics: dict[str, Any] | None = None,
    slice_seconds: float = 0.5,
) -> Report:
    """`statistics` is what the director says of itself at the end, passed on as it is."""
    checks = tuple(expectations.judge(demo_run, requests))
    failed = [request for request in requests if request.failed]
    return Report(
        verdict=_verdict(checks),
        scheduler=demo_run.scheduler,
        seconds=round(demo_run.ended - demo_run.began, 1),
        requests=len(requests),
        failed=len(failed),
        excused=len(failed) - len(expectations.unexcused(failed, demo_run)),
        program_id=demo_run.restarted.after if demo_run.restarted else None,
        steps=tuple(_row(step, demo_run, requests) for step in demo_run.steps),
        checks=checks,
        timeline=_timeline(demo_run, requests, slice_seconds),
        statistics=statistics or {},
        press=str(expectations.press(demo_run, requests)),
    )


def _verdict(checks: Sequence[Check]) -> str:
    found = {check.met for check in checks}
    return FAIL if False in found else BUSY if None in found else PASS


def _row(step: Step, demo_run: DemoRun, requests: Sequence[Request]) -> Row:
    begun = expectations.within(requests, step.began, step.ended)
    failed = [request for request in begun if request.failed]
    shares = expectations.shares(expectations.within(begun, step.settled, step.ended))
    return Row(
        step=step.name,
        title=step.title,
        seconds=round(step.ended - step.began, 1),
        requests=len(begun),
        served=dict(sorted(expectations.served(begun).items())),
        shares={name: round(share, 3) for name, share in sorted(shares.items())},
        expected_shares={name: round(share, 3) for name, share in sorted(step.expected_shares.items())},
        failed=len(failed),
        excused=len(failed) - len(expectations.unexcused(failed, demo_run)),
        outcomes=dict(Counter(request.outcome for request in failed)),
        resent=sum(request.resent for request in begun),
        latency_ms=Latency.of(begun),
    )


def _timeline(demo_run: DemoRun, requests: Sequence[Request], slice_seconds: float) -> Timeline:
    slices = max(1, int((demo_run.ended - demo_run.began) / slice_seconds) + 1)
    names = sorted(expectations.served(requests))
    served = {name: [0] * slices for name in names}
    for request in requests:
        index = int((request.start - demo_run.began) / slice_seconds)
        if request.backend and not request.failed and 0 <= index < slices:
            served[request.backend][index] += 1
    marks = {step.name: int((step.began - demo_run.began) / slice_seconds) for step in demo_run.steps}
    return Timeline(slice_seconds, served, marks)
