# SPDX-License-Identifier: Apache-2.0
"""A drain begins, shows how far it is, and ends: by itself, by a person, or at its deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest

import tests.support.stage as s
from tests.support.stage import (
    ME,
    VIP,
    WEB1,
    WEB2,
    Stage,
    story,
)
from xdpdirector.control.director import Director
from xdpdirector.dataplane.service_plan import State
from xdpdirector.errors import ConflictError, NotFoundError, StoreError, TimedOutError
from xdpdirector.model import AdminState
from xdpdirector.model.status import BackendView, DrainView, Operational
from xdpdirector.state.admin_change import AdminChange
from xdpdirector.state.drains import Drains
from xdpdirector.system import boot_time

Ending = Callable[[Director], Coroutine[Any, Any, object]]
OnDeadline = Literal["keep", "cut"]


def busy(count: int = 3) -> Stage:
    """`web` of web1 and web2; web1 has that many connections."""
    stage = Stage(web=s.service("web1", "web2"))
    stage.plane.active[WEB1] = count
    return stage


async def drain(
    stage: Stage, *, reason: str = "", deadline: float | None = None, on_deadline: OnDeadline = "keep"
) -> BackendView:
    return await stage.director.drains.set_admin(
        *WEB1,
        AdminChange(AdminState.DRAIN, reason=reason, deadline=deadline, on_deadline=on_deadline),
        intent=ME,
    )


def progress(stage: Stage) -> DrainView:
    view = stage.director.backend(*WEB1).drain
    assert view
    return view


# The record alone


def test_a_drain_that_is_changed_keeps_its_beginning() -> None:
    drains = Drains()
    drains.begin(WEB1, 5, AdminChange(AdminState.DRAIN, reason="kernel update"))
    first = drains.get(WEB1)

    drains.begin(WEB1, 2, AdminChange(AdminState.DRAIN, reason="new disk", deadline=60, on_deadline="cut"))

    second = drains.get(WEB1)
    assert first
    assert second
    assert second.deadline
    assert (second.since, second.at_start) == (first.since, 5)
    assert (second.reason, second.on_deadline) == ("new disk", "cut")
    assert 60 <= second.deadline.at - second.since.at < 120


def test_a_drain_that_ended_begins_anew() -> None:
    drains = Drains()
    drains.begin(WEB1, 5)
    drains.end(WEB1)
    drains.end(WEB1)
    drains.begin(WEB1, 2)

    again = drains.get(WEB1)

    assert again
    assert again.at_start == 2
    assert set(drains.running()) == {WEB1}


@pytest.mark.parametrize(
    ("on_deadline", "offset", "due"),
    [
        pytest.param("cut", 0.0, [WEB1], id="cut, at its deadline"),
        pytest.param("cut", -0.001, [], id="cut, before it"),
        pytest.param("keep", 1.0, [], id="keep, after it"),
    ],
)
def test_due_is_who_shall_be_cut_and_is_late(
    on_deadline: OnDeadline, offset: float, due: list[tuple[str, str]]
) -> None:
    drains = Drains()
    drains.begin(WEB1, 1, AdminChange(AdminState.DRAIN, deadline=60, on_deadline=on_deadline))
    drains.begin(WEB2, 1, AdminChange(AdminState.DRAIN, on_deadline="cut"))
    running = drains.get(WEB1)
    assert running
    assert running.deadline

    assert drains.due(boot_time.now()._replace(at=running.deadline.at + offset)) == due


# Draining


@story
async def test_a_draining_backend_serves_what_it_has_and_takes_nothing_new() -> None:
    async with busy() as stage:
        view = await drain(stage, reason="kernel update")

        assert (stage.member(WEB1).state, stage.member(WEB1).accepts) == (State.SERVING, False)
        assert (view.admin, view.operational, view.serving) == (AdminState.DRAIN, Operational.UP, False)
        assert (progress(stage).reason, progress(stage).connections_at_start, progress(stage).remaining) == (
            "kernel update",
            3,
            3,
        )
        assert stage.history.revisions[-1].reason == "drain web/web1: kernel update"


@pytest.mark.parametrize(
    ("left", "settled", "expected"),
    [
        pytest.param(1, True, Operational.UP, id="connections left"),
        pytest.param(0, False, Operational.UP, id="none seen, some may be unseen"),
        pytest.param(0, True, Operational.DRAINED, id="none left"),
    ],
)
@story
async def test_drained_is_without_connections_seen_or_unseen(
    left: int, settled: bool, expected: Operational
) -> None:
    async with busy(left) as stage:
        stage.plane.unsettled = set() if settled else {"web"}

        view = await drain(stage)

        assert view.operational is expected
        assert (progress(stage).remaining, progress(stage).settled) == (left, settled)


@pytest.mark.parametrize(
    "begin",
    [
        pytest.param(lambda d: d.patch_backend(*WEB1, {"admin": "drain"}, intent=ME), id="PATCH backend"),
        pytest.param(
            lambda d: d.patch_service("web", {"backends": {"web1": {"admin": "drain"}}}, intent=ME),
            id="PATCH service",
        ),
        pytest.param(
            lambda d: d.put_service(
                "web", s.service(backends={"web1": s.backend("web1", admin="drain")}), intent=ME
            ),
            id="PUT service",
        ),
    ],
)
@story
async def test_however_a_drain_is_asked_for_it_shows_progress(begin: Ending) -> None:
    async with busy() as stage:
        await begin(stage.director)

        assert progress(stage).connections_at_start == 3


@story
async def test_a_restart_goes_on_draining() -> None:
    stage = Stage(web=s.service(backends={"web1": s.backend("web1", admin="drain")}))
    stage.plane.active[WEB1] = 2
    async with stage:
        assert (progress(stage).connections_at_start, progress(stage).deadline) == (2, None)
        assert not stage.member(WEB1).accepts


ENDINGS: dict[str, Ending] = {
    "enable": lambda d: d.drains.set_admin(*WEB1, AdminChange(AdminState.ENABLED), intent=ME),
    "maintenance": lambda d: d.drains.set_admin(*WEB1, AdminChange(AdminState.MAINTENANCE), intent=ME),
    "PATCH backend": lambda d: d.patch_backend(*WEB1, {"admin": "enabled"}, intent=ME),
    "PATCH service": lambda d: d.patch_service("web", {"backends": {"web1": {"admin": None}}}, intent=ME),
    "PUT service": lambda d: d.put_service("web", s.service("web1"), intent=ME),
}


@pytest.mark.parametrize("end", [pytest.param(end, id=name) for name, end in ENDINGS.items()])
@story
async def test_however_a_drain_is_ended_nobody_is_cut_at_its_deadline(end: Ending) -> None:
    async with busy() as stage:
        await drain(stage, deadline=0, on_deadline="cut")
        await end(stage.director)
        changes = len(stage.history.revisions)

        await stage.director.drains.cut_overdue()

        assert stage.director.backend(*WEB1).drain is None
        assert len(stage.history.revisions) == changes


@pytest.mark.parametrize(
    "delete",
    [
        pytest.param(lambda d: d.drains.delete_backend(*WEB1, force=True, intent=ME), id="the backend"),
        pytest.param(lambda d: d.delete_service("web", intent=ME), id="the service"),
    ],
)
@story
async def test_a_drain_does_not_outlive_its_backend(delete: Ending) -> None:
    async with busy() as stage:
        await drain(stage, reason="kernel update", deadline=0, on_deadline="cut")
        await delete(stage.director)
        await stage.director.drains.cut_overdue()
        if "web" not in stage.wanted():
            await stage.director.create_service("web", s.service(), intent=ME)
        await stage.director.create_backend(*WEB1, s.backend("web1", admin="drain"), intent=ME)

        assert (progress(stage).reason, progress(stage).deadline) == ("", None)


# Deadlines


@story
async def test_at_its_deadline_a_drain_is_cut() -> None:
    async with busy() as stage:
        await drain(stage, deadline=0, on_deadline="cut")

        await s.until(lambda: stage.member(WEB1).state is State.MAINTENANCE)

        view = stage.director.backend(*WEB1)
        assert (view.admin, view.drain) == (AdminState.MAINTENANCE, None)
        assert stage.history.revisions[-1].author == "director"


@pytest.mark.parametrize(
    ("deadline", "on_deadline"),
    [
        pytest.param(3600.0, "cut", id="not yet"),
        pytest.param(0.0, "keep", id="keep"),
        pytest.param(None, "cut", id="without deadline"),
    ],
)
@story
async def test_others_go_on(deadline: float | None, on_deadline: OnDeadline) -> None:
    async with busy() as stage:
        await drain(stage, deadline=deadline, on_deadline=on_deadline)

        await stage.director.drains.cut_overdue()

        assert stage.member(WEB1).state is State.SERVING
        assert progress(stage).on_deadline == on_deadline


@story
async def test_a_cut_that_cannot_be_stored_is_tried_again() -> None:
    async with busy() as stage:
        await drain(stage, deadline=0, on_deadline="cut")
        stage.history.full = StoreError("the disk is full")
        await stage.director.drains.cut_overdue()
        refused = stage.member(WEB1).state
        stage.history.full = None
        await stage.director.drains.cut_overdue()

        assert (refused, stage.member(WEB1).state) == (State.SERVING, State.MAINTENANCE)


@story
async def test_who_is_enabled_in_the_last_moment_is_not_cut() -> None:
    async with busy() as stage, asyncio.TaskGroup() as tasks:
        await drain(stage, deadline=0, on_deadline="cut")
        async with stage.reconciler.lock:
            first = tasks.create_task(
                stage.director.drains.set_admin(*WEB1, AdminChange(AdminState.ENABLED), intent=ME)
            )
            await asyncio.sleep(0)
            second = tasks.create_task(stage.director.drains.cut_overdue())
            await asyncio.sleep(0)
        await asyncio.wait([first, second])

        assert stage.member(WEB1).accepts


# The wall clock


@pytest.mark.parametrize("hours", [-2, 2])
@story
async def test_a_deadline_stays_where_it_is_when_the_wall_clock_jumps(
    monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    async with busy() as stage:
        await drain(stage, deadline=3600, on_deadline="cut")
        await stage.director.drains.set_admin(
            *WEB2, AdminChange(AdminState.DRAIN, deadline=0, on_deadline="cut"), intent=ME
        )
        before = progress(stage)
        jump = timedelta(hours=hours)
        monkeypatch.setattr(boot_time, "wall_clock", lambda: datetime.now(UTC) + jump)

        await stage.director.drains.cut_overdue()

        assert (stage.member(WEB1).state, stage.member(WEB2).state) == (State.SERVING, State.MAINTENANCE)
        after = progress(stage)
        assert before.deadline
        assert after.deadline
        assert abs(after.deadline - before.deadline - jump) < timedelta(minutes=1)
        assert abs(after.since - before.since - jump) < timedelta(minutes=1)
        assert after.oldest_at_least is not None
        assert 0 <= after.oldest_at_least < 60


# Waiting


@story
async def test_waiting_ends_when_the_last_connection_ended() -> None:
    async with busy() as stage, asyncio.TaskGroup() as tasks:
        stage.plane.unsettled = {"web"}
        await drain(stage)
        waiting = tasks.create_task(stage.director.drains.wait_drained(*WEB1, s.DEADLINE))
        await asyncio.sleep(0)
        early = waiting.done()
        stage.plane.active[WEB1] = 0
        await asyncio.sleep(0)
        stage.plane.unsettled = set()

        assert not early
        assert (await waiting).operational is Operational.DRAINED


@pytest.mark.parametrize(
    ("left", "unsettled", "said"),
    [
        pytest.param(3, set(), "still draining: 3 connections left$", id="connections left"),
        pytest.param(0, {"web"}, "0 connections left, and more may be unseen", id="some may be unseen"),
    ],
)
@story
async def test_waiting_too_long_says_what_is_left(left: int, unsettled: set[str], said: str) -> None:
    async with busy(left) as stage:
        stage.plane.unsettled = unsettled
        await drain(stage)

        with pytest.raises(TimedOutError, match=said):
            await stage.director.drains.wait_drained(*WEB1, 0)


@story
async def test_who_does_not_drain_is_not_waited_for() -> None:
    async with busy() as stage:
        with pytest.raises(ConflictError, match="is enabled, not draining"):
            await stage.director.drains.wait_drained(*WEB1, s.DEADLINE)


@pytest.mark.parametrize(
    ("end", "error"),
    [
        pytest.param(ENDINGS["enable"], ConflictError, id="enabled again"),
        pytest.param(lambda d: d.delete_service("web", intent=ME), NotFoundError, id="deleted"),
    ],
)
@story
async def test_waiting_ends_when_the_drain_does(end: Ending, error: type[Exception]) -> None:
    async with busy() as stage:
        await drain(stage)
        waiting = asyncio.create_task(stage.director.drains.wait_drained(*WEB1, s.DEADLINE))
        await asyncio.sleep(0)
        await end(stage.director)

        with pytest.raises(error):
            await waiting


# Deleting with patience


@story
async def test_deleting_can_wait_for_the_last_connection() -> None:
    async with busy() as stage, asyncio.TaskGroup() as tasks:
        deleting = tasks.create_task(stage.director.drains.delete_backend(*WEB1, drain=s.DEADLINE, intent=ME))
        await s.until(lambda: not stage.member(WEB1).accepts)
        stage.plane.active[WEB1] = 0
        await deleting

        assert list(stage.wanted()["web"].backends) == ["web2"]
        assert [each.reason for each in stage.history.revisions] == [
            "drain web/web1: to be removed",
            "delete web/web1",
        ]


@story
async def test_deleting_that_waits_in_vain_leaves_it_draining() -> None:
    async with busy() as stage:
        with pytest.raises(TimedOutError):
            await stage.director.drains.delete_backend(*WEB1, drain=0, intent=ME)

        assert progress(stage).reason == "to be removed"
        assert not stage.member(WEB1).accepts


@story
async def test_a_drain_in_one_service_leaves_the_same_host_in_another_alone() -> None:
    shop = s.service("web1", listener=f"{VIP}:81/tcp")
    async with Stage(web=s.service("web1"), shop=shop) as stage:
        await drain(stage)

        assert not stage.member(WEB1).accepts
        assert stage.member(("shop", "web1")).accepts
