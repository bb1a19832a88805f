# SPDX-License-Identifier: Apache-2.0
"""The director's promises to whoever changes wishes: all or nothing, in the plane and in the store."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

import tests.support.stage as s
from tests.support.stage import (
    DISK_FULL,
    ME,
    VIP,
    WEB1,
    WEB2,
    Stage,
    story,
    web_stage,
)
from xdpdirector.control.director import Director
from xdpdirector.dataplane.service_plan import MemberPlan, State
from xdpdirector.errors import (
    CapacityError,
    DataplaneError,
    StoreError,
    UnreachableError,
)
from xdpdirector.lan.types import Finding, FindingKind
from xdpdirector.model import AdminState
from xdpdirector.model.status import Operational, Statistics
from xdpdirector.state.admin_change import AdminChange
from xdpdirector.sync.status import NoSync

Change = Callable[[Director], Coroutine[Any, Any, object]]

FINDING = Finding(
    kind=FindingKind.DUPLICATE_VIP,
    subject=str(VIP),
    text=f"another machine has the VIP {VIP}",
    evidence="it answered an ARP probe",
    remedy="take it off there",
    since=datetime(2025, 1, 1, tzinfo=UTC),
)

CHANGES: dict[str, Change] = {
    "create a service": lambda d: d.create_service(
        "mail", s.service("web3", listener=f"{VIP}:25/tcp"), intent=ME
    ),
    "replace a service": lambda d: d.put_service("web", s.service("web3"), intent=ME),
    "patch a service": lambda d: d.patch_service("web", {"on_empty": "drop"}, intent=ME),
    "patch away a backend": lambda d: d.patch_service("web", {"backends": {"web1": None}}, intent=ME),
    "delete a service": lambda d: d.delete_service("web", intent=ME),
    "create a backend": lambda d: d.create_backend("web", "web3", s.backend("web3"), intent=ME),
    "patch a backend": lambda d: d.patch_backend("web", "web1", {"weight": 7}, intent=ME),
    "move a backend": lambda d: d.patch_backend("web", "web1", {"address": "192.0.2.24"}, intent=ME),
    "delete a backend": lambda d: d.drains.delete_backend("web", "web1", intent=ME),
    "drain a backend": lambda d: d.drains.set_admin("web", "web1", AdminChange(AdminState.DRAIN), intent=ME),
    "maintain a backend": lambda d: d.drains.set_admin(
        "web", "web1", AdminChange(AdminState.MAINTENANCE), intent=ME
    ),
}
every_change = pytest.mark.parametrize("change", [pytest.param(c, id=name) for name, c in CHANGES.items()])


@asynccontextmanager
async def checked_and_up() -> AsyncIterator[Stage]:
    """The same, checked and running; both are up."""
    async with web_stage(check=s.CHECK) as stage:
        stage.checks.say(WEB1, Operational.UP)
        stage.checks.say(WEB2, Operational.UP)
        await s.until(lambda: stage.member(WEB1).accepts and stage.member(WEB2).accepts)
        yield stage


# All is done when a change returns


@every_change
@story
async def test_a_change_is_in_plane_and_store_when_it_returns(change: Change) -> None:
    async with web_stage() as stage:
        before = stage.wanted()

        await change(stage.director)

        assert stage.wanted() != before
        assert {
            name: [member.name for member in plan.members] for name, plan in stage.plane.plans.items()
        } == {name: list(spec.backends) for name, spec in stage.wanted().items()}
        assert [(each.author, each.services) for each in stage.history.revisions] == [
            (ME.author, stage.wanted())
        ]
        assert stage.director.readiness().revision == 1


class WaitingSync(NoSync):
    """Peers' connections are still to come."""

    def waiting(self) -> str:
        return "the connections of 192.0.2.2:8651 have not arrived yet"


@story
async def test_a_director_without_its_peers_connections_is_not_ready() -> None:
    async with web_stage() as stage:
        assert stage.director.readiness().ready
        stage.director.sync = WaitingSync()
        assert not stage.director.readiness().ready
        assert stage.director.problems() == [WaitingSync().waiting()]


@story
async def test_what_was_made_is_answered() -> None:
    async with Stage() as stage:
        made = await stage.director.create_service("web", s.service("web1", "web2"), intent=ME)
        more = await stage.director.create_backend("web", "web3", s.backend("web3", weight=3), intent=ME)

        assert [view.name for view in made.backends] == ["web1", "web2"]
        assert made.operational is Operational.UP
        assert (more.name, more.weight, more.serving, more.mac) == ("web3", 3, True, "02:00:00:00:00:17")
        assert [view.name for view in stage.director.services()] == ["web"]


@story
async def test_vips_follow_the_listeners() -> None:
    async with web_stage() as stage:
        await stage.director.create_service("mail", s.service(listener="192.0.2.11:25/tcp"), intent=ME)
        both = stage.vips.wanted
        await stage.director.delete_service("web", intent=ME)

        assert both == {VIP, s.OTHER_VIP}
        assert stage.vips.wanted == {s.OTHER_VIP}


@story
async def test_a_change_of_no_listener_looks_at_no_interface() -> None:
    """All interfaces and addresses are listed for that, which took half of the time of a change."""
    async with web_stage() as stage:
        before = stage.vips.ensured
        await stage.director.patch_backend("web", "web1", {"weight": 7}, intent=ME)
        unchanged = stage.vips.ensured
        await stage.director.create_service("mail", s.service(listener="192.0.2.11:25/tcp"), intent=ME)

        assert (unchanged, stage.vips.ensured) == (before, before + 1)


@story
async def test_a_vip_that_could_not_be_placed_is_tried_again_at_the_next_change() -> None:
    async with web_stage() as stage:
        stage.vips.refuse = DataplaneError("eth0 is down")
        await stage.director.create_service("mail", s.service(listener="192.0.2.11:25/tcp"), intent=ME)
        stage.vips.refuse = None
        await stage.director.patch_backend("web", "web1", {"weight": 7}, intent=ME)

        assert stage.vips.wanted == {VIP, s.OTHER_VIP}


# Nothing is done when a change fails


@every_change
@story
async def test_what_cannot_be_stored_is_taken_back(change: Change) -> None:
    async with checked_and_up() as stage:
        before = stage.shown()
        stage.history.full = DISK_FULL

        with pytest.raises(StoreError):
            await change(stage.director)

        assert stage.shown() == before
        assert stage.director.readiness() == stage.director.readiness().model_copy(
            update={"ready": True, "problems": (), "revision": 0}
        )


@pytest.mark.parametrize("change", ["create a service", "create a backend"])
@story
async def test_what_does_not_fit_is_taken_back(change: str) -> None:
    async with checked_and_up() as stage:
        before = stage.shown()
        stage.plane.room = 2

        with pytest.raises(CapacityError):
            await CHANGES[change](stage.director)

        assert stage.shown() == before
        assert stage.history.revisions == []
        assert stage.director.readiness().problems == ()


CUTTING: dict[str, Change] = {
    "delete a backend": lambda d: d.drains.delete_backend("web", "web1", force=True, intent=ME),
    "patch away a backend": CHANGES["patch away a backend"],
    "move a backend": CHANGES["move a backend"],
    "maintain a backend": CHANGES["maintain a backend"],
    "delete a service": CHANGES["delete a service"],
    "replace the configuration": lambda d: d.configuration.apply(s.BASE, intent=ME),
}


@pytest.mark.parametrize("change", [pytest.param(c, id=name) for name, c in CUTTING.items()])
@story
async def test_nobody_is_cut_off_before_the_change_is_stored(change: Change) -> None:
    async with web_stage() as stage:
        stage.plane.active[WEB1] = 3
        seen: list[MemberPlan] = []
        stage.history.before_writing = lambda: seen.append(stage.member(WEB1))

        await change(stage.director)

        assert [(member.state, member.address) for member in seen] == [(State.SERVING, s.HOSTS["web1"])]


@story
async def test_what_cannot_be_finished_is_told_and_tried_again() -> None:
    """The store has it by then: taking it back would be another change."""
    async with web_stage() as stage:
        stage.history.before_writing = lambda: setattr(
            stage.plane, "broken", OSError(5, "Input/output error")
        )

        with pytest.raises(DataplaneError, match="is stored, but"):
            await CHANGES["patch away a backend"](stage.director)
        stored, told = stage.history.revisions[-1].services, stage.director.readiness()
        stage.plane.broken = None
        await stage.reconciler.upkeep()

        assert not told.ready
        assert stage.wanted() == stored
        assert [member.name for member in stage.plane.plans["web"].members] == ["web2"]
        assert stage.director.readiness().ready


@story
async def test_taking_back_keeps_since_and_restarts_no_other_check() -> None:
    async with checked_and_up() as stage:
        since = [stage.director.backend(*key).since for key in (WEB1, WEB2)]
        stage.history.full = DISK_FULL

        with pytest.raises(StoreError):
            await CHANGES["move a backend"](stage.director)

        assert [stage.director.backend(*key).since for key in (WEB1, WEB2)] == since
        assert stage.checks.began[WEB2] == 1


@story
async def test_a_plane_that_refuses_everything_is_a_problem_until_it_is_mended() -> None:
    async with web_stage() as stage:
        before = stage.shown()
        stage.plane.broken = OSError(28, "No space left on device")

        with pytest.raises(OSError, match="No space left"):
            await CHANGES["patch a backend"](stage.director)

        assert stage.shown() == before
        assert "No space left" in stage.director.readiness().problems[0]
        stage.plane.broken = None
        await stage.reconciler.upkeep()
        assert stage.director.readiness().ready
        assert stage.reconciler.drift_repaired == 0


@story
async def test_changes_come_one_after_the_other() -> None:
    async with Stage(web=s.service()) as stage:
        await asyncio.gather(
            *(stage.director.create_backend("web", name, s.backend(name), intent=ME) for name in s.HOSTS)
        )

        assert [len(each.services["web"].backends) for each in stage.history.revisions] == [1, 2, 3, 4]
        assert len(stage.plane.plans["web"].members) == 4


@every_change
@story
async def test_a_change_waits_for_another_that_is_under_way(change: Change) -> None:
    async with web_stage() as stage:
        before = stage.shown()
        async with stage.reconciler.lock:
            changing = asyncio.ensure_future(change(stage.director))
            for _ in range(5):
                await asyncio.sleep(0)
            meanwhile = stage.shown()
        await changing

        assert meanwhile == before
        assert len(stage.history.revisions) == 1


# What is refused, and where the error points


# Deleting what is busy


@story
async def test_a_persistent_ring_records_all_its_connections() -> None:
    async with web_stage(scheduler="sh", persistence={}) as stage:
        stage.plane.packets[WEB1] = 5

        await stage.director.drains.delete_backend("web", "web1", intent=ME)

        assert list(stage.wanted()["web"].backends) == ["web2"]


@story
async def test_deleting_stops_checking_and_following() -> None:
    async with Stage(
        web=s.service("web1", "web2", check=s.CHECK),
        mail=s.service("web3", listener=f"{VIP}:25/tcp", check=s.CHECK),
    ) as stage:
        await stage.director.drains.delete_backend("web", "web1", intent=ME)
        await stage.director.delete_service("mail", intent=ME)

        assert set(stage.checks.running) == {WEB2}
        assert stage.neighbours.watched == {s.HOSTS["web2"]}


@story
async def test_a_service_that_loses_its_check_is_no_longer_checked() -> None:
    async with checked_and_up() as stage:
        stage.checks.say(WEB1, Operational.DOWN, "refused")
        await s.until(lambda: stage.member(WEB1).state is State.DOWN)

        await stage.director.patch_service("web", {"check": None}, intent=ME)

        assert stage.checks.running == {}
        assert stage.member(WEB1).accepts


@story
async def test_the_file_that_was_taken_in_is_stored_with_its_services() -> None:
    async with web_stage() as stage:
        stage.director.take_in("digest", stage.wanted())

        [revision] = stage.history.revisions
        assert (revision.author, revision.file_digest, revision.file_services) == (
            "file",
            "digest",
            frozenset({"web"}),
        )
        assert stage.director.readiness().revision == 1


@story
async def test_what_could_not_be_stored_is_stored_later_beside_the_loop() -> None:
    """It waits for the disk."""
    writers: list[int] = []
    async with web_stage() as stage:
        stage.history.full = DISK_FULL
        stage.director.take_in("digest", stage.wanted())
        assert stage.director.readiness().warnings == ("changes are refused: the disk is full",)
        stage.history.before_writing = lambda: writers.append(threading.get_ident())

        stage.history.full = None

        await s.until(lambda: stage.director.readiness().revision == 1)
        assert stage.director.readiness().warnings == ()
    assert writers
    assert threading.get_ident() not in writers


@story
async def test_statistics_have_every_service_and_backend() -> None:
    async with web_stage() as stage:
        stage.plane.packets = {WEB1: 2, WEB2: 3}
        stage.plane.active = {WEB1: 1}

        statistics = Statistics.of(stage.director.vitals(), stage.director.service_traffic())

        assert statistics.services["web"].packets == 5
        assert statistics.backends["web"]["web2"].packets == 3
        assert statistics.connections == 1


@story
async def test_it_is_not_ready_while_an_interface_lacks_the_program() -> None:
    async with web_stage() as stage:
        stage.carriers.troubles = ["interface eth0 does not carry the packet program: it will soon"]

        readiness = stage.director.readiness()

        assert not readiness.ready
        assert readiness.problems == tuple(stage.carriers.troubles)


@story
async def test_what_is_wrong_with_the_network_is_a_warning() -> None:
    async with web_stage() as stage:
        stage.lan.findings = (FINDING,)

        readiness = stage.director.readiness()

        assert readiness.ready
        assert readiness.warnings == (FINDING.text,)


@story
async def test_who_waits_for_a_drain_is_told_when_the_daemon_stops() -> None:
    async with web_stage() as stage:
        stage.plane.active[WEB1] = 1
        await stage.director.drains.set_admin("web", "web1", AdminChange(AdminState.DRAIN), intent=ME)
        waiting = asyncio.create_task(stage.director.drains.wait_drained("web", "web1", 60.0))
        await asyncio.sleep(0)

        stage.director.stop_waiting()

        with pytest.raises(UnreachableError, match="is stopping"):
            await waiting


@story
async def test_totals_never_fall() -> None:
    """Of a service whose backend goes, and of the director when the service does."""
    async with Stage(web=s.service("web1", "web2")) as stage:
        stage.plane.packets = {WEB1: 5, WEB2: 7}

        await stage.director.drains.delete_backend("web", "web2", force=True, intent=ME)
        assert stage.director.service("web").traffic.packets == 12
        assert [each.traffic.packets for each in stage.director.service_traffic()] == [12]

        await stage.director.delete_service("web", intent=ME)
        assert list(stage.director.service_traffic()) == []
        assert stage.director.vitals().traffic.packets == 12
