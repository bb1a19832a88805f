# SPDX-License-Identifier: Apache-2.0
"""The configuration file is read again: at a start, at a reload, and while services that left it drain."""

from __future__ import annotations

from typing import Any, Literal

import pytest

import tests.support.stage as s
from tests.support.fake_plane import FakePlane
from tests.support.stage import (
    DISK_FULL,
    ME,
    VIP,
    WEB1,
    WEB2,
    Stage,
    configuration,
    differences,
    mail,
    story,
    web_stage,
)
from xdpdirector.control.configuration import initial_state
from xdpdirector.errors import (
    ConfigurationError,
    ConflictError,
    DirectorError,
)
from xdpdirector.model import AdminState, Configuration
from xdpdirector.state.admin_change import AdminChange

OLD, NEW = "digest of the old file", "digest of the new file"


RUNNING = {WEB1: 5, WEB2: 7}


@story
async def test_the_file_is_taken_in_again() -> None:
    async with web_stage() as stage:
        stage.director.take_in(OLD, stage.wanted())
        await stage.director.create_service("ftp", s.service(listener=f"{VIP}:21/tcp"), intent=ME)
        await stage.director.drains.set_admin(*WEB1, AdminChange(AdminState.DRAIN), intent=ME)

        plan = await stage.director.configuration.reload(configuration(web=s.service("web1", "web3")), NEW)

        assert differences(plan) == [
            ("removed", "/services/web/backends/web2"),
            ("added", "/services/web/backends/web3"),
        ]
        assert set(stage.wanted()) == {"web", "ftp"}
        assert stage.wanted()["web"].backends["web1"].admin is AdminState.DRAIN
        latest = stage.history.latest()
        assert latest
        assert (latest.author, latest.file_digest, latest.file_services) == ("file", NEW, frozenset({"web"}))


@story
async def test_a_file_that_says_the_same_changes_nothing() -> None:
    async with web_stage() as stage:
        stage.director.take_in(OLD, stage.wanted())
        await stage.director.patch_backend("web", "web1", {"weight": 9}, intent=ME)

        plan = await stage.director.configuration.reload(configuration(web=s.service("web1", "web2")), OLD)

        assert plan.changes == ()
        assert len(stage.history.revisions) == 2


@story
async def test_what_needs_a_restart_is_a_warning() -> None:
    async with web_stage() as stage:
        file = Configuration(interfaces=("eth0", "eth1"), services={"web": s.service("web1")})

        await stage.director.configuration.reload(file, NEW)
        warned = stage.director.readiness()
        await stage.director.configuration.reload(configuration(web=s.service("web1")), OLD)

        assert warned.ready
        assert warned.warnings == (
            "the configuration file has another value of 'interfaces': restart the daemon to use it",
        )
        assert stage.director.readiness().warnings == ()


@story
async def test_a_file_that_contradicts_what_was_made_since_is_refused_whole() -> None:
    async with web_stage() as stage:
        stage.director.take_in(OLD, stage.wanted())
        await stage.director.create_service("ftp", s.service(listener=f"{VIP}:21/tcp"), intent=ME)
        before = stage.shown()

        with pytest.raises(ConfigurationError, match="made through the API"):
            await stage.director.configuration.reload(
                configuration(web=s.service(), other=s.service(listener=f"{VIP}:21/tcp")), NEW
            )

        assert stage.shown() == before


@story
async def test_a_backend_that_left_the_file_drains_and_goes() -> None:
    async with web_stage() as stage:
        stage.plane.active = dict(RUNNING)
        stage.director.take_in(OLD, stage.wanted())

        plan = await stage.director.configuration.reload(
            configuration(web=s.service("web1", on_empty="drop")), NEW
        )

        assert plan.affected == ()
        assert not stage.member(WEB2).accepts
        drain = stage.director.backend(*WEB2).drain
        assert drain
        assert drain.reason == "the configuration file does not have it any more"
        assert stage.history.kept_drains[WEB2].leaves

        stage.plane.active[WEB2] = 0
        await s.until(lambda: stage.history.revisions[-1].reason == "drained: web/web2")
        assert set(stage.wanted()["web"].backends) == {"web1"}


@story
async def test_a_backend_that_left_the_file_stays_when_somebody_enables_it() -> None:
    async with web_stage() as stage:
        stage.plane.active = dict(RUNNING)
        stage.director.take_in(OLD, stage.wanted())
        await stage.director.configuration.reload(configuration(web=s.service("web1")), NEW)

        await stage.director.drains.set_admin(*WEB2, AdminChange(AdminState.ENABLED), intent=ME)
        stage.plane.active[WEB2] = 0
        await stage.director.drains.remove_drained()

        assert stage.member(WEB2).accepts


@pytest.mark.parametrize("on_deadline", ["keep", "cut"])
@story
async def test_a_deadline_for_what_left_the_file_ends_it(on_deadline: Literal["keep", "cut"]) -> None:
    async with web_stage() as stage:
        stage.plane.active = dict(RUNNING)
        stage.director.take_in(OLD, stage.wanted())
        await stage.director.configuration.reload(configuration(web=s.service("web1")), NEW)

        await stage.director.drains.set_admin(
            *WEB2, AdminChange(AdminState.DRAIN, deadline=0.0, on_deadline=on_deadline), intent=ME
        )
        await stage.director.drains.cut_overdue()
        await stage.director.drains.remove_drained()

        assert ("web2" in stage.wanted()["web"].backends) == (on_deadline == "keep")


@story
async def test_a_service_that_left_the_file_goes_with_its_last_connection() -> None:
    async with Stage(web=s.service("web1", "web2", "web3"), mail=mail("web2")) as stage:
        stage.plane.active = dict(RUNNING)
        stage.director.take_in(OLD, stage.wanted())

        await stage.director.configuration.reload(configuration(mail=mail("web2")), NEW)

        assert set(stage.wanted()["web"].backends) == {"web1", "web2"}
        stage.plane.active[WEB1] = 0
        await s.until(lambda: set(stage.wanted()["web"].backends) == {"web2"})
        stage.plane.active[WEB2] = 0
        await s.until(lambda: set(stage.wanted()) == {"mail"})


@story
async def test_a_ring_that_left_the_file_waits_for_what_it_has_no_record_of() -> None:
    async with web_stage(scheduler="sh") as stage:
        stage.plane.packets[WEB2] = 1
        stage.plane.unsettled = {"web"}
        stage.director.take_in(OLD, stage.wanted())

        await stage.director.configuration.reload(configuration(web=s.service("web1", scheduler="sh")), NEW)
        await stage.director.drains.remove_drained()

        assert stage.wanted()["web"].backends["web2"].admin is AdminState.DRAIN
        stage.plane.unsettled = set()
        await s.until(lambda: set(stage.wanted()["web"].backends) == {"web1"})


@pytest.mark.parametrize(
    ("now", "kind", "why"),
    [
        pytest.param({"hash": "address"}, ConflictError, "hashes clients' addresses and ports", id="hash"),
        pytest.param({"ring_slots": 251}, ConflictError, "has 16381 slots", id="slots"),
        pytest.param({"listener": f"{VIP}:443/tcp"}, ConflictError, "has 5 connections", id="listener"),
        pytest.param({"scheduler": "wlc"}, None, "", id="wlc"),
    ],
)
@pytest.mark.parametrize("way", ["at run time", "at a start", "at a start, with empty maps"])
@story
async def test_a_file_has_to_keep_what_a_change_by_the_api_has_to_keep(
    way: str, now: dict[str, Any], kind: type[DirectorError] | None, why: str
) -> None:
    was, file = (
        s.service("web1", "web2", scheduler="mh"),
        s.service("web1", "web2", **{"scheduler": "mh"} | now),
    )
    async with Stage(web=was) as stage:
        stage.plane.active = dict(RUNNING)
        stage.director.take_in(OLD, stage.wanted())
        if way == "at run time":
            if kind:
                with pytest.raises(kind, match=why):
                    await stage.director.configuration.reload(configuration(web=file), NEW)
            else:
                await stage.director.configuration.reload(configuration(web=file), NEW)
            assert stage.wanted() == {"web": was if kind else file}
            return

        plane = stage.plane if way == "at a start" else FakePlane()
        begun = initial_state(stage.history, configuration(web=file), NEW, plane)

        keeps = kind is not None and way == "at a start"
        assert begun.services == {"web": was if keeps else file}
        assert why in begun.refusal if keeps else not begun.refusal
        assert begun.takes_in is not keeps


@story
async def test_a_start_goes_on_with_what_was_stored_when_the_file_cannot_be_taken_in() -> None:
    """Whoever restarts it, health has to be checked."""
    async with web_stage() as stage:
        stage.director.take_in(OLD, stage.wanted())
        await stage.director.create_service("ftp", s.service(listener=f"{VIP}:21/tcp"), intent=ME)
        contradiction = configuration(web=s.service(), other=s.service(listener=f"{VIP}:21/tcp"))

        begun = initial_state(stage.history, contradiction, NEW, stage.plane)

        assert set(begun.services) == {"web", "ftp"}
        assert "made through the API" in begun.refusal
        assert not begun.takes_in


@story
async def test_what_left_the_file_goes_on_leaving_over_a_restart() -> None:
    async with web_stage() as stage:
        stage.plane.active = dict(RUNNING)
        stage.director.take_in(OLD, stage.wanted())
        await stage.director.configuration.reload(configuration(web=s.service("web1")), NEW)
        history, plane = stage.history, stage.plane
    document = configuration(web=s.service("web1", on_empty="drop"))
    begun = initial_state(history, document, "digest of a third file", plane)
    async with Stage(plane, kept=(history, stage.denials), **begun.services) as again:
        again.director.take_in("digest of a third file", document.services, begun.leaving)

        assert begun.leaving == {WEB2}
        assert again.wanted()["web"].backends["web2"].admin is AdminState.DRAIN
        plane.active[WEB2] = 0
        await s.until(lambda: again.wanted() == document.services)


@story
async def test_a_file_that_could_not_be_stored_is_stored_when_the_store_is_well() -> None:
    async with web_stage() as stage:
        stage.history.full = DISK_FULL
        stage.director.take_in(NEW, stage.wanted())
        nothing = list(stage.history.revisions)

        stage.history.full = None
        await s.until(lambda: stage.history.revisions)

        assert nothing == []
        assert stage.history.revisions[0].file_digest == NEW
