# SPDX-License-Identifier: Apache-2.0
"""How much of its weight a backend has that returned, and what the plane is told."""

import pytest

from tests.support.stage import (
    CHECK,
    ME,
    WEB1,
    WEB2,
    Stage,
    backend,
    service,
    story,
    until,
)
from xdpdirector.control.weights import effective
from xdpdirector.dataplane.service_plan import State
from xdpdirector.health.slow_start import SlowStart
from xdpdirector.model import AdminState, Scheduler
from xdpdirector.model.status import Operational
from xdpdirector.state.admin_change import AdminChange

LENGTH, STEPS = 10.0, 5


def shares(slow: SlowStart, *times: float) -> list[float]:
    return [slow.share(WEB1, LENGTH, steps=STEPS, now=now) for now in times]


def test_who_is_there_from_the_start_has_it_all_at_once() -> None:
    slow = SlowStart()
    slow.know([WEB1], cold=False)
    slow.see(WEB1, False, 0.0)
    slow.see(WEB1, True, 1.0)

    assert shares(slow, 1.0, 2.0) == [1.0, 1.0]
    assert slow.next_step(WEB1, LENGTH, steps=STEPS, now=1.0) is None


@pytest.mark.parametrize("cold", [True, False], ids=["new", "returned"])
def test_who_comes_later_grows_in_steps(cold: bool) -> None:
    slow = SlowStart()
    slow.know([WEB1], cold=cold)
    if not cold:
        slow.see(WEB1, True, 10.0)
    slow.see(WEB1, False, 20.0)
    slow.see(WEB1, True, 100.0)
    slow.see(WEB1, True, 103.0)

    assert shares(slow, 100.0, 101.9, 102.0, 107.9, 108.0, 110.0, 500.0) == [
        0.2,
        0.2,
        0.4,
        0.8,
        1.0,
        1.0,
        1.0,
    ]
    assert slow.next_step(WEB1, LENGTH, steps=STEPS, now=103.0) == 104.0
    assert slow.next_step(WEB1, LENGTH, steps=STEPS, now=110.0) is None


def test_who_falls_again_begins_again() -> None:
    slow = SlowStart()
    slow.know([WEB1], cold=True)
    for serving, now in ((True, 0.0), (False, 5.0), (True, 6.0)):
        slow.see(WEB1, serving, now)

    assert shares(slow, 6.0) == [0.2]


def test_without_slow_start_nobody_grows() -> None:
    slow = SlowStart()
    slow.know([WEB1], cold=True)
    slow.see(WEB1, True, 0.0)

    assert slow.share(WEB1, None, steps=STEPS, now=0.0) == 1.0


@pytest.mark.parametrize(
    ("scheduler", "weights", "parts", "told"),
    [
        pytest.param("wlc", (1, 2), (1.0, 1.0), (1, 2), id="nothing to tell"),
        pytest.param("wlc", (1, 2), (0.25, 1.0), (25, 200), id="a part"),
        pytest.param("wlc", (1, 2), (0.001, 1.0), (1, 200), id="a small part"),
        pytest.param("wlc", (0, 2), (0.5, 1.0), (0, 200), id="no weight"),
        pytest.param("wlc", (1, 2), (0.0, 1.0), (1, 2), id="no part: told by other means"),
        pytest.param("wlc", (60000, 1), (0.5, 1.0), (60000, 2), id="large weights"),
        pytest.param("wlc", (65535, 65535), (2.0, 1.0), (65535, 65535), id="more than there is"),
        pytest.param("ovf", (10, 20), (0.25, 1.0), (2, 20), id="ovf counts connections"),
        pytest.param("lblc", (10, 20), (0.25, 1.0), (2, 20), id="lblc counts connections"),
        pytest.param("lblcr", (10, 20), (0.25, 1.0), (2, 20), id="lblcr counts connections"),
        pytest.param("mh", (1, 1), (0.31, 1.0), (40, 100), id="a ring: tenths"),
        pytest.param("mh", (1, 1), (0.2, 1.0), (20, 100), id="a ring: its steps"),
    ],
)
def test_weights(
    scheduler: str, weights: tuple[int, int], parts: tuple[float, float], told: tuple[int, int]
) -> None:
    names = ("web1", "web2")

    found = effective(
        Scheduler(scheduler), dict(zip(names, weights, strict=True)), dict(zip(names, parts, strict=True))
    )

    assert tuple(found[name] for name in names) == told


@story
async def test_a_backend_that_returns_gets_its_weight_back_by_and_by() -> None:
    async with Stage(web=service("web1", "web2", check=CHECK, slow_start="500ms")) as stage:
        for key in (WEB1, WEB2):
            stage.checks.say(key, Operational.UP)
        await until(lambda: stage.member(WEB1).accepts and stage.member(WEB2).accepts)
        assert stage.member(WEB1).weight == 1
        stage.checks.say(WEB1, Operational.DOWN, "is tired")
        await until(lambda: not stage.member(WEB1).accepts)
        stage.checks.say(WEB1, Operational.UP)
        await until(lambda: stage.member(WEB1).accepts)

        shown = stage.director.backend(*WEB1)
        assert shown.weight == 1
        assert 0 < shown.effective_weight < 1
        assert stage.member(WEB1).weight < stage.member(WEB2).weight == 100
        await until(lambda: stage.member(WEB1).weight == 1 == stage.member(WEB2).weight)
        assert stage.director.backend(*WEB1).effective_weight == 1


@story
async def test_a_backend_in_maintenance_returns_too() -> None:
    spec = service("web2", slow_start="1h", backends={"web1": backend("web1", admin="maintenance")})
    async with Stage(web=spec) as stage:
        await stage.director.drains.set_admin(*WEB1, AdminChange(AdminState.ENABLED), intent=ME)
        assert stage.director.backend(*WEB1).effective_weight == 1  # it has never served
        await stage.director.drains.set_admin(*WEB1, AdminChange(AdminState.MAINTENANCE), intent=ME)
        await stage.director.drains.set_admin(*WEB1, AdminChange(AdminState.ENABLED), intent=ME)

        assert stage.director.backend(*WEB1).effective_weight == 0.1


@story
async def test_a_backend_that_wants_nobody_new_gets_nobody_and_says_so() -> None:
    async with Stage(web=service("web1", "web2", check=CHECK)) as stage:
        for key in (WEB1, WEB2):
            stage.checks.say(key, Operational.UP)
        await until(lambda: stage.member(WEB1).accepts)

        stage.checks.say(WEB1, Operational.UP, share=0.0)

        await until(lambda: not stage.member(WEB1).accepts)
        shown = stage.director.backend(*WEB1)
        assert (shown.operational, shown.serving, shown.effective_weight) == (Operational.UP, False, 0)
        assert shown.reason == "it asks for no new connections"
        assert stage.member(WEB1).state is State.SERVING
