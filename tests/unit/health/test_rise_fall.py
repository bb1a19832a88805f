# SPDX-License-Identifier: Apache-2.0
"""The rise and fall machine, beside a model that is so simple that it must be right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpdirector.health.rise_fall import Health, HealthReport, Transition
from xdpdirector.model.status import Operational

UNKNOWN, UP, DOWN = Operational.UNKNOWN, Operational.UP, Operational.DOWN
REFUSED = "connection refused by 192.0.2.21:80"


def machine(
    rise: int = 2, fall: int = 3, earlier: HealthReport | None = None, *, confirm: bool = False
) -> Health:
    return Health(rise=rise, fall=fall, now=0.0, earlier=earlier, confirm=confirm)


def observe_all(health: Health, results: str) -> list[Transition]:
    """`+` is a success and `-` a failure, one a second from second 1 on."""
    transitions = [
        health.observe(result == "+", "" if result == "+" else REFUSED, float(second))
        for second, result in enumerate(results, start=1)
    ]
    return [transition for transition in transitions if transition]


def expected_state(results: str, rise: int, fall: int) -> Operational:
    """The naive model: look at the whole past again for every result."""
    state = UNKNOWN
    for end in range(1, len(results) + 1):
        past = results[:end]
        if state is UNKNOWN:
            state = UP if past == "+" else DOWN
        elif past.endswith("-" * fall):
            state = DOWN
        elif past.endswith("+" * rise):
            state = UP
    return state


@given(st.text(alphabet="+-", max_size=40), st.integers(1, 5), st.integers(1, 5))
def test_agrees_with_the_naive_model(results: str, rise: int, fall: int) -> None:
    health = machine(rise, fall)

    for end in range(1, len(results) + 1):
        before = health.report().operational
        transition = health.observe(results[end - 1] == "+", REFUSED, float(end))
        report = health.report()

        assert report.operational is expected_state(results[:end], rise, fall)
        assert (transition is not None) == (report.operational is not before)
        assert (report.successes == 0) != (report.failures == 0)


@pytest.mark.parametrize(
    ("results", "changes"),
    [
        pytest.param("", [], id="nothing seen"),
        pytest.param("+", [(UNKNOWN, UP, 1)], id="first success decides"),
        pytest.param("-", [(UNKNOWN, DOWN, 1)], id="first failure decides"),
        pytest.param("+--", [(UNKNOWN, UP, 1)], id="two of three failures"),
        pytest.param("+---", [(UNKNOWN, UP, 1), (UP, DOWN, 4)], id="three failures"),
        pytest.param("+--+--+", [(UNKNOWN, UP, 1)], id="failures not in a row"),
        pytest.param("-+", [(UNKNOWN, DOWN, 1)], id="one of two successes"),
        pytest.param("-+-+-", [(UNKNOWN, DOWN, 1)], id="successes not in a row"),
        pytest.param("-++", [(UNKNOWN, DOWN, 1), (DOWN, UP, 3)], id="two successes"),
        pytest.param("+------", [(UNKNOWN, UP, 1), (UP, DOWN, 4)], id="down is announced once"),
    ],
)
def test_transitions(results: str, changes: list[tuple[Operational, Operational, int]]) -> None:
    transitions = observe_all(machine(), results)

    assert [(change.before, change.after, change.at) for change in transitions] == changes


@pytest.mark.parametrize(
    ("results", "changes"),
    [
        pytest.param("--", [], id="two of three failures"),
        pytest.param("---", [(UNKNOWN, DOWN, 3)], id="three failures"),
        pytest.param("--+", [(UNKNOWN, UP, 3)], id="a success decides at once"),
        pytest.param("---++", [(UNKNOWN, DOWN, 3), (DOWN, UP, 5)], id="as ever after the first verdict"),
    ],
)
def test_a_first_failure_that_has_to_be_confirmed(
    results: str, changes: list[tuple[Operational, Operational, int]]
) -> None:
    transitions = observe_all(machine(confirm=True), results)

    assert [(change.before, change.after, change.at) for change in transitions] == changes


def test_going_down_tells_the_last_failure() -> None:
    health = machine(fall=2)
    health.observe(True, "", 1.0)
    health.observe(False, "no answer from 192.0.2.21:80 within 1s", 2.0)

    transition = health.observe(False, REFUSED, 3.0)

    assert transition == Transition(UP, DOWN, REFUSED, 3.0)
    assert health.report() == HealthReport(DOWN, REFUSED, 3.0, 0, 2, REFUSED)


def test_a_first_failure_is_told_while_still_up() -> None:
    health = machine()

    observe_all(health, "+-")

    assert health.report() == HealthReport(UP, REFUSED, 1.0, 0, 1, REFUSED)


def test_recovery_clears_the_reason_and_keeps_the_last_failure() -> None:
    health = machine()

    transitions = observe_all(health, "-++")

    assert transitions[-1].reason == ""
    assert health.report() == HealthReport(UP, "", 3.0, 2, 0, REFUSED)


def test_an_earlier_verdict_stands_until_thresholds_say_otherwise() -> None:
    earlier = HealthReport(UP, "", 5.0, successes=9)
    health = machine(fall=2, earlier=earlier)

    transitions = observe_all(health, "--")

    assert [(change.before, change.after, change.at) for change in transitions] == [(UP, DOWN, 2)]
