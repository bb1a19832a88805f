# SPDX-License-Identifier: Apache-2.0
"""The upkeep: drift is repaired, what failed is tried again, and a failure of one part keeps no other from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

import tests.support.stage as s
from tests.support.fake_plane import FakePlane
from tests.support.instruction_count import Instructions
from tests.support.stage import (
    MAIL3,
    WEB1,
    WEB2,
    Stage,
    story,
    web_and_mail_stage,
)
from xdpdirector.dataplane.service_plan import ServicePlan
from xdpdirector.errors import CapacityError, DataplaneError
from xdpdirector.model import Key
from xdpdirector.model.status import Operational


class Picky(FakePlane):
    """Does not take the services in `refused`, nor sweep when `stuck`, nor say what it holds when `lost`;
    `heard` is called for each that it took."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: set[str] = set()
        self.heard: Callable[[str], object] = lambda name: None
        self.stuck = self.lost = False

    def services(self) -> set[str]:
        if self.lost:
            raise OSError(24, "too many open files")
        return super().services()

    def apply(self, plan: ServicePlan, now: float) -> int:
        if plan.name in self.refused:
            raise CapacityError("there is no room")
        done = super().apply(plan, now)
        self.heard(plan.name)
        return done

    async def sweep(self, now: float) -> None:
        if self.stuck:
            raise OSError(12, "Cannot allocate memory")
        await super().sweep(now)


class Unreadable(s.FakeHistory):
    """A mistake in it keeps the store from being tried while it `fails`; `asked` counts the trials."""

    def __init__(self) -> None:
        super().__init__()
        self.fails, self.asked = True, 0

    def look(self) -> None:
        self.asked += 1
        if self.fails:
            raise ValueError("a mistake")


@story
async def test_drift_is_repaired_and_counted() -> None:
    async with web_and_mail_stage() as stage:
        wanted = dict(stage.plane.plans)
        stage.plane.plans["web"] = replace(wanted["web"], members=())
        stage.plane.plans["foreign"] = replace(wanted["web"], name="foreign")
        await stage.reconciler.upkeep()
        await stage.reconciler.upkeep()

        assert stage.plane.plans == wanted
        assert stage.director.vitals().drift_repaired == 2
        assert len(stage.plane.swept) == 2


@story
async def test_news_that_wait_are_no_drift() -> None:
    async with web_and_mail_stage() as stage:
        stage.checks.say(WEB1, Operational.UP)
        await stage.reconciler.upkeep()

        assert stage.accepting() == ["web1"]
        assert stage.reconciler.drift_repaired == 0


@story
async def test_news_that_could_not_be_applied_are_tried_again_and_are_no_drift() -> None:
    async with web_and_mail_stage() as stage:
        stage.plane.broken = DataplaneError("the kernel said no")
        stage.checks.say(WEB1, Operational.UP)
        await s.until(lambda: stage.director.readiness().problems)
        stage.plane.broken = None
        await stage.reconciler.upkeep()

        assert stage.accepting() == ["web1"]
        assert stage.director.readiness().ready
        assert stage.reconciler.drift_repaired == 0


@pytest.mark.parametrize(
    ("during", "key"), [("web", MAIL3), ("mail", WEB1)], ids=["before its service's turn", "after it"]
)
@story
async def test_news_that_come_during_an_upkeep_are_no_drift_and_are_not_lost(during: str, key: Key) -> None:
    plane = Picky()
    async with web_and_mail_stage(plane) as stage:
        plane.heard = lambda name: stage.checks.say(key, Operational.UP) if name == during else None
        await stage.reconciler.upkeep()
        await s.until(lambda: stage.member(key).accepts)

        assert stage.reconciler.drift_repaired == 0


@story
async def test_one_service_that_fails_keeps_no_other_from_repair() -> None:
    plane = Picky()
    async with web_and_mail_stage(plane) as stage:
        wanted = dict(plane.plans)
        plane.refused = {"web"}
        plane.plans["mail"] = replace(wanted["mail"], members=())
        await stage.reconciler.upkeep()

        assert plane.plans == wanted
        assert ["'web'" in problem for problem in stage.director.readiness().problems] == [True]


@story
async def test_a_sweep_that_fails_is_a_problem_but_drift_is_repaired() -> None:
    plane = Picky()
    async with web_and_mail_stage(plane) as stage:
        wanted = dict(plane.plans)
        plane.plans["web"] = replace(wanted["web"], members=())
        plane.stuck = True
        await stage.reconciler.upkeep()
        problems = stage.director.readiness().problems
        plane.stuck = False
        await stage.reconciler.upkeep()

        assert plane.plans == wanted
        assert len(problems) == 1
        assert "sweep" in problems[0]
        assert "Cannot allocate memory" in problems[0]
        assert stage.director.readiness().ready


@story
async def test_a_round_that_fails_is_no_sign_of_life() -> None:
    plane = Picky()
    async with web_and_mail_stage(plane) as stage:
        begun = stage.reconciler.last_round
        plane.lost = True
        with pytest.raises(OSError, match="too many open files"):
            await stage.reconciler.upkeep()
        after_failure = stage.reconciler.last_round
        plane.lost = False
        await stage.reconciler.upkeep()

        assert after_failure == begun
        assert stage.reconciler.last_round > begun


@story
async def test_a_background_task_that_fails_is_restarted_and_said() -> None:
    """The watch over the store: it looks at once, fails, and looks again a second later."""
    history = Unreadable()
    async with Stage(kept=(history, s.FakeDenyListStore()), web=s.service("web1")) as stage:
        await s.until(lambda: stage.director.readiness().problems)
        problems = stage.director.readiness().problems
        history.fails = False
        await s.until(lambda: history.asked > 1)

        assert len(problems) == 1
        assert "the watch over drains and the store failed and is restarted: ValueError" in problems[0]


@story
async def test_a_plan_is_made_anew_only_when_it_changes() -> None:
    async with web_and_mail_stage() as stage:
        for key in (WEB1, WEB2, MAIL3):
            stage.checks.say(key, Operational.UP)
        await stage.reconciler.upkeep()
        before = dict(stage.plane.plans)

        await stage.reconciler.upkeep()
        assert all(stage.plane.plans[name] is plan for name, plan in before.items())

        stage.checks.say(WEB1, Operational.DOWN)
        await stage.reconciler.upkeep()
        assert stage.plane.plans["mail"] is before["mail"]
        assert stage.accepting() == ["web2"]


@story
async def test_a_round_of_the_upkeep_costs_each_of_many_services_the_same() -> None:
    costs = []
    for count in (8, 64):
        listeners = {f"service{n}": f"198.51.100.{1 + n}:80/tcp" for n in range(count)}
        services = {name: s.service("web1", "web2", listener=each) for name, each in listeners.items()}
        async with Stage(**services) as stage:
            await stage.reconciler.upkeep()
            with Instructions() as counted:
                await stage.reconciler.upkeep()
        costs.append(counted.count / count)

    assert costs[1] < costs[0] * 1.3
