# SPDX-License-Identifier: Apache-2.0
"""Directors leave for maintenance and come back: one alone, and those of a fleet with a real etcd."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

import tests.support.stage as s
from tests.support.etcd import Etcd, needed
from tests.support.fake_order_store import FakeOrderStore
from tests.support.fleet import (
    WEB_FILE,
    FleetStage,
    agreed,
    all_ready,
    director,
    directors,
    happened,
    has_asked_again,
    is_new,
    reaches_etcd,
)
from tests.support.stage import BASE, ME, VIP, WEB1, Stage, story, until
from xdpdirector.control import director as director_module
from xdpdirector.control.maintenance import MaintenanceController
from xdpdirector.errors import (
    ConflictError,
    NotFoundError,
    StaleError,
    StoreError,
    TimedOutError,
    UnreachableError,
)
from xdpdirector.model.fleet import DrainState
from xdpdirector.model.store import StoreSpec
from xdpdirector.state import maintenance as states
from xdpdirector.state.dry_run import DryRunError

OWN = BASE.director_name
PATCHES = replace(ME, reason="patches")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds takes less."""
    monkeypatch.setattr(states, "QUIET", 0.2)
    monkeypatch.setattr(director_module, "WATCH_APART", 0.05)


def alone(orders: FakeOrderStore | None = None) -> Stage:
    stage = Stage(orders=orders, has_peers=True, web=s.service("web1", "web2"))
    stage.vips.lost.add(VIP)  # somebody else moves them
    return stage


def told(stage: Stage) -> list[tuple[str, str]]:
    """Of directors that leave and come back."""
    kinds = ("fleet.drain", "fleet.drained", "fleet.enable")
    return [(event.kind, event.subject) for event in stage.director.events.since(0)[1] if event.kind in kinds]


def state(stage: Stage, name: str) -> DrainState | None:
    return stage.director.maintenance.view(name).state


@story
async def test_one_alone_leaves_and_comes_back() -> None:
    async with alone() as stage:
        stage.plane.active[WEB1] = 2
        maintenance = stage.director.maintenance
        view = await maintenance.drain(OWN, intent=PATCHES)
        assert (view.admin, view.author, view.reason, view.this) == ("drain", "operator", "patches", True)
        assert stage.director.readiness().problems == (
            "this director leaves for maintenance, as operator says: patches",
        )
        assert stage.accepting() == ["web1", "web2"]  # it forwards as before
        await until(lambda: maintenance.view(OWN).flows == 2)
        with pytest.raises(TimedOutError, match="still draining: 2 flows are left on it"):
            await maintenance.wait_drained(OWN, 0.3)

        stage.plane.active[WEB1] = 0
        done = await maintenance.wait_drained(OWN, 10)
        assert (done.state, done.flows, done.flows_at_start) == (DrainState.DRAINED, 0, 2)
        assert [each.name for each in stage.director.fleet_view().leaving] == [OWN]

        back = await maintenance.enable(OWN, intent=ME)
        assert (back.admin, back.state, back.since) == ("enabled", DrainState.ENABLED, None)
        assert stage.director.readiness().ready
        assert stage.director.fleet_view().leaving == ()
    assert told(stage) == [("fleet.drain", OWN), ("fleet.drained", OWN), ("fleet.enable", OWN)]


@story
async def test_packets_and_vips_keep_it_from_being_drained() -> None:
    async with alone() as stage:
        maintenance = stage.director.maintenance
        stage.vips.lost.clear()
        await maintenance.drain(OWN, intent=ME)
        with pytest.raises(TimedOutError, match=r"192\.0\.2\.10 still stands on it"):
            await maintenance.wait_drained(OWN, 0.5)
        stage.vips.lost.add(VIP)
        await maintenance.wait_drained(OWN, 10)
        stage.plane.packets[WEB1] = 7
        await until(lambda: state(stage, OWN) is DrainState.DRAINING)
        await maintenance.wait_drained(OWN, 10)
    assert told(stage) == [("fleet.drain", OWN), ("fleet.drained", OWN), ("fleet.drained", OWN)]


@story
async def test_it_is_still_to_leave_after_a_restart() -> None:
    orders = FakeOrderStore()
    async with alone(orders) as stage:
        await stage.director.maintenance.drain(OWN, intent=PATCHES)
    async with alone(orders) as stage:
        assert not stage.director.readiness().ready
        await stage.director.maintenance.wait_drained(OWN, 10)
        await stage.director.maintenance.enable(OWN, intent=ME)
    async with alone(orders) as stage:
        assert stage.director.readiness().ready


@story
async def test_what_cannot_be_is_refused() -> None:
    async with alone() as stage:
        maintenance = stage.director.maintenance
        with pytest.raises(NotFoundError, match=f"no director 'other' is known: there are {OWN}"):
            await maintenance.drain("other", intent=ME)
        with pytest.raises(NotFoundError):
            maintenance.view("other")
        with pytest.raises(ConflictError, match="is enabled, not draining"):
            await maintenance.wait_drained(OWN, 1)
        with pytest.raises(StaleError):
            await maintenance.drain(OWN, intent=replace(ME, expected=frozenset({"another"})))
        with pytest.raises(DryRunError) as tried:
            await maintenance.drain(OWN, intent=replace(PATCHES, dry_run=True))
        [change] = tried.value.changes
        assert (change.action, change.pointer) == ("added", f"/fleet/{OWN}")
        stage.orders.broken = StoreError("the disk is full")
        with pytest.raises(StoreError, match="the disk is full"):
            await maintenance.drain(OWN, intent=ME)
        stage.orders.broken = None
        assert stage.director.readiness().ready


@story
async def test_who_waits_is_told_that_the_daemon_stops() -> None:
    async with alone() as stage:
        stage.plane.active[WEB1] = 1
        await stage.director.maintenance.drain(OWN, intent=ME)
        waiting = asyncio.create_task(stage.director.maintenance.wait_drained(OWN, 60))
        await asyncio.sleep(0)
        stage.director.stop_waiting()
        with pytest.raises(UnreachableError, match="goes on draining"):
            await waiting


@story
async def test_another_reason_keeps_when_it_began() -> None:
    async with alone() as stage:
        maintenance = stage.director.maintenance
        first = await maintenance.drain(OWN, intent=PATCHES)
        second = await maintenance.drain(OWN, intent=replace(ME, reason="a new disk"))
        assert (second.reason, second.since) == ("a new disk", first.since)
        assert maintenance.tag(OWN) != MaintenanceController.tag(stage.director.maintenance, "other")


# In a fleet


def quiet(stage: FleetStage) -> bool:
    """Has its first revision; nobody's VIPs are its own."""
    stage.vips.lost.add(VIP)
    return is_new(stage)


def knows(count: int) -> object:
    return lambda stage: len(stage.director.fleet_view().directors) == count


@needed
@story
async def test_any_director_asks_any_other_to_leave(spec: StoreSpec, tmp_path: Path) -> None:
    async with directors(spec, tmp_path, 3, WEB_FILE) as fleet:
        one, two, three = fleet
        await agreed(fleet, quiet)
        await agreed(fleet, all_ready(3))
        two.plane.active[WEB1] = 3
        await one.director.maintenance.drain("d2", intent=PATCHES)
        await agreed([two], lambda stage: not stage.director.readiness().ready)
        assert one.director.readiness().ready
        await agreed([three], lambda stage: stage.director.maintenance.view("d2").flows == 3)
        two.plane.active[WEB1] = 1
        await agreed([three], lambda stage: stage.director.maintenance.view("d2").flows == 1)
        with pytest.raises(TimedOutError, match="1 flow is left on it"):
            await three.director.maintenance.wait_drained("d2", 0.1)
        two.plane.active[WEB1] = 0
        done = await three.director.maintenance.wait_drained("d2", 30)
        assert (done.author, done.reason, done.flows_at_start) == ("operator", "patches", 3)
        await agreed(fleet, lambda stage: ("fleet.drained", "d2") in told(stage))

        await three.director.maintenance.enable("d2", intent=ME)
        await agreed([two], lambda stage: stage.director.readiness().ready)
        await agreed(fleet, lambda stage: ("fleet.enable", "d2") in told(stage))
    for each in fleet:
        assert ("fleet.drain", "d2") in told(each)


@needed
@story
async def test_the_last_one_stays_also_when_two_are_asked_at_once(spec: StoreSpec, tmp_path: Path) -> None:
    async with directors(spec, tmp_path, 2, WEB_FILE) as fleet:
        one, two = fleet
        await agreed(fleet, quiet)
        await agreed(fleet, all_ready(2))
        found = await asyncio.gather(
            one.director.maintenance.drain("d1", intent=ME),
            two.director.maintenance.drain("d2", intent=ME),
            return_exceptions=True,
        )
        assert sorted(type(each).__name__ for each in found) == ["ConflictError", "DirectorView"], found
        await one.director.maintenance.drain("d1", force=True, intent=ME)
        await two.director.maintenance.drain("d2", force=True, intent=ME)
        await agreed(fleet, lambda stage: not stage.director.readiness().ready)


@needed
@story
async def test_it_stays_away_over_a_restart_without_etcd(tmp_path: Path) -> None:
    with Etcd(tmp_path / "etcd") as etcd:
        async with directors(etcd.spec(), tmp_path, 2, WEB_FILE) as fleet:
            await agreed(fleet, quiet)
            await agreed(fleet, all_ready(2))
            await fleet[1].director.maintenance.drain("d1", intent=PATCHES)
            await agreed(fleet[:1], lambda stage: not stage.director.readiness().ready)
        etcd.kill()
        async with director(etcd.spec(), tmp_path, "d1", WEB_FILE) as one:
            assert "leaves for maintenance" in one.director.readiness().problems[0]
            with pytest.raises(StoreError):
                await one.director.maintenance.enable("d1", intent=ME)
            etcd.start()
            await agreed([one], reaches_etcd)
            await one.director.maintenance.enable("d1", intent=ME)
            assert one.director.readiness().ready


@needed
@story
async def test_one_that_is_gone_comes_back_enabled(spec: StoreSpec, tmp_path: Path) -> None:
    """It was asked to leave and stopped; somebody enables it while it is away."""
    async with director(spec, tmp_path, "d1", WEB_FILE) as one:
        async with director(spec, tmp_path, "d2", WEB_FILE) as two:
            await agreed([one, two], quiet)
            await agreed([one, two], knows(2))  # type: ignore[arg-type]
            await one.director.maintenance.drain("d2", force=True, intent=ME)
            await agreed([two], lambda stage: not stage.director.readiness().ready)
        await agreed([one], knows(1))  # type: ignore[arg-type]
        view = one.director.maintenance.view("d2")
        assert (view.admin, view.live, view.state) == ("drain", False, None)
        with pytest.raises(TimedOutError, match="it is not heard of"):
            await one.director.maintenance.wait_drained("d2", 0.1)
        await one.director.maintenance.enable("d2", intent=ME)
        async with director(spec, tmp_path, "d2", WEB_FILE) as two:
            await agreed([two], lambda stage: stage.director.readiness().ready)


@needed
@story
async def test_an_etcd_that_was_emptied_knows_again_who_leaves(tmp_path: Path) -> None:
    with Etcd(tmp_path / "etcd") as etcd:
        async with directors(etcd.spec(), tmp_path, 2, WEB_FILE) as fleet:
            await agreed(fleet, quiet)
            await agreed(fleet, knows(2))  # type: ignore[arg-type]
            await fleet[0].director.maintenance.drain("d2", force=True, intent=ME)
            await agreed(fleet[1:], lambda stage: not stage.director.readiness().ready)
            etcd.wipe()
            await agreed(fleet, has_asked_again())
            async with director(etcd.spec(), tmp_path, "d3", WEB_FILE) as three:
                await agreed([three], lambda stage: bool(stage.director.fleet_view().leaving))
            assert not fleet[1].director.readiness().ready
    assert not any(event.kind == "fleet.enable" for event in happened(fleet[1]))
