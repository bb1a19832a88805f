# SPDX-License-Identifier: Apache-2.0
"""The chaos run's schedule: the same from the same seed, in bounds, and such that something always serves."""

import itertools
from dataclasses import replace

import pytest

from dev.chaos.disturbances import DISTURBANCES, NAMED
from dev.chaos.operations import OPERATIONS
from dev.chaos.schedule import (
    DISTURBANCE,
    FLOOD,
    LANES,
    OPERATION,
    SETTLING,
    Action,
    kinds,
    schedule,
)
from dev.chaos.setting import (
    CHANGING,
    SERVICES,
    SMALL,
    SPARE,
    Options,
)

RUN = Options(seed=7, minutes=10.0)
SEEDS = range(12)


def lane(actions: tuple[Action, ...], name: str) -> list[Action]:
    return [action for action in actions if action.lane == name]


def test_the_same_seed_gives_the_same_schedule() -> None:
    assert schedule(RUN) == schedule(replace(RUN, size=SMALL, name="other"))
    assert schedule(RUN) != schedule(replace(RUN, seed=8))


def test_a_longer_run_begins_as_a_shorter_one() -> None:
    short, long = schedule(RUN), schedule(replace(RUN, minutes=20.0))

    for name in LANES:
        beginning = lane(short, name)
        assert lane(long, name)[: len(beginning)] == beginning


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_begun_or_lasts_while_the_run_settles(seed: int) -> None:
    actions = schedule(replace(RUN, seed=seed))

    assert all(action.at > 0 and action.at + action.lasts <= RUN.seconds - SETTLING for action in actions)
    assert list(actions) == sorted(actions, key=lambda action: action.at)


@pytest.mark.parametrize("seed", SEEDS)
def test_disturbances_and_floods_follow_one_another(seed: int) -> None:
    actions = schedule(replace(RUN, seed=seed))

    for name in (DISTURBANCE, FLOOD):
        found = lane(actions, name)
        assert all(one.at + one.lasts < other.at for one, other in itertools.pairwise(found))


@pytest.mark.parametrize("seed", SEEDS)
def test_every_kind_has_its_turn(seed: int) -> None:
    """Disturbances before any of them comes again."""
    actions = schedule(replace(RUN, seed=seed))
    disturbances = [action.kind for action in lane(actions, DISTURBANCE)]

    assert {action.kind for action in actions} == {*kinds()}
    assert {*disturbances[: len(DISTURBANCES)]} == {*DISTURBANCES}
    assert {action.arguments["service"] for action in lane(actions, FLOOD)} == {
        each.name for each in SERVICES
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_backends_that_serve_are_always_left(seed: int) -> None:
    """Whatever becomes of the spare one; and a deadline that would cut connections does not come."""
    weights = {each.name: {f"backend{n}": 1 for n in (1, 2, 3)} for each in SERVICES}
    draining: dict[str, set[str]] = {each.name: set() for each in SERVICES}
    for action in lane(schedule(replace(RUN, seed=seed)), OPERATION):
        service, backend = action.arguments["service"], action.arguments.get("backend")
        match action.kind:
            case "weight":
                weights[service][backend] = action.arguments["weight"]
            case "drain":
                draining[service].add(backend)
                assert action.arguments["deadline"] in (None, "1h")
            case "enable":
                draining[service].discard(backend)
        taking = [
            name for name, weight in weights[service].items() if weight and name not in draining[service]
        ]

        assert len(taking) >= 2
        assert backend != SPARE or action.kind in ("add", "remove")


@pytest.mark.parametrize("seed", SEEDS)
def test_listeners_of_running_connections_stay_wherever_they_stand(seed: int) -> None:
    served = {each.name: each for each in SERVICES}
    edits = [action.arguments for action in schedule(replace(RUN, seed=seed)) if action.kind == "listeners"]

    assert all({*served[each["service"]].listeners} <= {*each["listeners"]} for each in edits)
    assert any(each["listeners"][0] in served[each["service"]].others for each in edits)


def test_only_some_services_change_their_scheduler() -> None:
    changed = {
        action.arguments["service"] for action in schedule(RUN) if action.kind in ("scheduler", "persistence")
    }

    assert changed == {*CHANGING}


def test_only_what_is_asked_for_is_done() -> None:
    actions = schedule(replace(RUN, only=("carrier", "weight", "SYN")))

    assert {action.kind for action in actions} == {"carrier", "weight", "SYN"}


def test_everything_that_is_scheduled_can_be_done_and_is_judged() -> None:
    assert {*kinds()} >= {*DISTURBANCES} | {*OPERATIONS}
    assert NAMED.keys() == DISTURBANCES.keys()


def test_services_have_each_scheduler_with_and_without_persistence() -> None:
    found = {(each.scheduler, each.persistent) for each in SERVICES if each.name not in CHANGING}
    listeners = [listener for each in SERVICES for listener in (*each.listeners, *each.others)]

    assert found == {(scheduler, kept) for scheduler in ("rr", "wlc", "mh", "sh") for kept in (False, True)}
    assert len(set(listeners)) == len(listeners)


def test_an_action_says_what_it_does() -> None:
    action = Action(1.0, OPERATION, "listeners", arguments={"service": "rr", "listeners": ["a", "b"]})

    assert str(action) == "listeners (service rr, listeners a b)"
    assert str(Action(1.0, DISTURBANCE, "mac")) == "mac"
