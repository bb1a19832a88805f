# SPDX-License-Identifier: Apache-2.0
"""Changes that the director refuses, and what it answers then."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import tests.support.stage as s
from tests.support.stage import (
    FAR,
    ME,
    VIP,
    WEB1,
    Stage,
    story,
    web_stage,
)
from xdpdirector.control.director import Director
from xdpdirector.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
)
from xdpdirector.model import AdminState, BackendSpec
from xdpdirector.model.status import Operational
from xdpdirector.state.admin_change import AdminChange

Change = Callable[[Director], Coroutine[Any, Any, object]]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        pytest.param(
            lambda d: d.create_backend("web", "far", BackendSpec(address=FAR), intent=ME),
            "/address",
            id="create a backend",
        ),
        pytest.param(
            lambda d: d.patch_backend("web", "web1", {"address": str(FAR)}, intent=ME),
            "/address",
            id="patch a backend",
        ),
        pytest.param(
            lambda d: d.patch_service("web", {"backends": {"far": {"address": str(FAR)}}}, intent=ME),
            "/backends/far/address",
            id="patch a service",
        ),
        pytest.param(
            lambda d: d.put_service(
                "web", s.service("web1", backends={"far": {"address": str(FAR)}}), intent=ME
            ),
            "/backends/far/address",
            id="replace a service",
        ),
        pytest.param(
            lambda d: d.create_service(
                "far", s.service(listener=f"{VIP}:25/tcp", backends={"far": {"address": str(FAR)}}), intent=ME
            ),
            "/backends/far/address",
            id="create a service",
        ),
    ],
)
@story
async def test_a_backend_on_another_network_is_refused(change: Change, pointer: str) -> None:
    async with web_stage() as stage:
        before = stage.shown()

        with pytest.raises(InvalidRequestError, match="behind the gateway") as caught:
            await change(stage.director)

        assert caught.value.pointer == pointer
        assert stage.shown() == before
        assert stage.history.revisions == []


@story
async def test_a_network_that_went_away_does_not_forbid_other_changes() -> None:
    async with Stage(web=s.service("web1", backends={"far": {"address": str(FAR)}})) as stage:
        view = await stage.director.patch_backend("web", "web1", {"weight": 2}, intent=ME)

        assert view.weight == 2
        far = stage.director.backend("web", "far")
        assert (far.operational, far.serving) == (Operational.DOWN, False)
        assert "behind the gateway" in far.reason


@story
async def test_a_listener_that_is_taken_is_a_conflict_that_names_both() -> None:
    async with web_stage() as stage:
        with pytest.raises(ConflictError, match=rf"{VIP}:80/tcp .*'web'.*'shop'") as caught:
            await stage.director.create_service("shop", s.service("web3"), intent=ME)

        assert caught.value.pointer == "/listeners"
        assert set(stage.plane.plans) == {"web"}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda d: d.patch_service("mail", {}, intent=ME), id="patch a service"),
        pytest.param(lambda d: d.delete_service("mail", intent=ME), id="delete a service"),
        pytest.param(
            lambda d: d.put_backend("mail", "web3", s.backend("web3"), intent=ME), id="put a backend"
        ),
        pytest.param(
            lambda d: d.create_backend("mail", "web3", s.backend("web3"), intent=ME), id="create a backend"
        ),
        pytest.param(lambda d: d.patch_backend("web", "web3", {}, intent=ME), id="patch a backend"),
        pytest.param(lambda d: d.drains.delete_backend("web", "web3", intent=ME), id="delete a backend"),
        pytest.param(
            lambda d: d.drains.delete_backend("web", "web3", drain=1, intent=ME), id="drain and delete"
        ),
        pytest.param(
            lambda d: d.drains.set_admin("web", "web3", AdminChange(AdminState.DRAIN), intent=ME), id="drain"
        ),
        pytest.param(lambda d: d.drains.wait_drained("web", "web3", 1), id="wait for a drain"),
    ],
)
@story
async def test_what_does_not_exist_is_not_found(change: Change) -> None:
    async with web_stage() as stage:
        with pytest.raises(NotFoundError, match=r"'mail'|'web3'"):
            await change(stage.director)

        assert stage.history.revisions == []


@pytest.mark.parametrize(
    ("scheduler", "state", "refused"),
    [
        pytest.param("wlc", {"active": 3}, "has 3 connections", id="wlc, connections"),
        pytest.param("wlc", {"packets": 3}, None, id="wlc, none left"),
        pytest.param("mh", {"active": 3}, "has 3 connections", id="mh, recorded connections"),
        pytest.param("mh", {"packets": 3}, "'mh' keeps no record", id="mh, perhaps some without a record"),
        pytest.param("mh", {}, None, id="mh, never used"),
        pytest.param("sh", {"active": 3}, "has 3 connections", id="sh, recorded connections"),
        pytest.param("sh", {"packets": 3}, "'sh' keeps no record", id="sh, perhaps some without a record"),
        pytest.param("sh", {}, None, id="sh, never used"),
        pytest.param(
            "wlc", {"packets": 3, "unsettled": {"web"}}, "'wlc' keeps no record", id="wlc, until lately mh"
        ),
        pytest.param("wlc", {"unsettled": {"web"}}, None, id="wlc, until lately mh, never used"),
    ],
)
@story
async def test_a_busy_backend_is_deleted_by_force_only(
    scheduler: str, state: dict[str, Any], refused: str | None
) -> None:
    async with web_stage(scheduler=scheduler) as stage:
        stage.plane.unsettled = state.get("unsettled", set())
        for field in ("active", "packets"):
            getattr(stage.plane, field)[WEB1] = state.get(field, 0)

        if refused:
            with pytest.raises(ConflictError, match=refused):
                await stage.director.drains.delete_backend("web", "web1", intent=ME)
            assert stage.member(WEB1).accepts
        await stage.director.drains.delete_backend("web", "web1", force=refused is not None, intent=ME)

        assert list(stage.wanted()["web"].backends) == ["web2"]


async def go_down(stage: Stage) -> None:
    stage.checks.say(WEB1, Operational.DOWN)
    assert stage.director.backend(*WEB1).operational is not Operational.DOWN  # not before packets know
    await s.until(lambda: stage.director.backend(*WEB1).operational is Operational.DOWN)


@pytest.mark.parametrize(
    "quiet",
    [
        pytest.param(go_down, id="down"),
        pytest.param(
            lambda stage: stage.director.drains.set_admin(
                "web", "web1", AdminChange(AdminState.MAINTENANCE), intent=ME
            ),
            id="in maintenance",
        ),
        pytest.param(
            lambda stage: stage.director.drains.set_admin(
                "web", "web1", AdminChange(AdminState.DRAIN), intent=ME
            ),
            id="drained",
        ),
    ],
)
@pytest.mark.parametrize("scheduler", ["mh", "sh"])
@story
async def test_a_ring_backend_that_serves_nobody_can_be_deleted(
    scheduler: str, quiet: Callable[[Stage], Any]
) -> None:
    async with web_stage(scheduler=scheduler, check=s.CHECK) as stage:
        stage.plane.packets[WEB1] = 5
        await quiet(stage)

        await stage.director.drains.delete_backend("web", "web1", intent=ME)

        assert list(stage.wanted()["web"].backends) == ["web2"]
