# SPDX-License-Identifier: Apache-2.0
"""A director is ready when its first checks decided, or had the time to."""

from tests.support.fake_plane import FakePlane
from tests.support.stage import (
    CHECK,
    ME,
    WEB1,
    WEB2,
    Stage,
    service,
    story,
    until,
)
from xdpdirector.dataplane.service_plan import State
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
async def test_what_the_plane_remembers_is_decided() -> None:
    plane = FakePlane({WEB1: State.SERVING, WEB2: State.DOWN})
    async with Stage(plane, patience=10.0, web=service("web1", "web2", check=CHECK)) as stage:
        assert stage.director.readiness().ready
