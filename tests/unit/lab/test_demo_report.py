# SPDX-License-Identifier: Apache-2.0
"""The demo's judge: a demo told by the book passes, and each thing that can go wrong is named."""

import json
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from random import Random

import pytest
from rich.console import Console

from xdpdirector.lab import expectations
from xdpdirector.lab.console import summary
from xdpdirector.lab.report import Report, report
from xdpdirector.lab.sample import Request
from xdpdirector.lab.timeline import (
    DemoRun,
    Drained,
    Joined,
    Killed,
    Restarted,
    Reweighted,
    Step,
    Trouble,
)

RATE, STEP, CLIENT_TIMEOUT = 20.0, 4.0, 3.0
WEIGHTS = {
    "baseline": {"backend1": 1, "backend2": 1, "backend3": 1},
    "add": {"backend1": 1, "backend2": 1, "backend3": 1, "backend4": 1},
    "drain": {"backend2": 1, "backend3": 1, "backend4": 1},
    "remove": {"backend2": 1, "backend3": 1, "backend4": 1},
    "kill": {"backend3": 1, "backend4": 1},
    "return": {"backend2": 1, "backend3": 1, "backend4": 1},
    "restart": {"backend2": 1, "backend3": 1, "backend4": 1},
    "weight": {"backend2": 1, "backend3": 4, "backend4": 1},
}
BEGIN = {name: number * STEP for number, name in enumerate(WEIGHTS)}
KILL = Killed("backend2", BEGIN["kill"], window=1.0, allowance=0.2, noticed=BEGIN["kill"] + 0.9)

DEMO_RUN = DemoRun(
    scheduler="wlc",
    rate=RATE,
    client_timeout=CLIENT_TIMEOUT,
    began=0.0,
    ended=STEP * len(WEIGHTS),
    steps=tuple(
        Step(name, f"title of {name}", BEGIN[name], BEGIN[name], BEGIN[name] + STEP, weights)
        for name, weights in WEIGHTS.items()
    ),
    added=Joined("backend4", BEGIN["add"]),
    drained=Drained("backend1", BEGIN["drain"], BEGIN["drain"] + 2, BEGIN["remove"]),
    killed=KILL,
    returned=Joined("backend2", BEGIN["return"]),
    restarted=Restarted(BEGIN["restart"], BEGIN["restart"] + 1, 7, 7, 7),
    reweighted=Reweighted("backend3", BEGIN["weight"], 1, 4),
)


def request(
    start: float, backend: str | None, outcome: str = "ok", took: float = 0.01, **more: object
) -> Request:
    good = Request("fresh", 4, start, start, start, start + took, backend, outcome)
    return replace(good, **more)


def requests() -> list[Request]:
    """One in 1/RATE s, backends in turn by weight, families in turn."""
    made = []
    for number in range(int(RATE * DEMO_RUN.ended)):
        start = number / RATE
        name = next(name for name in reversed(BEGIN) if BEGIN[name] <= start)
        turn = [backend for backend, weight in WEIGHTS[name].items() for _ in range(weight)]
        made.append(request(start, turn[number % len(turn)], family=4 + number % 2 * 2))
    return made


def missed(result: Report) -> set[str]:
    return {check.name for check in result.checks if check.met is False}


def unjudged(result: Report) -> set[str]:
    return {check.name for check in result.checks if check.met is None}


def test_demo_by_the_book_passes() -> None:
    result = report(DEMO_RUN, requests())

    assert missed(result) == set()
    assert result.passed
    assert result.program_id == 7
    assert [row.step for row in result.steps] == list(WEIGHTS)
    assert sum(row.requests for row in result.steps) == result.requests == len(requests())
    assert sum(map(sum, result.timeline.served.values())) == result.requests


EXCUSED = {
    "started after the kill": request(KILL.at + 0.5, None, "timeout", CLIENT_TIMEOUT),
    "started at the last moment": request(KILL.until, None, "reset"),
    "was under way at the kill": request(KILL.at - 0.01, None, "reset", 1.5),
    "on a kept connection to the dead": request(KILL.at + 0.5, "backend2", "reset", kind="kept"),
}
UNEXCUSED = {
    "started too late": request(KILL.until + 0.01, None, "timeout", CLIENT_TIMEOUT),
    "ended before the kill": request(KILL.at - 0.5, None, "reset", 0.1),
    "started long before": request(KILL.at - CLIENT_TIMEOUT - 0.1, None, "timeout", 3.5),
    "on a kept connection to a living one": request(KILL.at + 0.5, "backend3", "reset", kind="kept"),
    "was refused": request(KILL.at + 0.5, None, "refused"),
    "was answered, and badly": request(KILL.at + 0.5, None, "status"),
}


@pytest.mark.parametrize("failed", EXCUSED.values(), ids=EXCUSED.keys())
def test_failure_in_flight_on_the_killed_backend_is_excused(failed: Request) -> None:
    result = report(DEMO_RUN, [*requests(), failed])

    assert result.passed
    assert (result.failed, result.excused) == (1, 1)


@pytest.mark.parametrize("failed", UNEXCUSED.values(), ids=UNEXCUSED.keys())
def test_failure_with_another_cause_is_not_excused(failed: Request) -> None:
    result = report(DEMO_RUN, [*requests(), failed])

    assert not result.passed
    assert (result.failed, result.excused) == (1, 0)


@pytest.mark.parametrize("step", WEIGHTS)
def test_failure_counts_against_its_step(step: str) -> None:
    failed = request(BEGIN[step] + STEP - 0.1, None, "reset")

    result = report(DEMO_RUN, [*requests(), failed])

    assert missed(result) == {step}
    assert [row.failed for row in result.steps] == [int(row.step == step) for row in result.steps]


def without(condition: Callable[[Request], bool]) -> list[Request]:
    return [one for one in requests() if not condition(one)]


def moved(step: str, source: str, target: str) -> list[Request]:
    """As if `target` had served what `source` did in that step."""
    begin = BEGIN[step]
    return [
        replace(one, backend=target) if one.backend == source and begin <= one.start < begin + STEP else one
        for one in requests()
    ]


DISAPPOINTMENTS: dict[str, tuple[DemoRun, list[Request], str]] = {
    "no IPv6": (DEMO_RUN, [replace(one, family=4) for one in requests()], "families"),
    "a backend idle at first": (DEMO_RUN, moved("baseline", "backend1", "backend2"), "baseline"),
    "the added one idle": (DEMO_RUN, moved("add", "backend4", "backend3"), "add"),
    "not added": (replace(DEMO_RUN, added=None), requests(), "add"),
    "a new connection to the drained one": (
        DEMO_RUN,
        [*requests(), request(BEGIN["drain"] + 0.01, "backend1")],
        "drain",
    ),
    "never empty": (
        replace(DEMO_RUN, drained=Drained("backend1", BEGIN["drain"], None, None)),
        requests(),
        "drain",
    ),
    "not removed": (
        replace(DEMO_RUN, drained=Drained("backend1", BEGIN["drain"], BEGIN["remove"], None)),
        requests(),
        "remove",
    ),
    "death not noticed": (replace(DEMO_RUN, killed=replace(KILL, noticed=None)), requests(), "kill"),
    "death noticed late": (
        replace(DEMO_RUN, killed=replace(KILL, noticed=KILL.at + 1.6)),
        requests(),
        "kill",
    ),
    "not killed": (replace(DEMO_RUN, killed=None), requests(), "kill"),
    "idle after its return": (DEMO_RUN, moved("return", "backend2", "backend3"), "return"),
    "another program afterwards": (
        replace(DEMO_RUN, restarted=Restarted(BEGIN["restart"], BEGIN["restart"] + 1, 7, 7, 8)),
        requests(),
        "restart",
    ),
    "detached while no daemon ran": (
        replace(DEMO_RUN, restarted=Restarted(BEGIN["restart"], BEGIN["restart"] + 1, 7, None, 7)),
        requests(),
        "restart",
    ),
    "no program at all": (
        replace(DEMO_RUN, restarted=Restarted(BEGIN["restart"], BEGIN["restart"] + 1, None, None, None)),
        requests(),
        "restart",
    ),
    "nothing served without the daemon": (
        DEMO_RUN,
        without(lambda one: BEGIN["restart"] <= one.start < BEGIN["restart"] + 1),
        "restart",
    ),
    "weight without effect": (DEMO_RUN, moved("weight", "backend3", "backend4"), "weight"),
    "a step that broke": (replace(DEMO_RUN, trouble=(Trouble("add", "refused"),)), requests(), "demo"),
}


@pytest.mark.parametrize(("demo_run", "seen", "name"), DISAPPOINTMENTS.values(), ids=DISAPPOINTMENTS.keys())
def test_disappointment_is_called_by_its_name(demo_run: DemoRun, seen: list[Request], name: str) -> None:
    result = report(demo_run, seen)

    assert result.verdict == "fail"
    assert name in missed(result)


def late(step: str, seen: list[Request]) -> list[Request]:
    """As if the machine had no time for the clients in that step: they begin half a second after they were due."""
    begin = BEGIN[step]
    return [
        replace(one, start=one.due + 0.5, end=one.end + 0.5) if begin <= one.due < begin + STEP else one
        for one in seen
    ]


LATE_NOTICE = replace(DEMO_RUN, killed=replace(KILL, noticed=KILL.at + 1.6))
# What is missed, in which step, and whether a machine that was busy in just that step may be the reason.
BUSY_CASES: dict[str, tuple[DemoRun, list[Request], str, str]] = {
    "half the load is missing": (DEMO_RUN, requests()[::3], "", "busy"),
    "a backend idle at first": (
        DEMO_RUN,
        late("baseline", moved("baseline", "backend1", "backend2")),
        "baseline",
        "busy",
    ),
    "busy in another step": (
        DEMO_RUN,
        late("add", moved("baseline", "backend1", "backend2")),
        "baseline",
        "fail",
    ),
    "death noticed late": (LATE_NOTICE, late("kill", requests()), "kill", "busy"),
    "weight without effect": (
        DEMO_RUN,
        late("weight", moved("weight", "backend3", "backend4")),
        "weight",
        "busy",
    ),
    "a client that waited in vain": (
        DEMO_RUN,
        [*late("add", requests()), request(BEGIN["add"] + 1, None, "timeout", CLIENT_TIMEOUT)],
        "add",
        "busy",
    ),
    "a connection that was reset": (
        DEMO_RUN,
        [*late("add", requests()), request(BEGIN["add"] + 1, None, "reset")],
        "add",
        "fail",
    ),
    "a new connection to the drained one": (
        DEMO_RUN,
        [*late("drain", requests()), request(BEGIN["drain"] + 1, "backend1")],
        "drain",
        "fail",
    ),
    "another program afterwards": (
        replace(DEMO_RUN, restarted=Restarted(BEGIN["restart"], BEGIN["restart"] + 1, 7, 7, 8)),
        late("restart", requests()),
        "restart",
        "fail",
    ),
    "busy, and all expectations met": (DEMO_RUN, late("add", requests()), "", "pass"),
}


@pytest.mark.parametrize(("demo_run", "seen", "name", "verdict"), BUSY_CASES.values(), ids=BUSY_CASES.keys())
def test_busy_machine_excuses_what_it_may_have_caused(
    demo_run: DemoRun, seen: list[Request], name: str, verdict: str
) -> None:
    result = report(demo_run, seen)

    assert result.verdict == verdict
    assert missed(result) == ({name} if verdict == "fail" else set())
    assert not name or verdict == "fail" or unjudged(result) == {name}


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("count", [40, 400], ids=lambda count: f"{count} requests")
def test_shares_by_chance_are_not_held_against_the_director(seed: int, count: int) -> None:
    dice, step = Random(seed), DEMO_RUN.steps[0]
    backends = list(step.weights)
    seen = [request(step.settled + n * STEP / count, dice.choice(backends)) for n in range(count)]

    assert expectations.share_out(step, seen)[1]


def test_backend_without_its_share_is_found_whatever_the_chance() -> None:
    step = DEMO_RUN.steps[0]
    names = ["backend1"] * 10 + ["backend2"] * 195 + ["backend3"] * 195
    seen = [request(step.settled + n * STEP / len(names), name) for n, name in enumerate(names)]

    assert not expectations.share_out(step, seen)[1]


def test_kept_connection_may_go_on_while_its_backend_drains() -> None:
    drain = BEGIN["drain"]
    going_on = request(drain + 0.5, "backend1", kind="kept", opened=drain - 0.5)

    assert report(DEMO_RUN, [*requests(), going_on]).passed


def test_empty_demo_fails_without_breaking() -> None:
    demo_run = DemoRun("mh", RATE, CLIENT_TIMEOUT, 0.0, 1.0, ())

    result = report(demo_run, [])

    assert not result.passed
    assert result.timeline.served == {}


def test_document_survives_json() -> None:
    document = report(DEMO_RUN, requests(), {"verdicts": {"forwarded": 1}}).document()

    again = json.loads(json.dumps(document))

    assert again["verdict"] == "pass"
    assert again["steps"][0]["shares"]["backend1"] == pytest.approx(1 / 3, abs=0.05)
    assert again["steps"][0]["latency_ms"]["p50"] == pytest.approx(10)
    assert again["statistics"] == {"verdicts": {"forwarded": 1}}


def shown(demo_run: DemoRun, width: int, seen: list[Request] | None = None) -> str:
    screen = StringIO()
    Console(width=width, file=screen).print(summary(report(demo_run, seen or requests()), width))
    return screen.getvalue()


@pytest.mark.parametrize(
    ("demo_run", "word"), [(DEMO_RUN, "PASS"), (replace(DEMO_RUN, added=None), "MISSED")], ids=["good", "bad"]
)
def test_summary_says_the_verdict(demo_run: DemoRun, word: str) -> None:
    assert word in shown(demo_run, 110)


def test_summary_says_that_the_machine_was_too_busy() -> None:
    text = " ".join(shown(DEMO_RUN, 110, requests()[::3]).split())

    assert "NOT JUDGED: this machine was too busy for" in text
    assert "33% of the due requests could be begun" in text
    assert "FAIL" not in text


@pytest.mark.parametrize("width", [80, 100, 200])
def test_summary_fits_the_screen(width: int) -> None:
    text = shown(DEMO_RUN, width)

    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width


def test_request_survives_its_line() -> None:
    one = request(1.0, "backend1", resent=2, kind="kept")

    assert Request.from_line(one.to_line()) == one


def test_latency_counts_from_when_it_was_due() -> None:
    late = request(2.0, "backend1", took=0.5, due=1.0)

    assert late.latency == pytest.approx(1.5)


def test_shares_ignore_failures() -> None:
    assert expectations.shares([request(0, "backend1"), request(0, "backend2", "reset")]) == {"backend1": 1.0}
