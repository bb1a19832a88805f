# SPDX-License-Identifier: Apache-2.0
"""Three directors that are active at once, and a fourth: whatever is done to backends and directors, no connection
leaves a backend that lives.

Stories are made by hypothesis, among 10,000 running flows: backends are added, drained, taken down and up and
removed, on one director after the other; directors die, return with empty tables and join, and the router sends
flows through others than before. In the soak more stories. Each packet is predicted by the reference model, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import tests.support.world as w
from tests.support.actives import BACKENDS, Actives
from tests.support.flow_crowd import Condition
from tests.support.xdp_driver import Driver
from xdpdirector.model import Sizes

Step: TypeAlias = tuple[Callable[..., None], tuple[object, ...]]
SIZES = Sizes(services=4, backends=64, listeners=16, connections=1 << 16, connections6=1 << 15, ring_slots=1 << 14,
              clients=1024, fragments=1024, denied=16, sources=1024)  # fmt: skip
FLOWS = 10_000
FIRST, ALL = 3, 4  # directors


@pytest.fixture(scope="module")
def worlds() -> Iterator[list[w.World]]:
    with w.worlds("actives", ALL, SIZES) as worlds:
        yield worlds


@pytest.fixture(scope="module")
def driver(worlds: list[w.World]) -> Iterator[Driver]:
    with Driver(worlds[0]) as driver:
        yield driver


def speak(actives: Actives, share: float, seed: int) -> None:
    actives.speak(actives.some(share, seed))


def tenth(actives: Actives) -> None:
    """So many flows more."""
    actives.come(actives.flows // 10)


def join(actives: Actives, number: int, checked: bool) -> None:
    actives.join(number, checked=checked)


def turn(actives: Actives, number: int) -> None:
    """Dead if it lives, and back if it is dead."""
    actives.die(number)
    actives.join(number, checked=False)


CONDITIONS = st.builds(
    Condition,
    weight=st.sampled_from((1, 2, 7)),
    admin=st.sampled_from(("enabled", "enabled", "drain", "maintenance")),
    up=st.sampled_from((True, True, False)),
)
NUMBERS = st.integers(0, ALL - 1)
EVENTS = st.one_of(
    st.tuples(
        st.just(Actives.change),
        st.tuples(st.sampled_from(BACKENDS), st.none() | CONDITIONS, st.integers(0, 9)),
    ),
    st.tuples(st.just(Actives.die), st.tuples(NUMBERS)),
    st.tuples(st.just(join), st.tuples(NUMBERS, st.booleans())),
    st.tuples(st.just(turn), st.tuples(NUMBERS)),
    st.tuples(st.just(Actives.rehash), st.tuples(st.integers(1, 9))),
    st.tuples(st.just(speak), st.tuples(st.sampled_from((0.1, 0.5)), st.integers(0, 9))),
    st.tuples(st.just(tenth), st.just(())),
    st.tuples(st.just(Actives.wait), st.tuples(st.sampled_from((1.0, 31.0, 450.0, 899.0)))),
    st.tuples(st.just(Actives.rest), st.just(())),
)

ADDED = (Actives.change, ("web4", Condition(), 1))
DRAINED = (Actives.change, ("web1", Condition(admin="drain"), 2))
DOWN = (Actives.change, ("web2", Condition(up=False), 3))
UP = (Actives.change, ("web2", Condition(), 4))
GONE = (Actives.change, ("web1", None, 5))
DIES, RETURNS, FOURTH = (Actives.die, (1,)), (join, (1, False)), (join, (3, True))
IN_THE_ISSUE = [ADDED, (tenth, ()), DRAINED, DIES, DOWN, (tenth, ()), RETURNS, UP, FOURTH, (tenth, ()), GONE]
REMOVED_BEFORE_IT_JOINS = [GONE, (Actives.wait, (450.0,)), FOURTH, (tenth, ()), (Actives.rehash, (7,))]
FLUX_ENDS_AFTER_IT_HAS_JOINED = [
    *(ADDED, (Actives.wait, (800.0,)), FOURTH, (Actives.wait, (200.0,)), (tenth, ()), (Actives.rehash, (7,))),
]
ALL_DIE_IN_FLUX = [
    *(DRAINED, FOURTH, (Actives.die, (0,)), (Actives.die, (1,)), (Actives.die, (2,)), (tenth, ())),
    *((join, (0, False)), (Actives.die, (3,)), UP),
]


@pytest.mark.slow
@example(story=IN_THE_ISSUE)
@example(story=REMOVED_BEFORE_IT_JOINS)
@example(story=FLUX_ENDS_AFTER_IT_HAS_JOINED)
@example(story=ALL_DIE_IN_FLUX)
@settings(
    max_examples=settings.default.max_examples // 13,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(story=st.lists(EVENTS, min_size=3, max_size=9))
def test_no_connection_leaves_a_living_backend(
    worlds: list[w.World], driver: Driver, story: list[Step]
) -> None:
    with Actives(worlds, driver, FLOWS, FIRST) as actives:
        for name in BACKENDS[:3]:
            actives.change(name, Condition())
        actives.come(FLOWS)
        assert actives.owners == set(BACKENDS[:3])

        for act, arguments in story:
            act(actives, *arguments)

        actives.rehash(99)
        actives.speak(actives.running)
