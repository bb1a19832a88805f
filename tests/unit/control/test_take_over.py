# SPDX-License-Identifier: Apache-2.0
"""What a director that has just taken over does with connections that it does not know yet."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.support.stage import OTHER_VIP, VIP, Stage, mail, service, story, until
from xdpdirector.control import reconciler
from xdpdirector.control.take_over import PATIENCE, TakeOver
from xdpdirector.model import Address, ServiceSpec

WEB = service("web1", "web2")
ELSEWHERE = service("web3", listener=f"{OTHER_VIP}:80/tcp")
SERVICES: Mapping[str, ServiceSpec] = {"web": WEB, "elsewhere": ELSEWHERE}
ALL, NONE = frozenset(SERVICES), frozenset[str]()


def at(take_over: TakeOver, now: float, *here: Address) -> frozenset[str]:
    return take_over.forbearing(SERVICES, here.__contains__, now)


def test_a_director_alone_answers_at_once() -> None:
    take_over = TakeOver()
    take_over.forwards(0.0)

    assert at(take_over, 0.0) == NONE
    assert not take_over.goes_on


def test_after_other_maps_it_forbears_for_a_while() -> None:
    take_over = TakeOver(replaces=True)
    assert at(take_over, 1000.0, VIP, OTHER_VIP) == ALL

    take_over.forwards(1000.0)

    assert at(take_over, 1000.0 + PATIENCE - 0.1, VIP, OTHER_VIP) == ALL
    assert take_over.goes_on
    assert at(take_over, 1000.0 + PATIENCE, VIP, OTHER_VIP) == NONE
    assert not take_over.goes_on


def test_a_standby_forbears_and_for_a_while_after_a_vip_has_come() -> None:
    take_over = TakeOver(follows_vips=True)
    take_over.forwards(0.0)
    assert at(take_over, 100.0) == ALL

    assert at(take_over, 200.0, VIP) == ALL
    assert at(take_over, 200.0 + PATIENCE - 0.1, VIP) == ALL
    assert at(take_over, 200.0 + PATIENCE, VIP) == {"elsewhere"}
    assert at(take_over, 300.0) == ALL
    assert at(take_over, 301.0, VIP) == ALL


def test_all_vips_of_a_service_count() -> None:
    take_over = TakeOver(follows_vips=True)
    both = {"web": service("web1", listeners=[f"{VIP}:80/tcp", f"{OTHER_VIP}:80/tcp"])}

    def seen(now: float, *here: Address) -> frozenset[str]:
        return take_over.forbearing(both, here.__contains__, now)

    assert seen(0.0, VIP) == seen(PATIENCE, VIP) == {"web"}
    assert seen(10.0, VIP, OTHER_VIP) == {"web"}
    assert seen(10.0 + PATIENCE, VIP, OTHER_VIP) == NONE


@story
async def test_the_data_plane_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciler, "LOOKS_APART", 0.001)
    stage = Stage(
        take_over=TakeOver(follows_vips=True, patience=0.01),
        web=WEB,
        mail=mail("web3", on_unknown="schedule"),
    )
    stage.vips.lost = {VIP}

    def policies() -> tuple[str, str]:
        return stage.plane.plans["web"].on_unknown, stage.plane.plans["mail"].on_unknown

    async with stage:
        assert policies() == ("drop", "drop")
        stage.vips.lost = set()
        await until(lambda: policies() == ("reject", "schedule"))
        stage.vips.lost = {VIP}
        await until(lambda: policies() == ("drop", "drop"))
        assert stage.reconciler.drift_repaired == 0


@story
async def test_a_router_without_the_vip_has_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets what is routed through it."""
    monkeypatch.setattr(reconciler, "LOOKS_APART", 0.001)
    stage = Stage(take_over=TakeOver(follows_vips=True, patience=0.01), web=WEB)
    stage.vips.lost, stage.vips.routed = {VIP}, {VIP}

    async with stage:
        await until(lambda: stage.plane.plans["web"].on_unknown == "reject")


@story
async def test_the_program_of_an_upgrade_begins_forbearing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciler, "LOOKS_APART", 0.001)
    stage = Stage(take_over=TakeOver(replaces=True, patience=0.01), web=WEB)
    seen: list[str] = []

    await stage.reconciler.start(ready=lambda: seen.append(stage.plane.plans["web"].on_unknown))
    await until(lambda: stage.plane.plans["web"].on_unknown == "reject")
    await stage.reconciler.close()

    assert seen == ["drop"]
