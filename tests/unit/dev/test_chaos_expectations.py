# SPDX-License-Identifier: Apache-2.0
"""The chaos run's judge and its report: what breaks is named with what was done last, and nothing else is."""

import json
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from dev.chaos import client_log, expectations, results
from dev.chaos.client_log import Ended, Second, line, parse
from dev.chaos.disturbances import UNREACHABLE
from dev.chaos.expectations import Verdict
from dev.chaos.lanes import passes
from dev.chaos.observer import Said
from dev.chaos.report import Report, report
from dev.chaos.results import Done
from dev.chaos.schedule import DISTURBANCE, FLOOD, OPERATION, Action
from dev.chaos.setting import Options
from dev.chaos.show import show
from xdpdirector.errors import (
    DataplaneError,
    DirectorError,
    InvalidRequestError,
    StoreError,
    UnreachableError,
)

BEGUN = 1000.0
WELL = Ended(client_log.LINES, "wlc", 4, 40000, BEGUN, BEGUN + 50, "backend1", client_log.OK, BEGUN + 49)
RESET = replace(WELL, kind=client_log.IDLE, port=40001, outcome=client_log.RESET, at=BEGUN + 21.5)
SILENT = replace(RESET, outcome=client_log.SILENT)


def did(lane: str, kind: str, began: float, lasted: float = 0.0, outcome: str = results.OK) -> Done:
    action = Action(began, lane, kind, lasted, {"service": "wlc"} if lane != DISTURBANCE else {})
    return Done(
        action, BEGUN + began, BEGUN + began + lasted, outcome, "why" if outcome != results.OK else ""
    )


CARRIER = did(DISTURBANCE, "carrier", 20.0, 3.0)
ACTIONS = [
    did(OPERATION, "weight", 5.0),
    did(FLOOD, "SYN", 10.0, 5.0),
    CARRIER,
    did(OPERATION, "drain", 21.0),
    did(OPERATION, "enable", 30.0),
]
NAMED = Said(BEGUN + 20.5, "network.fault", "interface eth0 is down or has no carrier. backend1: ...")


def second(at: float = 1.0, lag: float = 0.0) -> Second:
    return Second(BEGUN + at, served=10, late=1, slowest=1.2, answers=5, lag=lag)


def run(
    *connections: Ended,
    actions: list[Done] = ACTIONS,
    said: tuple[Said, ...] = (NAMED,),
    seconds: tuple[Second, ...] = (second(), second(2.0)),
) -> Report:
    return report(Options(seed=7), BEGUN, BEGUN + 60, actions, [WELL, *connections, *seconds], said)


def test_a_run_in_which_nothing_breaks_passes() -> None:
    found = run()

    assert (found.verdict, found.passed, found.broken, found.findings) == (Verdict.PASS, True, (), ())
    assert (found.served, found.late, found.slowest) == (20, 2, 1.2)
    assert found.ended == {client_log.LINES: 1}


@pytest.mark.parametrize(
    "outcome",
    [
        client_log.RESET,
        client_log.MOVED,
        client_log.CLOSED,
        client_log.SILENT,
        client_log.REFUSED,
        client_log.FAILED,
    ],
)
@pytest.mark.parametrize("kind", [client_log.NEW, client_log.IDLE, client_log.LINES, client_log.DOWNLOAD])
def test_whatever_breaks_fails_it(kind: str, outcome: str) -> None:
    found = run(replace(RESET, kind=kind, outcome=outcome))

    assert found.verdict is Verdict.FAIL
    assert [each.connection.outcome for each in found.broken] == [outcome]


def test_what_breaks_is_told_with_what_was_done_last_and_what_lasted_first() -> None:
    (broken,) = run(RESET).broken

    assert broken.before[0] is CARRIER
    assert [each.action.kind for each in broken.before[1:]] == ["drain", "SYN", "weight"]


@pytest.mark.parametrize(
    ("said", "named"),
    [
        pytest.param((NAMED,), True, id="while it lasts"),
        pytest.param((replace(NAMED, at=CARRIER.ended + expectations.NAMED_WITHIN),), True, id="soon after"),
        pytest.param((), False, id="never"),
        pytest.param((replace(NAMED, at=CARRIER.began - 0.1),), False, id="before"),
        pytest.param(
            (replace(NAMED, at=CARRIER.ended + expectations.NAMED_WITHIN + 0.1),), False, id="too late"
        ),
        pytest.param((replace(NAMED, text="all is well"),), False, id="by other words"),
    ],
)
def test_a_disturbance_must_be_named_while_it_lasts(said: tuple[Said, ...], named: bool) -> None:
    found = run(said=said)

    assert found.passed is named
    assert ["carrier" in each.text for each in found.findings] == ([] if named else [True])


@pytest.mark.parametrize("outcome", [results.SKIPPED, results.REFUSED])
def test_what_could_not_be_done_here_need_not_be_named(outcome: str) -> None:
    assert run(actions=[replace(CARRIER, outcome=outcome)], said=()).passed


def test_an_action_that_fails_is_a_finding() -> None:
    found = run(actions=[did(OPERATION, "drain", 21.0, outcome=results.FAILED)])

    assert found.verdict is Verdict.FAIL
    assert "drain (service wlc) failed: why" in found.findings[0].text


@pytest.mark.parametrize(
    ("broken", "lags", "verdict"),
    [
        pytest.param(SILENT, (5.0, 0.0), Verdict.BUSY, id="no answer, no processor"),
        pytest.param(SILENT, (0.0, 0.0), Verdict.FAIL, id="no answer"),
        pytest.param(SILENT, (5.0, *[0.0] * 20), Verdict.FAIL, id="no answer, no processor for one second"),
        pytest.param(RESET, (5.0, 5.0), Verdict.FAIL, id="no processor resets nothing"),
    ],
)
def test_a_machine_without_time_excuses_what_is_late(
    broken: Ended, lags: tuple[float, ...], verdict: Verdict
) -> None:
    assert run(broken, seconds=tuple(second(lag=lag) for lag in lags)).verdict is verdict


@pytest.mark.parametrize(
    ("error", "does"),
    [
        (UnreachableError("no daemon answers"), True),
        (StoreError("the disk is full"), True),
        (InvalidRequestError("backend 'a/b': no route leads to 192.0.2.24: it must be"), True),
        (InvalidRequestError("weight must be at least 0"), False),
        (DataplaneError("the map is gone"), False),
    ],
)
def test_an_operator_tries_again_what_a_disturbance_kept_from_being_done(
    error: DirectorError, does: bool
) -> None:
    assert passes(error) is does


TASK = replace(did(DISTURBANCE, "task", 20.0, 3.0), detail="the sweep (of 2)")
TOLD = Said(BEGUN + 21, "director.problem", "the sweep (of 2) failed and is restarted: RuntimeError: chaos")
OTHER = replace(TOLD, text=TOLD.text.replace("sweep", "upkeep"))
BEFORE = replace(TOLD, at=BEGUN + 5)
RECOVERED = Said(BEGUN + 10, "director.recovered", f"no more: {TOLD.text}")
AWAY = Said(BEGUN + 10, UNREACHABLE, UNREACHABLE)


@pytest.mark.parametrize(
    ("said", "named"),
    [
        pytest.param([TOLD], True, id="said"),
        pytest.param([OTHER], False, id="of another task"),
        pytest.param([BEFORE], True, id="said before, and true still"),
        pytest.param([BEFORE, RECOVERED], False, id="said before, and taken back"),
        pytest.param([BEFORE, RECOVERED, replace(TOLD, at=BEGUN + 15)], True, id="said again"),
        pytest.param([BEFORE, AWAY], False, id="said by the daemon before"),
    ],
)
def test_the_task_that_failed_is_named(said: list[Said], named: bool) -> None:
    assert (expectations.names(TASK, said) is not None) is named


@pytest.mark.parametrize("record", [RESET, second()], ids=["connection", "second"])
def test_what_clients_write_down_is_read_as_it_was(record: Ended | Second) -> None:
    assert parse(line(record)) == record


def test_the_document_says_when_in_seconds_since_the_begin() -> None:
    document = json.loads(json.dumps(run(RESET, said=()).document()))

    assert document["verdict"] == "fail"
    assert (document["broken"][0]["at"], document["broken"][0]["last"]) == (21.5, 49.0)
    assert document["broken"][0]["before"][0] == "20.0 to 23.0: disturbance carrier"
    assert document["findings"] == [{"at": 20.0, "text": "the director did not name it: carrier"}]
    assert [each["named"] for each in document["actions"]] == [None] * len(ACTIONS)
    assert document["options"]["seed"] == 7


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (run(), ["PASS", "--seed 7", "20 new ones served"]),
        (
            run(RESET),
            ["FAIL: 1 connections broke (1 reset)", "21.5 s  idle connection from port 40001 to wlc"],
        ),
        (run(SILENT, seconds=(second(lag=9.0),)), ["NOT JUDGED", "9.0 s too late"]),
    ],
    ids=["pass", "fail", "busy"],
)
def test_people_read_what_broke_and_how_to_see_it_again(found: Report, words: list[str]) -> None:
    console = Console(file=StringIO(), width=400)

    show(found, console)

    assert isinstance(console.file, StringIO)
    text = console.file.getvalue()
    assert [word for word in words if word not in text] == []
