# SPDX-License-Identifier: Apache-2.0
"""What is good enough for the clients of a pair."""

from __future__ import annotations

from typing import Any

import pytest

from xdpdirector.lab.pair.report import Seen, judged
from xdpdirector.lab.sample import Request


def request(due: float, *, took: float = 0.01, outcome: str = "ok") -> Request:
    return Request("fresh", 4, due, due, due, due + took, "backend1", outcome)


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


def test_trouble_is_told() -> None:
    assert complaints("return", trouble="waited 60 s") == ("return: waited 60 s",)
