# SPDX-License-Identifier: Apache-2.0
"""What is good enough for the clients of a pair."""

from __future__ import annotations

from typing import Any

import pytest

from xdpdirector.lab.pair.report import Apart, Failure, Seen, judged
from xdpdirector.lab.pair.story import grown
from xdpdirector.lab.sample import Request


def request(
    due: float, *, took: float = 0.01, outcome: str = "ok", connected: float = 0.001, late: float = 0.0
) -> Request:
    """`connected`: so long after it was begun; `late`: begun so long after it was due."""
    start = due + late
    return Request(
        "fresh",
        4,
        due,
        start,
        start,
        start + took,
        "backend1",
        outcome,
        connected=connected and start + connected,
    )


def line(what: str, at: float, **more: Any) -> dict[str, Any]:
    return {"what": what, "number": 1, "at": at, **more}


GOOD = [request(0.1 * number) for number in range(100)]


def complaints(
    step: str, requests: list[Request] = GOOD, lines: list[dict[str, Any]] | None = None, trouble: str = ""
) -> tuple[str, ...]:
    return judged([Seen(step, "", 0.0, 10.0, trouble)], requests, lines or [], 10.0).complaints


def test_nothing_happened() -> None:
    assert complaints("kill", GOOD, [line("opened", 1.0), line("done", 2.0)]) == ()


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([line("broken", 3.0, why="reset")], "kill: 1 downloads broke"),
        ([line("stalled", 3.0, seconds=1.4)], "kill: 1 downloads stalled, the longest for 1.4 s"),
        ([line("broken", 11.0, why="reset")], None),
    ],
)
def test_downloads(lines: list[dict[str, Any]], sentence: str | None) -> None:
    assert complaints("kill", lines=lines) == ((sentence,) if sentence else ())


def test_new_connections_may_wait_for_a_moment_when_a_director_dies() -> None:
    hurt = [request(1.0, took=1.2), request(1.5, took=1.1)]
    assert complaints("kill", [*GOOD, *hurt]) == ()
    assert complaints("kill", [*GOOD, *hurt, request(1.7, outcome="timeout")]) == (
        "kill: new connections waited for 0.7 s, and 0.6 is the most",
    )


def test_nothing_may_fail_when_nobody_dies() -> None:
    failed = request(1.0, outcome="reset")
    assert complaints("hand over", [*GOOD, failed]) == ("hand over: 1 requests failed: {'reset': 1}",)
    assert complaints("kill", [*GOOD, failed]) == ()


DIES = Seen("kill", "", 0.0, 10.0, died=5.0, interval=0.2)


@pytest.mark.parametrize(
    ("hit", "half_open", "young", "failed"),
    [
        (request(4.99, took=3.0, connected=0.0, outcome="timeout"), 1, 0, 0),
        (request(4.99, took=1.2, connected=1.1), 1, 0, 0),
        (request(4.9, took=3.0, outcome="reset"), 0, 1, 0),
        (request(4.0, took=3.0, outcome="reset"), 0, 0, 1),
        (request(5.1, took=3.0, connected=0.0, outcome="timeout"), 0, 0, 1),
    ],
    ids=["no handshake", "handshake later", "young", "established", "begun later"],
)
def test_what_the_peer_could_not_know_is_counted_apart(
    hit: Request, half_open: int, young: int, failed: int
) -> None:
    [row] = judged([DIES], [*GOOD, hit], [], 10.0).rows
    assert (row.half_open.count, row.young.count, row.failed) == (half_open, young, failed)
    assert row.half_open == Apart(half_open, {hit.outcome: 1} if half_open else {})


def test_a_connection_of_the_step_before_is_counted_apart_where_the_director_dies() -> None:
    steps = [Seen("hand back", "", 0.0, 5.0), Seen("kill", "", 5.0, 10.0, died=5.02, interval=0.2)]

    before, kill = judged(steps, [*GOOD, request(4.95, took=3.0, outcome="timeout")], [], 10.0).rows

    assert (before.failed, before.young.count) == (0, 0)
    assert (kill.failed, kill.young) == (0, Apart(1, {"timeout": 1}))


def test_a_download_that_had_just_begun_is_counted_apart() -> None:
    lines = [line("opened", 4.9), line("broken", 6.0, why="reset")]
    assert judged([DIES], GOOD, lines, 10.0).rows[0].young == Apart(1, {"download broken": 1})
    before = [line("opened", 4.0), line("broken", 6.0, why="reset")]
    assert judged([DIES], GOOD, before, 10.0).complaints == ("kill: 1 downloads broke",)


def test_a_busy_machine_is_no_judge_of_times() -> None:
    late = [request(0.1 * number, late=0.5, took=1.0) for number in range(100)]
    step = Seen("kill", "", 0.0, 10.0)
    assert judged([step], late, [], 10.0).verdict == "busy"
    assert judged([step], late, [line("broken", 3.0, why="reset")], 10.0).verdict == "fail"
    assert judged([step], GOOD, [line("stalled", 3.0, seconds=1.4)], 10.0).verdict == "fail"
    assert judged([step], GOOD, [], 10.0).verdict == "pass"


def test_trouble_is_told() -> None:
    assert complaints("return", trouble="waited 60 s") == ("return: waited 60 s",)


def test_what_failed_is_told_and_which_director_refused_it() -> None:
    failed = request(1.0, outcome="reset", took=0.25)
    step = Seen("hand over", "", 0.5, 10.0, refused={"director2": {"reject_unknown": 1}})
    [row] = judged([step], [*GOOD, failed], [], 10.0).rows
    assert row.failures == (Failure(0.75, 0.5, 0.501, "fresh", 4, "reset", "backend1"),)
    assert row.refused == {"director2": {"reject_unknown": 1}}


def test_a_program_that_was_loaded_anew_counts_from_nothing() -> None:
    before = {"director": {"drop_reset": 9, "reject_unknown": 2}, "director2": {"drop_reset": 4}}
    after = {
        "director": {"drop_reset": 1, "reject_unknown": 0},
        "director2": {"drop_reset": 4, "drop_down": 3},
    }
    assert grown(before, after) == {"director": {"drop_reset": 1}, "director2": {"drop_down": 3}}
