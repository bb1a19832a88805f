# SPDX-License-Identifier: Apache-2.0
"""The promise of `mh`: not one packet of a flow whose backend lives goes elsewhere, whatever is done to the others.

Stories are made by hypothesis: backends are added, drained, weighed, taken down and up and removed in any order,
among 10,000 running flows; in the soak more stories, also among 100,000.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import tests.support.world as w
from tests.support.flow_crowd import NAMES, SILENCE, Condition, Crowd
from tests.support.xdp_driver import Driver
from xdpdirector.model import Scheduler

Step: TypeAlias = tuple[Callable[..., None], tuple[object, ...]]


def speak(crowd: Crowd, share: float, seed: int) -> None:
    crowd.speak(crowd.some(share, seed))


def tenth(crowd: Crowd) -> None:
    """So many flows more."""
    crowd.fill(crowd.flows // 10)


CONDITIONS = st.builds(
    Condition,
    weight=st.sampled_from((1, 2, 7)),
    admin=st.sampled_from(("enabled", "enabled", "drain", "maintenance")),
    up=st.sampled_from((True, True, False)),
)
CHANGES = st.tuples(st.just(Crowd.change), st.tuples(st.sampled_from(NAMES), st.none() | CONDITIONS))
EVENTS = st.one_of(
    st.tuples(st.just(speak), st.tuples(st.sampled_from((0.1, 0.5, 1.0)), st.integers(0, 9))),
    st.tuples(st.just(tenth), st.just(())),
    st.tuples(st.just(Crowd.reopen), st.just(())),
    st.tuples(st.just(Crowd.sweep), st.just(())),
    st.tuples(st.just(Crowd.wait), st.tuples(st.sampled_from((1.0, 450.0, 899.0, 901.0, 2000.0)))),
    st.tuples(st.just(Crowd.restart), st.just(())),
    st.tuples(st.just(Crowd.use), st.tuples(st.sampled_from((Scheduler.MH, Scheduler.MH, Scheduler.WLC)))),
)


GONE = (Crowd.change, ("web1", None))
DRAINED = (Crowd.change, ("web2", Condition(admin="drain")))
BACK = (Crowd.change, ("web2", Condition()))
ALL_SPEAK = (speak, (1.0, 0))


def later(seconds: float) -> Step:
    return Crowd.wait, (seconds,)


def at_rest(crowd: Crowd) -> None:
    """Three backends; nothing changed for a while when the flows come."""
    for name in NAMES[:3]:
        crowd.change(name, Condition())
    crowd.wait(SILENCE)
    crowd.fill()


def one_by_one(crowd: Crowd) -> None:
    """Three backends come up one after the other, and the first flows before the last of them."""
    for name in NAMES[:2]:
        crowd.change(name, Condition())
        crowd.wait(1.0)
    crowd.come(crowd.flows // 2)
    crowd.change(NAMES[2], Condition())
    crowd.fill()


TWICE_IN_FLUX = [GONE, later(450.0), ALL_SPEAK, DRAINED, later(899.0)]
ADOPTED_IN_FLUX = [DRAINED, GONE, later(1.0), (Crowd.restart, ()), later(899.0), BACK, later(2000.0)]
OFF_THE_RING_AND_BACK = [
    *(DRAINED, later(901.0), GONE, (Crowd.use, (Scheduler.WLC,)), (tenth, ()), BACK),
    *((Crowd.use, (Scheduler.MH,)), later(2000.0)),
]


@pytest.mark.parametrize("flows", [10_000, pytest.param(100_000, marks=pytest.mark.soak)])
@example(start=at_rest, story=TWICE_IN_FLUX)
@example(start=at_rest, story=ADOPTED_IN_FLUX)
@example(start=at_rest, story=OFF_THE_RING_AND_BACK)
@settings(
    max_examples=settings.default.max_examples // 4,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    start=st.sampled_from((at_rest, one_by_one)), story=st.lists(CHANGES | EVENTS, min_size=5, max_size=25)
)
def test_no_flow_of_a_living_backend_goes_elsewhere(
    large_world: w.World, driver: Driver, flows: int, start: Callable[[Crowd], None], story: list[Step]
) -> None:
    large_world.empty()
    crowd = Crowd(large_world, driver, flows)
    start(crowd)

    for act, arguments in story:
        act(crowd, *arguments)

    crowd.speak(crowd.running)
