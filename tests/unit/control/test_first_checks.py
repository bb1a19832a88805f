# SPDX-License-Identifier: Apache-2.0
"""A director is ready when its first checks decided, or had the time to."""

from tests.support.fake_plane import FakePlane
from tests.support.stage import (
    CHECK,
    ME,
    OTHER_VIP,
    VIP,
    WEB1,
    WEB2,
    Stage,
    service,
    story,
    until,
)
from xdpdirector.control.take_over import TakeOver
from xdpdirector.dataplane.service_plan import State
from xdpdirector.health.runner import CONFIRM_AFTER, first_verdict_within
from xdpdirector.model.checks import TcpCheck
from xdpdirector.model.status import Operational

BRIEF = CHECK | {"interval": "10ms", "timeout": "10ms"}
WAITS = "the first checks have not decided yet: web/web1, web/web2"


@story
async def test_it_waits_for_the_first_checks() -> None:
    async with Stage(patience=10.0, web=service("web1", "web2", check=CHECK)) as stage:
        before = stage.director.readiness()
        for key in (WEB1, WEB2):
            stage.checks.say(key, Operational.DOWN, "is tired")
        after = stage.director.readiness()

    assert (before.ready, before.problems) == (False, (WAITS,))
    assert (after.ready, after.problems) == (True, ())


@story
async def test_it_waits_only_so_long() -> None:
    async with Stage(patience=10.0, web=service("web1", "web2", check=BRIEF)) as stage:
        assert not stage.director.readiness().ready
        await until(lambda: stage.director.readiness().ready)


@story
async def test_what_comes_later_makes_it_not_unready() -> None:
    async with Stage(patience=10.0) as stage:
        await stage.director.create_service("web", service("web1", check=CHECK), intent=ME)

        assert stage.director.readiness().ready


@story
async def test_a_director_that_takes_connections_over_has_first_failures_confirmed() -> None:
    web, mail = service("web1", check=CHECK), service("web2", check=CHECK, listener=f"{VIP}:25/tcp")
    async with Stage(take_over=TakeOver(follows_vips=True), web=web) as stage:
        await stage.director.create_service("mail", mail, intent=ME)

        assert stage.checks.to_be_confirmed == {WEB1: True, ("mail", "web2"): False}


@story
async def test_it_keeps_what_it_knows_nothing_of() -> None:
    """A backend is up at one VIP, and the check at the other one has no verdict yet: connections there run on."""
    web = service("web1", check=CHECK, listeners=[f"{VIP}:80/tcp", f"{OTHER_VIP}:80/tcp"])
    async with (
        Stage(take_over=TakeOver(follows_vips=True), web=web) as taking_over,
        Stage(web=web) as alone,
    ):
        for stage in (taking_over, alone):
            stage.checks.say(WEB1, Operational.UP, at=VIP)
        await until(lambda: all(one.plane.plans["web"].members[0].accepts for one in (taking_over, alone)))

        assert taking_over.plane.plans["web"].members[0].out == frozenset()
        assert alone.plane.plans["web"].members[0].out == {OTHER_VIP}


@story
async def test_it_waits_until_they_can_be() -> None:
    web = service("web1", check=BRIEF | {"fall": 2})
    async with Stage(patience=0.1, take_over=TakeOver(follows_vips=True), web=web) as stage:
        assert not stage.director.readiness().ready
        await until(lambda: stage.director.readiness().ready)


def test_the_time_for_a_first_verdict() -> None:
    check = TcpCheck(type="tcp", interval=5.0, timeout=2.0, fall=3)

    assert first_verdict_within(check, confirm=False) == 2.0
    assert first_verdict_within(check, confirm=True) == 3 * (2.0 + CONFIRM_AFTER)


@story
async def test_what_the_plane_remembers_is_decided() -> None:
    plane = FakePlane({WEB1: State.SERVING, WEB2: State.DOWN})
    async with Stage(plane, patience=10.0, web=service("web1", "web2", check=CHECK)) as stage:
        assert stage.director.readiness().ready
