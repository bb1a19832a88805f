# SPDX-License-Identifier: Apache-2.0
"""The configuration as a whole: planned, replaced, rolled back and read again; all of it or nothing."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pytest

import tests.support.stage as s
from tests.support.fake_plane import FakePlane
from tests.support.stage import (
    HOSTS,
    ME,
    OTHER_VIP,
    VIP,
    WEB1,
    WEB2,
    Stage,
    story,
)
from xdpdirector.control.configuration import initial_state
from xdpdirector.errors import (
    CapacityError,
    ConfigurationError,
    ConflictError,
    DirectorError,
    InvalidRequestError,
    NotFoundError,
    StaleError,
    StoreError,
)
from xdpdirector.health.checks import CheckImpossible
from xdpdirector.model import AdminState, Configuration, ServiceSpec
from xdpdirector.state.admin_change import AdminChange
from xdpdirector.state.change_request import Intent
from xdpdirector.state.diff import Affected, Missing, Plan

FULL = StoreError("the disk is full")
OLD, NEW = "digest of the old file", "digest of the new file"


def wanted(**services: ServiceSpec) -> Configuration:
    return Configuration(interfaces=("eth0",), services=services)


def mail(*names: str, **fields: Any) -> ServiceSpec:
    return s.service(*names, listener=f"{VIP}:25/tcp", **fields)


def two(**fields: Any) -> Stage:
    return Stage(web=s.service("web1", "web2", **fields))


def told(plan: Plan) -> list[tuple[str, str]]:
    return [(each.action, each.pointer) for each in plan.changes]


CHANGED = wanted(
    web=s.service("web1", "web3", scheduler="rr", timeouts={"tcp": "60s"}), mail=mail("web2", on_empty="drop")
)
WHAT_CHANGES = [
    ("added", "/services/mail"),
    ("changed", "/services/web/scheduler"),
    ("changed", "/services/web/timeouts/tcp"),
    ("removed", "/services/web/backends/web2"),
    ("added", "/services/web/backends/web3"),
]


@story
async def test_a_plan_names_each_difference_and_changes_nothing() -> None:
    async with two() as stage:
        before = stage.shown()

        plan = await stage.director.configuration.apply(CHANGED, intent=ME, dry_run=True)

        assert told(plan) == WHAT_CHANGES
        scheduler = plan.changes[1]
        assert (scheduler.before, scheduler.after) == ("wlc", "rr")
        assert plan.changes[3].before["address"] == "192.0.2.22"
        assert (plan.dry_run, plan.revision) == (True, 0)
        assert stage.shown() == before
        assert stage.history.revisions == []


@story
async def test_a_plan_says_what_the_servers_do_not_have_yet() -> None:
    """It asks what would be new, and nothing else."""
    both = s.service(
        "web1",
        "web2",
        listeners=[f"{VIP}:80/tcp", f"{OTHER_VIP}:80/tcp"],
        check=s.CHECK,
        backends={"web3": s.backend("web3", admin="maintenance")},
    )
    async with two(check=s.CHECK) as stage:
        stage.checks.failures[HOSTS["web2"], OTHER_VIP] = "nothing listens there"
        before = stage.shown()

        plan = await stage.director.configuration.apply(wanted(web=both), intent=ME, dry_run=True)

        assert plan.missing == (
            Missing(service="web", backend="web2", address=OTHER_VIP, why="nothing listens there"),
        )
        assert sorted(map(str, stage.checks.asked)) == [
            f"port 80 of the VIP {OTHER_VIP} on {HOSTS[name]}" for name in ("web1", "web2")
        ]
        assert stage.shown() == before


@story
async def test_a_plan_asks_backends_that_would_be_new_and_follows_them_no_longer() -> None:
    mails = mail("web3", check={"type": "smtp"})
    async with two(check=s.CHECK) as stage:
        stage.checks.failures[HOSTS["web3"], VIP] = "nothing listens there"

        plan = await stage.director.configuration.apply(
            wanted(web=s.service("web1", "web2", check=s.CHECK), mail=mails), intent=ME, dry_run=True
        )

        assert [(each.service, each.backend) for each in plan.missing] == [("mail", "web3")]
        assert stage.neighbours.watched == {HOSTS["web1"], HOSTS["web2"]}
        done = await stage.director.configuration.apply(wanted(mail=mails), intent=ME)
        assert done.missing == ()


@pytest.mark.parametrize(
    ("error", "why"),
    [
        pytest.param(CheckImpossible("no port left"), "it could not be asked: no port left", id="impossible"),
        pytest.param(KeyError("x"), "the tcp check itself failed: KeyError('x')", id="a defect"),
    ],
)
@story
async def test_what_cannot_be_asked_is_told_as_that(error: Exception, why: str) -> None:
    async with two() as stage:
        stage.checks.broken = error

        plan = await stage.director.configuration.apply(
            wanted(web=s.service("web1", check=s.CHECK)), intent=ME, dry_run=True
        )

        assert [each.why for each in plan.missing] == [why]


@story
async def test_a_plan_that_is_done_is_in_plane_and_store() -> None:
    async with two() as stage:
        plan = await stage.director.configuration.apply(CHANGED, intent=Intent("me", "because"))

        assert told(plan) == WHAT_CHANGES
        assert (plan.dry_run, plan.revision) == (False, 1)
        assert stage.wanted() == CHANGED.services
        assert {name: {m.name for m in p.members} for name, p in stage.plane.plans.items()} == {
            "web": {"web1", "web3"},
            "mail": {"web2"},
        }
        [revision] = stage.history.revisions
        assert (revision.author, revision.reason) == ("me", "replace the configuration: because")
        assert stage.director.configuration.document() == CHANGED


@story
async def test_what_changes_nothing_makes_no_revision_and_touches_no_map() -> None:
    async with two() as stage:
        applied = list(stage.plane.applied)

        plan = await stage.director.configuration.apply(stage.director.configuration.document(), intent=ME)

        assert (plan.changes, plan.affected, plan.revision) == ((), (), 0)
        assert stage.history.revisions == []
        assert stage.plane.applied == applied


@story
async def test_only_what_differs_is_brought_to_the_plane() -> None:
    async with Stage(web=s.service("web1"), mail=mail("web2")) as stage:
        applied = len(stage.plane.applied)

        await stage.director.configuration.apply(
            wanted(web=s.service("web1", "web3"), mail=mail("web2")), intent=ME
        )

        assert {*stage.plane.applied[applied:]} == {"web"}  # again when its backends are checked


RUNNING = {WEB1: 5, WEB2: 7}
AFFECTED: dict[str, tuple[Configuration, list[tuple[str, int, bool, str]]]] = {
    "a removed backend": (wanted(web=s.service("web1")), [("web2", 7, True, "the backend is removed")]),
    "a removed service": (
        wanted(),
        [("web1", 5, True, "the service is removed"), ("web2", 7, True, "the service is removed")],
    ),
    "a backend that moves": (
        wanted(web=s.service("web1", backends={"web2": s.backend("web4")})),
        [("web2", 7, True, "the backend moves to 192.0.2.24")],
    ),
    "maintenance": (
        wanted(web=s.service("web1", backends={"web2": s.backend("web2", admin="maintenance")})),
        [("web2", 7, True, "the backend goes into maintenance")],
    ),
    "another listener": (
        wanted(web=s.service("web1", "web2", listener=f"{VIP}:8080/tcp")),
        [
            ("web1", 5, False, f"no listener any more: {VIP}:80/tcp"),
            ("web2", 7, False, f"no listener any more: {VIP}:80/tcp"),
        ],
    ),
    "a drain": (
        wanted(web=s.service("web1", backends={"web2": s.backend("web2", admin="drain")})),
        [],
    ),
    "weights": (wanted(web=s.service("web2", backends={"web1": s.backend("web1", weight=9)})), []),
}


@pytest.mark.parametrize(
    ("document", "affected"), [pytest.param(*row, id=name) for name, row in AFFECTED.items()]
)
@story
async def test_a_plan_counts_whom_it_cuts_off(
    document: Configuration, affected: list[tuple[str, int, bool, str]]
) -> None:
    async with two() as stage:
        stage.plane.active = dict(RUNNING)

        plan = await stage.director.configuration.apply(document, intent=ME, dry_run=True)

        assert plan.affected == tuple(
            Affected(service="web", backend=name, connections=count, exact=exact, why=why)
            for name, count, exact, why in affected
        )


@pytest.mark.parametrize(
    ("scheduler", "state", "told"),
    [
        pytest.param("mh", {}, True, id="mh"),
        pytest.param("sh", {}, True, id="sh"),
        pytest.param("wlc", {}, False, id="wlc"),
        pytest.param("wlc", {"unsettled": {"web"}}, True, id="wlc, until lately mh"),
        pytest.param("sh", {"admin": AdminState.DRAIN}, False, id="sh, drained"),
        pytest.param("sh", {"admin": AdminState.DRAIN, "unsettled": {"web"}}, True, id="sh, still draining"),
        pytest.param("sh", {"admin": AdminState.MAINTENANCE}, False, id="sh, in maintenance"),
    ],
)
@story
async def test_a_ring_does_not_know_all_that_it_cuts_off(
    scheduler: str, state: dict[str, Any], told: bool
) -> None:
    async with two(scheduler=scheduler) as stage:
        stage.plane.packets[WEB2] = 100
        stage.plane.unsettled = state.get("unsettled", set())
        if "admin" in state:
            await stage.director.drains.set_admin(*WEB2, AdminChange(state["admin"]), intent=ME)

        plan = await stage.director.configuration.apply(wanted(), intent=ME, dry_run=True)

        assert [(each.backend, each.connections, each.exact) for each in plan.affected] == (
            [("web2", 0, False)] if told else []
        )


REFUSED: dict[str, tuple[Configuration, type[DirectorError], str]] = {
    "interfaces": (
        Configuration(interfaces=("eth1",), services={"web": s.service("web1")}),
        ConflictError,
        "/interfaces",
    ),
    "another size of a ring": (
        wanted(web=s.service("web1", scheduler="mh", ring_slots=251)),
        ConflictError,
        "/services/web/ring_slots",
    ),
    "another hash of a ring": (
        wanted(web=s.service("web1", scheduler="sh")),
        ConflictError,
        "/services/web/scheduler",
    ),
    "another network": (
        wanted(web=s.service(scheduler="mh", backends={"far": {"address": str(s.FAR)}})),
        InvalidRequestError,
        "/services/web/backends/far/address",
    ),
}


@pytest.mark.parametrize("dry_run", [True, False], ids=["planned", "done"])
@pytest.mark.parametrize(
    ("document", "kind", "place"), [pytest.param(*row, id=name) for name, row in REFUSED.items()]
)
@story
async def test_what_cannot_be_is_refused_and_changes_nothing(
    document: Configuration, kind: type[DirectorError], place: str, dry_run: bool
) -> None:
    async with two(scheduler="mh") as stage:
        before = stage.shown()

        with pytest.raises(kind) as caught:
            await stage.director.configuration.apply(document, intent=ME, dry_run=dry_run)

        assert caught.value.pointer == place
        assert stage.shown() == before
        assert stage.history.revisions == []


@pytest.mark.parametrize("trouble", ["room", "full"])
@story
async def test_what_the_plane_or_the_store_refuses_is_taken_back(trouble: str) -> None:
    async with two() as stage:
        before = stage.shown()
        if trouble == "room":
            stage.plane.room = 2
        else:
            stage.history.full = FULL

        with pytest.raises((CapacityError, StoreError)):
            await stage.director.configuration.apply(CHANGED, intent=ME)

        assert stage.shown() == before
        assert stage.history.revisions == []
        assert stage.director.readiness().ready


@story
async def test_a_drain_stays_where_the_document_states_no_admin_state() -> None:
    async with two() as stage:
        await stage.director.drains.set_admin(*WEB1, AdminChange(AdminState.MAINTENANCE), intent=ME)

        await stage.director.configuration.apply(
            wanted(web=s.service("web1", "web2", on_empty="drop")), intent=ME
        )
        kept = stage.wanted()["web"].backends["web1"].admin
        stated = s.service("web2", backends={"web1": s.backend("web1", admin="enabled")})
        await stage.director.configuration.apply(wanted(web=stated), intent=ME)

        assert kept is AdminState.MAINTENANCE
        assert stage.wanted()["web"].backends["web1"].admin is AdminState.ENABLED


@story
async def test_a_document_that_drains_begins_a_drain() -> None:
    async with two() as stage:
        stage.plane.active = dict(RUNNING)
        document = wanted(web=s.service("web2", backends={"web1": s.backend("web1", admin="drain")}))

        await stage.director.configuration.apply(document, intent=ME)

        drain = stage.director.backend(*WEB1).drain
        assert drain
        assert (drain.connections_at_start, set(stage.history.kept_drains)) == (5, {WEB1})


# If-Match


@story
async def test_a_stale_change_is_refused_under_the_lock() -> None:
    """Both have read the same; who comes second has not seen what the first one did."""
    async with two() as stage:
        seen = Intent("me", expected=frozenset({stage.director.tag("web", "web1")}))
        changes = [
            stage.director.patch_backend("web", "web1", {"weight": weight}, intent=seen) for weight in (2, 3)
        ]

        first, second = await asyncio.gather(*changes, return_exceptions=True)

        assert not isinstance(first, BaseException)
        assert isinstance(second, StaleError)
        assert stage.wanted()["web"].backends["web1"].weight == 2


@pytest.mark.parametrize("dry_run", [True, False], ids=["planned", "done"])
@story
async def test_a_configuration_that_was_changed_since_is_not_overwritten(dry_run: bool) -> None:
    async with two() as stage:
        seen = Intent("me", expected=frozenset({stage.director.tag()}))
        await stage.director.patch_backend("web", "web1", {"weight": 2}, intent=ME)

        with pytest.raises(StaleError, match="Read it again"):
            await stage.director.configuration.apply(CHANGED, intent=seen, dry_run=dry_run)


@story
async def test_tags_are_those_of_what_is_wanted() -> None:
    async with Stage(web=s.service("web1", "web2"), mail=mail("web3")) as stage:
        director = stage.director

        def tags() -> list[str]:
            return [
                director.tag(*place) for place in [(), ("web",), ("web", "web1"), ("web", "web2"), ("mail",)]
            ]

        before = tags()
        await director.patch_backend("web", "web1", {"weight": 2}, intent=ME)
        changed = tags()
        await director.patch_backend("web", "web1", {"weight": 1}, intent=ME)

        assert [old == new for old, new in zip(before, changed, strict=True)] == [
            False,
            False,
            False,
            True,
            True,
        ]
        assert tags() == before
        with pytest.raises(NotFoundError):
            director.tag("shop")


# Revisions


@story
async def test_a_rollback_is_a_new_revision_with_the_old_content() -> None:
    async with two() as stage:
        configuration = stage.director.configuration
        await stage.director.patch_backend("web", "web1", {"weight": 2}, intent=ME)
        await configuration.apply(CHANGED, intent=ME)

        planned = await configuration.roll_back(1, intent=ME, dry_run=True)
        done = await configuration.roll_back(1, intent=Intent("me", "it was better"))

        assert planned.changes == done.changes
        assert (planned.revision, done.revision) == (2, 3)
        assert stage.history.revisions[2].services == stage.history.revisions[0].services
        assert stage.history.revisions[2].reason == "roll back to revision 1: it was better"
        assert stage.wanted() == stage.history.revisions[0].services


@story
async def test_revisions_say_what_they_changed() -> None:
    async with two() as stage:
        configuration = stage.director.configuration
        await stage.director.patch_backend("web", "web1", {"weight": 2}, intent=ME)
        await stage.director.patch_backend("web", "web1", {"weight": 3}, intent=ME)

        listed = configuration.summaries(before=None, limit=10)
        shown = configuration.revision(2)

        assert [each.id for each in listed] == [2, 1]
        assert shown.services["web"].backends["web1"].weight == 3
        assert shown.changes
        [change] = shown.changes
        assert (change.pointer, change.before, change.after) == ("/services/web/backends/web1/weight", 2, 3)


@pytest.mark.parametrize("number", [0, 9])
@story
async def test_a_revision_that_is_not_kept_is_not_found(number: int) -> None:
    async with two() as stage:
        with pytest.raises(NotFoundError, match=f"no revision {number}"):
            stage.director.configuration.revision(number)
        with pytest.raises(NotFoundError):
            await stage.director.configuration.roll_back(number, intent=ME)


@story
async def test_a_rollback_to_another_hash_of_a_ring_is_refused() -> None:
    async with two(scheduler="sh") as stage:
        await stage.director.patch_service("web", {"scheduler": "wlc"}, intent=ME)
        await stage.director.patch_service("web", {"scheduler": "sh"}, intent=ME)
        await stage.director.patch_service("web", {"scheduler": "wlc"}, intent=ME)
        await stage.director.patch_service("web", {"scheduler": "mh"}, intent=ME)
        before = stage.shown()

        with pytest.raises(ConflictError, match="hashes clients' addresses and ports"):
            await stage.director.configuration.roll_back(2, intent=ME)

        assert stage.shown() == before


# The file, read again


@story
async def test_the_file_is_taken_in_again() -> None:
    async with two() as stage:
        stage.director.take_in(OLD, stage.wanted())
        await stage.director.create_service("ftp", s.service(listener=f"{VIP}:21/tcp"), intent=ME)
        await stage.director.drains.set_admin(*WEB1, AdminChange(AdminState.DRAIN), intent=ME)

        plan = await stage.director.configuration.reload(wanted(web=s.service("web1", "web3")), NEW)

        assert told(plan) == [
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
    async with two() as stage:
        stage.director.take_in(OLD, stage.wanted())
        await stage.director.patch_backend("web", "web1", {"weight": 9}, intent=ME)

        plan = await stage.director.configuration.reload(wanted(web=s.service("web1", "web2")), OLD)

        assert plan.changes == ()
        assert len(stage.history.revisions) == 2


@story
async def test_what_needs_a_restart_is_a_warning() -> None:
    async with two() as stage:
        file = Configuration(interfaces=("eth0", "eth1"), services={"web": s.service("web1")})

        await stage.director.configuration.reload(file, NEW)
        warned = stage.director.readiness()
        await stage.director.configuration.reload(wanted(web=s.service("web1")), OLD)

        assert warned.ready
        assert warned.warnings == (
            "the configuration file has another value of 'interfaces': restart the daemon to use it",
        )
        assert stage.director.readiness().warnings == ()


@story
async def test_a_file_that_contradicts_what_was_made_since_is_refused_whole() -> None:
    async with two() as stage:
        stage.director.take_in(OLD, stage.wanted())
        await stage.director.create_service("ftp", s.service(listener=f"{VIP}:21/tcp"), intent=ME)
        before = stage.shown()

        with pytest.raises(ConfigurationError, match="made through the API"):
            await stage.director.configuration.reload(
                wanted(web=s.service(), other=s.service(listener=f"{VIP}:21/tcp")), NEW
            )

        assert stage.shown() == before


@story
async def test_a_backend_that_left_the_file_drains_and_goes() -> None:
    async with two() as stage:
        stage.plane.active = dict(RUNNING)
        stage.director.take_in(OLD, stage.wanted())

        plan = await stage.director.configuration.reload(wanted(web=s.service("web1", on_empty="drop")), NEW)

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
    async with two() as stage:
        stage.plane.active = dict(RUNNING)
        stage.director.take_in(OLD, stage.wanted())
        await stage.director.configuration.reload(wanted(web=s.service("web1")), NEW)

        await stage.director.drains.set_admin(*WEB2, AdminChange(AdminState.ENABLED), intent=ME)
        stage.plane.active[WEB2] = 0
        await stage.director.drains.remove_drained()

        assert stage.member(WEB2).accepts


@pytest.mark.parametrize("on_deadline", ["keep", "cut"])
@story
async def test_a_deadline_for_what_left_the_file_ends_it(on_deadline: Literal["keep", "cut"]) -> None:
    async with two() as stage:
        stage.plane.active = dict(RUNNING)
        stage.director.take_in(OLD, stage.wanted())
        await stage.director.configuration.reload(wanted(web=s.service("web1")), NEW)

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

        await stage.director.configuration.reload(wanted(mail=mail("web2")), NEW)

        assert set(stage.wanted()["web"].backends) == {"web1", "web2"}
        stage.plane.active[WEB1] = 0
        await s.until(lambda: set(stage.wanted()["web"].backends) == {"web2"})
        stage.plane.active[WEB2] = 0
        await s.until(lambda: set(stage.wanted()) == {"mail"})


@story
async def test_a_ring_that_left_the_file_waits_for_what_it_has_no_record_of() -> None:
    async with two(scheduler="sh") as stage:
        stage.plane.packets[WEB2] = 1
        stage.plane.unsettled = {"web"}
        stage.director.take_in(OLD, stage.wanted())

        await stage.director.configuration.reload(wanted(web=s.service("web1", scheduler="sh")), NEW)
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
                    await stage.director.configuration.reload(wanted(web=file), NEW)
            else:
                await stage.director.configuration.reload(wanted(web=file), NEW)
            assert stage.wanted() == {"web": was if kind else file}
            return

        plane = stage.plane if way == "at a start" else FakePlane()
        begun = initial_state(stage.history, wanted(web=file), NEW, plane)

        keeps = kind is not None and way == "at a start"
        assert begun.services == {"web": was if keeps else file}
        assert why in begun.refusal if keeps else not begun.refusal
        assert begun.takes_in is not keeps


@story
async def test_a_start_goes_on_with_what_was_stored_when_the_file_cannot_be_taken_in() -> None:
    """Whoever restarts it, health has to be checked."""
    async with two() as stage:
        stage.director.take_in(OLD, stage.wanted())
        await stage.director.create_service("ftp", s.service(listener=f"{VIP}:21/tcp"), intent=ME)
        contradiction = wanted(web=s.service(), other=s.service(listener=f"{VIP}:21/tcp"))

        begun = initial_state(stage.history, contradiction, NEW, stage.plane)

        assert set(begun.services) == {"web", "ftp"}
        assert "made through the API" in begun.refusal
        assert not begun.takes_in


@story
async def test_what_left_the_file_goes_on_leaving_over_a_restart() -> None:
    async with two() as stage:
        stage.plane.active = dict(RUNNING)
        stage.director.take_in(OLD, stage.wanted())
        await stage.director.configuration.reload(wanted(web=s.service("web1")), NEW)
        history, plane = stage.history, stage.plane
    document = wanted(web=s.service("web1", on_empty="drop"))
    begun = initial_state(history, document, "digest of a third file", plane)
    async with Stage(plane, kept=(history, stage.denials), **begun.services) as again:
        again.director.take_in("digest of a third file", document.services, begun.leaving)

        assert begun.leaving == {WEB2}
        assert again.wanted()["web"].backends["web2"].admin is AdminState.DRAIN
        plane.active[WEB2] = 0
        await s.until(lambda: again.wanted() == document.services)


# The store in trouble


@story
async def test_a_store_in_trouble_is_a_warning_until_it_is_well() -> None:
    async with two() as stage:
        stage.history.full = FULL
        with pytest.raises(StoreError):
            await stage.director.patch_backend("web", "web1", {"weight": 2}, intent=ME)
        warned = stage.director.readiness()

        stage.history.full = None
        await s.until(lambda: not stage.director.readiness().warnings)

        assert warned.ready
        assert warned.warnings == ("changes are refused: the disk is full",)


@story
async def test_a_file_that_could_not_be_stored_is_stored_when_the_store_is_well() -> None:
    async with two() as stage:
        stage.history.full = FULL
        stage.director.take_in(NEW, stage.wanted())
        nothing = list(stage.history.revisions)

        stage.history.full = None
        await s.until(lambda: stage.history.revisions)

        assert nothing == []
        assert stage.history.revisions[0].file_digest == NEW


@story
async def test_what_the_archive_notes_is_a_warning() -> None:
    async with two() as stage:
        stage.history.notes = ("the database was damaged",)

        assert stage.director.readiness().warnings == ("the database was damaged",)


@story
async def test_the_deny_list_is_no_part_of_the_document() -> None:
    guarded = Configuration(interfaces=("eth0",), guard={"deny": [{"prefix": "203.0.113.0/24"}]})
    async with two() as stage:
        await stage.director.guard.replace(guarded.guard.deny, intent=ME)

        assert stage.director.configuration.document().guard.deny == ()
        with pytest.raises(ConflictError, match="PUT /v1/guard/deny") as refusal:
            await stage.director.configuration.apply(guarded, intent=ME)

        assert refusal.value.pointer == "/guard"
        await stage.director.configuration.apply(wanted(), intent=ME)
        assert stage.director.guard.denied() == [guarded.guard.deny[0].prefix]
