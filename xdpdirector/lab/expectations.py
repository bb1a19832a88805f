# SPDX-License-Identifier: Apache-2.0
"""Was the demo as it should be? Pure decisions over what happened and what the clients saw.

An expectation about time or amount says nothing of the director where the machine had no time for the clients
themselves. Their requests show whether it had: each knows when it was due and when it began. What is missed in
such a step is neither met nor missed: `met` is None.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import sqrt

from xdpdirector.lab.sample import Request
from xdpdirector.lab.timeline import DemoRun, Joined, Killed, Step

JOIN_SECONDS = 3.0  # a new or returned backend gets its first request within this time
LEAST_SHARE = 0.5  # of the share that its weight gives, where shares are judged
WEIGHED_SHARE = 0.75  # of the share that a new weight gives
DOUBT = (
    4.0  # standard deviations by which a share of so few requests may miss by chance: once in 30,000 times
)
STEADY = 0.7  # of the planned requests must have been begun, or the machine was too busy
LATE = 0.1  # seconds: a client that begins so much after its time had to wait for a processor
LATE_SHARE = 0.1  # of the requests may be late, or the machine was too busy
NOTICE_SLACK = 0.3  # the demo asks the API this late at most
SILENCE = frozenset({"reset", "timeout", "closed", "unreachable"})  # how a request fails whose server is gone


@dataclass(frozen=True)
class Check:
    """One expectation and what was seen of it. `met` is None where the machine was too busy to judge.

    `timed`: it is about time or amount, so that a busy machine may be why it is missed.
    """

    name: str
    expected: str
    seen: str
    met: bool | None
    timed: bool = False


@dataclass(frozen=True)
class Press:
    """How far the clients kept to their schedule between two moments: shares of what was due."""

    begun: float
    late: float

    @classmethod
    def between(cls, begin: float, end: float, rate: float, requests: Iterable[Request]) -> Press:
        due = [one for one in requests if one.kind == "fresh" and begin <= one.due < end]
        planned = rate * (end - begin)
        late = sum(one.start - one.due > LATE for one in due)
        return cls(len(due) / planned if planned > 0 else 1.0, late / len(due) if due else 0.0)

    @property
    def too_much(self) -> bool:
        return self.begun < STEADY or self.late > LATE_SHARE

    def __str__(self) -> str:
        return f"{min(1.0, self.begun):.0%} of the due requests could be begun, {self.late:.0%} of them late"


def excused(request: Request, killed: Killed | None, client_timeout: float) -> bool:
    """Whether a failed request was in flight on the backend that was killed, before the director could know.

    It may have begun before the kill, then it was under way at that moment; who answered earlier on its
    connection, if anyone did, is the killed backend.
    """
    if killed is None:
        return False
    if request.outcome not in SILENCE:
        return False
    in_flight = killed.at - client_timeout <= request.start <= killed.until and request.end >= killed.at
    return in_flight and request.backend in (None, killed.backend)


def unexcused(requests: Iterable[Request], demo_run: DemoRun) -> list[Request]:
    return [
        request
        for request in requests
        if request.failed and not excused(request, demo_run.killed, demo_run.client_timeout)
    ]


def within(requests: Iterable[Request], begin: float, end: float) -> list[Request]:
    """Those that started then."""
    return [request for request in requests if begin <= request.start < end]


def served(requests: Iterable[Request]) -> Counter[str]:
    """Good answers by backend."""
    return Counter(request.backend for request in requests if request.backend and not request.failed)


def shares(requests: Sequence[Request]) -> dict[str, float]:
    counts = served(requests)
    return {name: count / counts.total() for name, count in counts.items()}


def judge(demo_run: DemoRun, requests: Sequence[Request]) -> list[Check]:
    """Every expectation, in the order of the steps; a fact that is missing is an expectation missed."""
    rules: tuple[Callable[[DemoRun, Sequence[Request]], list[Check]], ...] = (
        _steady,
        _baseline,
        _failures,
        _added,
        _drained,
        _killed,
        _returned,
        _restarted,
        _reweighted,
    )
    checks = [check for rule in rules for check in rule(demo_run, requests)]
    checks += [
        Check("demo", "every step runs through", f"{trouble.step}: {trouble.text}", False, timed=trouble.late)
        for trouble in demo_run.trouble
    ]
    order = [step.name for step in demo_run.steps]
    excused_checks = [_excused(check, demo_run, requests) for check in checks]
    return sorted(excused_checks, key=lambda check: order.index(check.name) if check.name in order else -1)


def press(demo_run: DemoRun, requests: Sequence[Request], name: str | None = None) -> Press:
    """Of one step, or of all."""
    step = demo_run.step(name) if name else None
    begin, end = (step.began, step.ended) if step else (demo_run.began, demo_run.ended)
    return Press.between(begin, end, demo_run.rate, requests)


def _excused(check: Check, demo_run: DemoRun, requests: Sequence[Request]) -> Check:
    """The check with `met` None when it is missed and a busy machine may be the reason."""
    if check.met is not False or not check.timed:
        return check
    pressed = press(demo_run, requests, check.name)
    if not pressed.too_much:
        return check
    return replace(check, seen=f"{check.seen}; {pressed}", met=None)


def _steady(demo_run: DemoRun, requests: Sequence[Request]) -> list[Check]:
    pressed = press(demo_run, requests)
    planned = demo_run.rate * (demo_run.ended - demo_run.began)
    made = sum(request.kind == "fresh" for request in requests)
    families = Counter(request.family for request in requests if not request.failed)
    both = min(families[4], families[6]) >= LEAST_SHARE * max(families[4], families[6]) > 0
    return [
        Check(
            "load",
            f"{demo_run.rate:g} new connections a second",
            f"{made} of {planned:.0f} made",
            pressed.begun >= STEADY,
            timed=True,
        ),
        Check(
            "families",
            "IPv4 and IPv6 are served alike",
            f"{families[4]} requests over IPv4, {families[6]} over IPv6",
            both,
        ),
    ]


def _baseline(demo_run: DemoRun, requests: Sequence[Request]) -> list[Check]:
    step = demo_run.step("baseline")
    if step is None:
        return [Check("baseline", "every backend serves", "the step was not reached", False)]
    seen, met = share_out(step, requests)
    return [Check("baseline", "every backend serves its share", _show(seen), met, timed=True)]


def share_out(step: Step, requests: Sequence[Request]) -> tuple[dict[str, float], bool]:
    """The shares since the step settled, and whether each backend has got enough of what its weight gives."""
    found = within(requests, step.settled, step.ended)
    seen, total = shares(found), served(found).total()
    met = all(
        seen.get(name, 0.0) >= LEAST_SHARE * share - doubt(LEAST_SHARE * share, total) and name in seen
        for name, share in step.expected_shares.items()
    )
    return seen, met


def doubt(share: float, total: int) -> float:
    """By how much the share among `total` requests may fall below that by chance (binomial)."""
    return DOUBT * sqrt(share * (1 - share) / total) if total else 0.0


def _show(seen: dict[str, float]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in sorted(seen.items())) or "no requests"


def _failures(demo_run: DemoRun, requests: Sequence[Request]) -> list[Check]:
    """One check a step. Failures of the kill are excused in whichever step their requests began."""
    return [_step_failures(step, demo_run, requests) for step in demo_run.steps]


def _step_failures(step: Step, demo_run: DemoRun, requests: Sequence[Request]) -> Check:
    failed = [request for request in within(requests, step.began, step.ended) if request.failed]
    bad = unexcused(failed, demo_run)
    expected = "no request fails"
    if step.name == "kill" and demo_run.killed:
        expected = (
            f"only requests in flight on {demo_run.killed.backend} fail, none that starts later than "
            f"{demo_run.killed.window:g} s (+ {demo_run.killed.allowance:g} s) after the kill"
        )
    if bad:
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(one.outcome for one in bad).items())
        seen = f"{len(bad)} failed against expectation ({kinds})"
    elif failed:
        seen = f"{len(failed)} failed in flight on the killed backend"
    else:
        seen = "none failed"
    only_late = step.name == "kill" or all(request.outcome == "timeout" for request in bad)
    return Check(step.name, expected, seen, not bad, timed=only_late)


def _first(joined: Joined, requests: Sequence[Request]) -> float | None:
    """Seconds until the backend's first good answer to a connection opened since."""
    ends = [
        request.end
        for request in requests
        if request.backend == joined.backend and not request.failed and request.opened >= joined.at
    ]
    return min(ends) - joined.at if ends else None


def _joins(name: str, joined: Joined | None, requests: Sequence[Request]) -> list[Check]:
    if joined is None:
        return [Check(name, "the backend takes connections", "the step was not reached", False)]
    first = _first(joined, requests)
    return [
        Check(
            name,
            f"{joined.backend} takes connections within {JOIN_SECONDS:g} s",
            "it took none" if first is None else f"its first after {first:.2f} s",
            first is not None and first <= JOIN_SECONDS,
            timed=True,
        )
    ]


def _added(demo_run: DemoRun, requests: Sequence[Request]) -> list[Check]:
    return _joins("add", demo_run.added, requests)


def _returned(demo_run: DemoRun, requests: Sequence[Request]) -> list[Check]:
    return _joins("return", demo_run.returned, requests)


def _drained(demo_run: DemoRun, requests: Sequence[Request]) -> list[Check]:
    drained = demo_run.drained
    if drained is None:
        return [Check("drain", "the backend is drained", "the step was not reached", False)]
    late = [one for one in requests if one.backend == drained.backend and one.opened > drained.at]
    return [
        Check(
            "drain",
            f"{drained.backend} takes no new connection once the API has answered",
            f"{len(late)} new ones",
            not late,
        ),
        Check(
            "drain",
            "its last connection ends, and the API says so",
            "it did not" if drained.empty is None else f"after {drained.empty - drained.at:.1f} s",
            drained.empty is not None,
            timed=True,
        ),
        Check(
            "remove",
            "the API removes it without force",
            "it did not" if drained.removed is None else "removed",
            drained.removed is not None,
        ),
    ]


def _killed(demo_run: DemoRun, _requests: Sequence[Request]) -> list[Check]:
    killed = demo_run.killed
    if killed is None:
        return [Check("kill", "the backend is called down", "the step was not reached", False)]
    limit = killed.window + killed.allowance
    took = None if killed.noticed is None else killed.noticed - killed.at
    return [
        Check(
            "kill",
            f"the director calls {killed.backend} down within {limit:g} s",
            "it did not" if took is None else f"after {took:.2f} s",
            took is not None and took <= limit + NOTICE_SLACK,
            timed=True,
        )
    ]


def _restarted(demo_run: DemoRun, requests: Sequence[Request]) -> list[Check]:
    restarted = demo_run.restarted
    if restarted is None:
        return [Check("restart", "the daemon is restarted", "the step was not reached", False)]
    ids = (restarted.before, restarted.between, restarted.after)
    gap = restarted.ready - restarted.at
    made = [one for one in within(requests, restarted.at, restarted.ready) if one.kind == "fresh"]
    good = sum(not one.failed for one in made)
    return [
        Check(
            "restart",
            "the program in the kernel stays the same",
            f"program id {' / '.join(str(one) for one in ids)} before / without / with the new daemon",
            ids[0] is not None and len(set(ids)) == 1,
        ),
        Check(
            "restart",
            "new connections are served while no daemon runs",
            f"{good} in {gap:.1f} s",
            good >= LEAST_SHARE * demo_run.rate * gap > 0,
            timed=True,
        ),
    ]


def _reweighted(demo_run: DemoRun, requests: Sequence[Request]) -> list[Check]:
    change, step = demo_run.reweighted, demo_run.step("weight")
    if change is None or step is None:
        return [Check("weight", "the share follows the weight", "the step was not reached", False)]
    previous = demo_run.steps[demo_run.steps.index(step) - 1]
    before = shares(within(requests, previous.settled, previous.ended)).get(change.backend, 0.0)
    after, met = follows_weight(change.backend, step, requests)
    goal = step.expected_shares[change.backend]
    return [
        Check(
            "weight",
            f"{change.backend}'s share follows its weight, {change.before} to {change.after}, towards {goal:.0%}",
            f"{before:.0%} to {after:.0%} of the requests",
            met,
            timed=True,
        )
    ]


def follows_weight(backend: str, step: Step, requests: Sequence[Request]) -> tuple[float, bool]:
    """The share since the step settled, and whether it is near enough to what the weight gives."""
    found = within(requests, step.settled, step.ended)
    after, least = shares(found).get(backend, 0.0), WEIGHED_SHARE * step.expected_shares[backend]
    return after, after > 0 and after >= least - doubt(least, served(found).total())
