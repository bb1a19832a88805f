# SPDX-License-Identifier: Apache-2.0
"""Verdicts of each VIP: a VIP that a server lacks takes the server out of that VIP alone."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

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
    until,
)
from xdpdirector.dataplane.service_plan import State
from xdpdirector.errors import CapacityError
from xdpdirector.model import Address, ServiceSpec
from xdpdirector.model.status import Operational

VIP6 = ip_address("2001:db8::10")


def at_vips(*vips: Address, port: int = 80, **fields: Any) -> ServiceSpec:
    """`web` on web1 and web2, checked, with a listener at each of these."""
    listeners = [f"{vip}:{port}/tcp" if vip.version == 4 else f"[{vip}]:{port}/tcp" for vip in vips]
    return s.service("web1", "web2", **{"listeners": listeners, "check": s.CHECK, **fields})


async def all_up(stage: Stage) -> None:
    for key in (WEB1, WEB2):
        stage.checks.say(key, Operational.UP)
    await until(lambda: stage.accepting() == ["web1", "web2"] and not any(out_of(stage).values()))


def out_of(stage: Stage) -> dict[str, frozenset[Address]]:
    return {member.name: member.out for member in stage.plane.plans["web"].members}


FIRST = [("backend.up", "up")]


def told(stage: Stage) -> list[tuple[str, str]]:
    return [
        (event.kind, event.text) for event in stage.director.events.since(0)[1] if "web1" in event.subject
    ]


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(at_vips(VIP, OTHER_VIP), id="behind the others"),
        pytest.param(at_vips(OTHER_VIP, VIP), id="before the others"),
        pytest.param(at_vips(VIP, OTHER_VIP, VIP6), id="of two families"),
        pytest.param(at_vips(VIP, OTHER_VIP, check={**s.CHECK, "interval": "9s"}), id="and another check"),
        pytest.param(at_vips(VIP, OTHER_VIP, scheduler="mh"), id="and another scheduler"),
    ],
)
@story
async def test_a_listener_that_is_added_changes_nothing_that_is_known_of_the_others(
    changed: ServiceSpec,
) -> None:
    async with Stage(web=at_vips(VIP)) as stage:
        await all_up(stage)

        await stage.director.put_service("web", changed, intent=ME)

        new = frozenset(changed.vips) - {VIP}
        assert stage.accepting() == ["web1", "web2"]
        assert out_of(stage) == {"web1": new, "web2": new}
        shown = stage.director.backend(*WEB1)
        assert (shown.operational, shown.serving) == (Operational.PARTIAL, True)
        assert told(stage) == FIRST
        await all_up(stage)
        assert told(stage) == FIRST


@story
async def test_a_vip_that_a_server_lacks_takes_it_out_for_that_vip_alone() -> None:
    async with Stage(web=at_vips(VIP, OTHER_VIP)) as stage:
        await all_up(stage)

        stage.checks.say(WEB1, Operational.DOWN, "no answer", at=OTHER_VIP)
        await until(lambda: any(out_of(stage).values()))

        assert out_of(stage) == {"web1": {OTHER_VIP}, "web2": frozenset()}
        assert stage.accepting() == ["web1", "web2"]
        assert stage.director.service("web").operational is Operational.UP
        stage.checks.say(WEB1, Operational.DOWN, "gone", at=VIP)
        await until(lambda: stage.member(WEB1).state is State.DOWN)
        stage.checks.say(WEB1, Operational.UP)
        await until(lambda: stage.accepting() == ["web1", "web2"])
        _, partial, *later = told(stage)
        assert partial == ("backend.partial", f"partial: {OTHER_VIP}: no answer")
        assert [kind for kind, _ in later] == ["backend.down", "backend.up"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({"check": None}, {}, id="a check where there was none"),
        pytest.param({}, {"check": {**s.CHECK, "via": "address"}}, id="the servers' own addresses"),
        pytest.param({"check": {**s.CHECK, "via": "address"}}, {}, id="the VIPs"),
        pytest.param({}, {"check": {**s.CHECK, "port": 81}}, id="another port"),
        pytest.param({}, {"check": {"type": "http", "port": 80}}, id="another type"),
    ],
)
@story
async def test_another_check_takes_nobody_out_before_it_has_answered(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    async with Stage(web=at_vips(VIP, OTHER_VIP, **before)) as stage:
        if stage.checks.running:
            await all_up(stage)

        await stage.director.put_service("web", at_vips(VIP, OTHER_VIP, **after), intent=ME)

        assert stage.accepting() == ["web1", "web2"]
        assert not any(out_of(stage).values())


@story
async def test_another_machine_has_to_show_that_it_is_well() -> None:
    async with Stage(web=at_vips(VIP)) as stage:
        await all_up(stage)

        await stage.director.patch_backend("web", "web1", {"address": str(HOSTS["web4"])}, intent=ME)

        assert stage.director.backend(*WEB1).operational is Operational.UNKNOWN
        assert stage.accepting() == ["web2"]


@story
async def test_a_change_that_fails_leaves_each_vips_verdict() -> None:
    async with Stage(web=at_vips(VIP, OTHER_VIP)) as stage:
        await all_up(stage)
        stage.checks.say(WEB1, Operational.DOWN, "no answer", at=OTHER_VIP)
        await until(lambda: any(out_of(stage).values()))
        before = stage.shown()
        stage.history.full = CapacityError("the disk is full")

        with pytest.raises(CapacityError):
            await stage.director.put_service("web", at_vips(VIP), intent=ME)

        assert stage.shown() == before
        assert stage.director.backend(*WEB1).operational is Operational.PARTIAL


@story
async def test_a_restart_goes_on_from_what_the_plane_holds_of_each_vip() -> None:
    plane = FakePlane({WEB1: State.SERVING, WEB2: State.SERVING})
    plane.known_vips = {WEB1: {VIP: True, OTHER_VIP: False}, WEB2: {VIP: True, OTHER_VIP: True}}

    async with Stage(plane, web=at_vips(VIP, OTHER_VIP, VIP6)) as stage:
        assert stage.accepting() == ["web1", "web2"]
        assert out_of(stage) == {"web1": {OTHER_VIP, VIP6}, "web2": {VIP6}}
        reasons = {each.vip: each.operational for each in stage.director.backend(*WEB1).vips}
        assert reasons == {VIP: Operational.UP, OTHER_VIP: Operational.DOWN, VIP6: Operational.UNKNOWN}


@story
async def test_a_vip_that_comes_back_is_no_return_after_which_to_start_slowly() -> None:
    async with Stage(web=at_vips(VIP, OTHER_VIP, slow_start="60s")) as stage:
        await all_up(stage)
        stage.checks.say(WEB1, Operational.DOWN, "no answer", at=OTHER_VIP)
        await until(lambda: any(out_of(stage).values()))

        await all_up(stage)

        assert stage.director.backend(*WEB1).effective_weight == 1
