# SPDX-License-Identifier: Apache-2.0
"""The configuration as a whole: planned, replaced, rolled back and read again; all of it or nothing."""

from __future__ import annotations

from typing import Any

import pytest

import tests.support.stage as s
from tests.support.stage import (
    CHANGED,
    DISK_FULL,
    HOSTS,
    ME,
    OTHER_VIP,
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
from xdpdirector.errors import (
    CapacityError,
    ConflictError,
    DirectorError,
    InvalidRequestError,
    StoreError,
)
from xdpdirector.health.checks import CheckImpossible
from xdpdirector.model import AdminState, Configuration
from xdpdirector.state.admin_change import AdminChange
from xdpdirector.state.change_request import Intent
from xdpdirector.state.diff import Affected, Missing

WHAT_CHANGES = [
    ("added", "/services/mail"),
    ("changed", "/services/web/scheduler"),
    ("changed", "/services/web/timeouts/tcp"),
    ("removed", "/services/web/backends/web2"),
    ("added", "/services/web/backends/web3"),
]


@story
async def test_a_plan_names_each_difference_and_changes_nothing() -> None:
    async with web_stage() as stage:
        before = stage.shown()

        plan = await stage.director.configuration.apply(CHANGED, intent=ME, dry_run=True)

        assert differences(plan) == WHAT_CHANGES
        scheduler = plan.changes[1]
        assert (scheduler.before, scheduler.after) == ("wlc", "rr")
        assert plan.model_dump(mode="json")["changes"][3]["before"]["address"] == "192.0.2.22"
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
    async with web_stage(check=s.CHECK) as stage:
        stage.checks.failures[HOSTS["web2"], OTHER_VIP] = "nothing listens there"
        before = stage.shown()

        plan = await stage.director.configuration.apply(configuration(web=both), intent=ME, dry_run=True)

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
    async with web_stage(check=s.CHECK) as stage:
        stage.checks.failures[HOSTS["web3"], VIP] = "nothing listens there"

        plan = await stage.director.configuration.apply(
            configuration(web=s.service("web1", "web2", check=s.CHECK), mail=mails), intent=ME, dry_run=True
        )

        assert [(each.service, each.backend) for each in plan.missing] == [("mail", "web3")]
        assert stage.neighbours.watched == {HOSTS["web1"], HOSTS["web2"]}
        done = await stage.director.configuration.apply(configuration(mail=mails), intent=ME)
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
    async with web_stage() as stage:
        stage.checks.broken = error

        plan = await stage.director.configuration.apply(
            configuration(web=s.service("web1", check=s.CHECK)), intent=ME, dry_run=True
        )

        assert [each.why for each in plan.missing] == [why]


@story
async def test_a_plan_that_is_done_is_in_plane_and_store() -> None:
    async with web_stage() as stage:
        plan = await stage.director.configuration.apply(CHANGED, intent=Intent("me", "because"))

        assert differences(plan) == WHAT_CHANGES
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
    async with web_stage() as stage:
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
            configuration(web=s.service("web1", "web3"), mail=mail("web2")), intent=ME
        )

        assert {*stage.plane.applied[applied:]} == {"web"}  # again when its backends are checked


RUNNING = {WEB1: 5, WEB2: 7}
AFFECTED: dict[str, tuple[Configuration, list[tuple[str, int, bool, str]]]] = {
    "a removed backend": (
        configuration(web=s.service("web1")),
        [("web2", 7, True, "the backend is removed")],
    ),
    "a removed service": (
        configuration(),
        [("web1", 5, True, "the service is removed"), ("web2", 7, True, "the service is removed")],
    ),
    "a backend that moves": (
        configuration(web=s.service("web1", backends={"web2": s.backend("web4")})),
        [("web2", 7, True, "the backend moves to 192.0.2.24")],
    ),
    "maintenance": (
        configuration(web=s.service("web1", backends={"web2": s.backend("web2", admin="maintenance")})),
        [("web2", 7, True, "the backend goes into maintenance")],
    ),
    "another listener": (
        configuration(web=s.service("web1", "web2", listener=f"{VIP}:8080/tcp")),
        [
            ("web1", 5, False, f"no listener any more: {VIP}:80/tcp"),
            ("web2", 7, False, f"no listener any more: {VIP}:80/tcp"),
        ],
    ),
    "a drain": (
        configuration(web=s.service("web1", backends={"web2": s.backend("web2", admin="drain")})),
        [],
    ),
    "weights": (configuration(web=s.service("web2", backends={"web1": s.backend("web1", weight=9)})), []),
}


@pytest.mark.parametrize(
    ("document", "affected"), [pytest.param(*row, id=name) for name, row in AFFECTED.items()]
)
@story
async def test_a_plan_counts_whom_it_cuts_off(
    document: Configuration, affected: list[tuple[str, int, bool, str]]
) -> None:
    async with web_stage() as stage:
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
    async with web_stage(scheduler=scheduler) as stage:
        stage.plane.packets[WEB2] = 100
        stage.plane.unsettled = state.get("unsettled", set())
        if "admin" in state:
            await stage.director.drains.set_admin(*WEB2, AdminChange(state["admin"]), intent=ME)

        plan = await stage.director.configuration.apply(configuration(), intent=ME, dry_run=True)

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
        configuration(web=s.service("web1", scheduler="mh", ring_slots=251)),
        ConflictError,
        "/services/web/ring_slots",
    ),
    "another hash of a ring": (
        configuration(web=s.service("web1", scheduler="sh")),
        ConflictError,
        "/services/web/scheduler",
    ),
    "another network": (
        configuration(web=s.service(scheduler="mh", backends={"far": {"address": str(s.FAR)}})),
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
    async with web_stage(scheduler="mh") as stage:
        before = stage.shown()

        with pytest.raises(kind) as caught:
            await stage.director.configuration.apply(document, intent=ME, dry_run=dry_run)

        assert caught.value.pointer == place
        assert stage.shown() == before
        assert stage.history.revisions == []


@pytest.mark.parametrize("trouble", ["room", "full"])
@story
async def test_what_the_plane_or_the_store_refuses_is_taken_back(trouble: str) -> None:
    async with web_stage() as stage:
        before = stage.shown()
        if trouble == "room":
            stage.plane.room = 2
        else:
            stage.history.full = DISK_FULL

        with pytest.raises((CapacityError, StoreError)):
            await stage.director.configuration.apply(CHANGED, intent=ME)

        assert stage.shown() == before
        assert stage.history.revisions == []
        assert stage.director.readiness().ready


@story
async def test_a_drain_stays_where_the_document_states_no_admin_state() -> None:
    async with web_stage() as stage:
        await stage.director.drains.set_admin(*WEB1, AdminChange(AdminState.MAINTENANCE), intent=ME)

        await stage.director.configuration.apply(
            configuration(web=s.service("web1", "web2", on_empty="drop")), intent=ME
        )
        kept = stage.wanted()["web"].backends["web1"].admin
        stated = s.service("web2", backends={"web1": s.backend("web1", admin="enabled")})
        await stage.director.configuration.apply(configuration(web=stated), intent=ME)

        assert kept is AdminState.MAINTENANCE
        assert stage.wanted()["web"].backends["web1"].admin is AdminState.ENABLED


@story
async def test_a_document_that_drains_begins_a_drain() -> None:
    async with web_stage() as stage:
        stage.plane.active = dict(RUNNING)
        document = configuration(web=s.service("web2", backends={"web1": s.backend("web1", admin="drain")}))

        await stage.director.configuration.apply(document, intent=ME)

        drain = stage.director.backend(*WEB1).drain
        assert drain
        assert (drain.connections_at_start, set(stage.history.kept_drains)) == (5, {WEB1})


# If-Match


# Revisions


# The file, read again


# The store in trouble


@story
async def test_a_store_in_trouble_is_a_warning_until_it_is_well() -> None:
    async with web_stage() as stage:
        stage.history.full = DISK_FULL
        with pytest.raises(StoreError):
            await stage.director.patch_backend("web", "web1", {"weight": 2}, intent=ME)
        warned = stage.director.readiness()

        stage.history.full = None
        await s.until(lambda: not stage.director.readiness().warnings)

        assert warned.ready
        assert warned.warnings == ("changes are refused: the disk is full",)


@story
async def test_what_the_archive_notes_is_a_warning() -> None:
    async with web_stage() as stage:
        stage.history.notes = ("the database was damaged",)

        assert stage.director.readiness().warnings == ("the database was damaged",)


@story
async def test_the_deny_list_is_no_part_of_the_document() -> None:
    guarded = Configuration(interfaces=("eth0",), guard={"deny": [{"prefix": "203.0.113.0/24"}]})
    async with web_stage() as stage:
        await stage.director.guard.replace(guarded.guard.deny, intent=ME)

        assert stage.director.configuration.document().guard.deny == ()
        with pytest.raises(ConflictError, match="PUT /v1/guard/deny") as refusal:
            await stage.director.configuration.apply(guarded, intent=ME)

        assert refusal.value.pointer == "/guard"
        await stage.director.configuration.apply(configuration(), intent=ME)
        assert stage.director.guard.denied() == [guarded.guard.deny[0].prefix]
