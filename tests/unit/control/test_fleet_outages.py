# SPDX-License-Identifier: Apache-2.0
"""A fleet while etcd is away, has lost members, or was restored from a backup."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.etcd import Etcd, needed
from tests.support.fleet import (
    WEB_FILE,
    FleetStage,
    agreed,
    director,
    directors,
    happened,
    has_asked_again,
    heavier,
    is_new,
    reaches_etcd,
    weight,
)
from tests.support.stage import ME, WEB1, story
from xdpdirector.errors import StoreError

pytestmark = needed


@story
async def test_without_etcd_it_serves_what_it_knows_and_refuses_changes(tmp_path: Path) -> None:
    with Etcd(tmp_path / "etcd") as etcd:
        async with directors(etcd.spec(), tmp_path, 2, WEB_FILE) as fleet:
            await heavier(fleet[0])
            await agreed(fleet, lambda one: weight(one) == 2)
            etcd.kill()
            await agreed(fleet, lambda one: not reaches_etcd(one))
            for each in fleet:
                with pytest.raises(StoreError, match="etcd cannot be asked: 127"):
                    await heavier(each)
                assert each.member(WEB1).weight == 2
                assert each.director.readiness().ready
                assert any("ago: etcd cannot be asked" in text for text in each.director.readiness().warnings)
            etcd.start()
            await agreed(fleet, reaches_etcd)
            await heavier(fleet[1])
            await agreed(fleet, lambda one: weight(one) == 3)
    kinds = {event.kind for event in happened(fleet[0])}
    assert {"fleet.unreachable", "fleet.reachable"} <= kinds


@story
async def test_it_starts_without_etcd_from_what_it_saw_last(tmp_path: Path) -> None:
    with Etcd(tmp_path / "etcd") as etcd:
        async with director(etcd.spec(), tmp_path, "d", WEB_FILE) as stage:
            await agreed([stage], is_new)
            await heavier(stage)
        etcd.kill()
        async with director(etcd.spec(), tmp_path, "d", WEB_FILE) as stage:
            assert weight(stage) == 2
            assert stage.director.revision == 2
            etcd.start()
            await agreed([stage], reaches_etcd)
            await heavier(stage)
            assert stage.director.revision == 3


@pytest.mark.slow
@story
async def test_an_etcd_restored_from_a_backup_gets_back_what_directors_know(tmp_path: Path) -> None:
    with Etcd(tmp_path / "etcd") as etcd:
        async with directors(etcd.spec(), tmp_path, 2, WEB_FILE) as fleet:
            etcd.back_up("backup")
            await agreed(fleet, has_asked_again())
            for _ in range(5):
                await heavier(fleet[0])
            await agreed(fleet, lambda one: weight(one) == 6)
            etcd.restore("backup")
            await agreed(fleet, has_asked_again())
            await heavier(fleet[1])
            await agreed(fleet, lambda one: weight(one) == 7 and one.director.revision == 7)
            etcd.wipe()
            await agreed(fleet, has_asked_again())
            await heavier(fleet[1])
            await agreed(fleet, lambda one: weight(one) == 8 and one.director.revision == 8)
            async with director(etcd.spec(), tmp_path, "third", WEB_FILE) as third:
                await agreed([third], lambda one: weight(one) == 8)
                assert third.director.configuration.revision(3).author == "operator"


@pytest.mark.slow
@story
async def test_of_two_histories_etcds_counts_and_the_other_is_kept(tmp_path: Path) -> None:
    """A director that was away while etcd went back, and others wrote on from there."""
    with Etcd(tmp_path / "etcd") as etcd:
        async with directors(etcd.spec(), tmp_path, 2, WEB_FILE):
            pass  # each has the first revision
        etcd.back_up("backup")
        async with director(etcd.spec(), tmp_path, "d1", WEB_FILE) as one:
            await agreed([one], reaches_etcd)
            await heavier(one)
        etcd.restore("backup")
        async with director(etcd.spec(), tmp_path, "d2", WEB_FILE) as two:
            await agreed([two], reaches_etcd)
            await two.director.patch_backend(*WEB1, {"weight": 70}, intent=ME)
            async with director(etcd.spec(), tmp_path, "d1", WEB_FILE) as one:
                assert weight(one) == 2
                await agreed([one, two], lambda each: weight(each) == 70)
                assert any("another history" in text for text in one.director.readiness().warnings)
                assert list((tmp_path / "d1").glob("fleet.db.former-*"))


@pytest.mark.slow
@story
async def test_members_that_go_one_by_one(tmp_path: Path) -> None:
    """One of three: changes go on. Two: they are refused. Then all is well again."""

    async def made(stage: FleetStage, wanted: int) -> None:
        """While a leader is elected a change may be refused, or be made without an answer."""
        async with asyncio.timeout(60):
            while weight(stage) != wanted:
                try:
                    await stage.director.patch_backend(*WEB1, {"weight": wanted}, intent=ME)
                except StoreError:
                    await asyncio.sleep(0.1)

    with Etcd(tmp_path / "etcd", 3) as etcd:
        async with directors(etcd.spec(), tmp_path, 2, WEB_FILE) as fleet:
            for member in etcd.members:
                before = weight(fleet[0])
                assert before
                member.kill()
                await made(fleet[0], before + 1)
                await agreed(fleet, lambda one, wanted=before + 1: one.member(WEB1).weight == wanted)
                etcd.start_member(member)
                etcd.await_writable()
            before = weight(fleet[0])
            etcd.members[0].kill()
            etcd.members[1].kill()
            await agreed(fleet, lambda one: not reaches_etcd(one))
            with pytest.raises(StoreError):
                await heavier(fleet[0])
            assert fleet[0].member(WEB1).weight == before
            etcd.start()
            await made(fleet[1], (before or 0) + 1)
            await agreed(fleet, lambda one: one.member(WEB1).weight == (before or 0) + 1)


@pytest.mark.slow
@story
async def test_a_member_that_hangs_keeps_nobody(tmp_path: Path) -> None:
    with Etcd(tmp_path / "etcd", 1) as etcd:
        async with director(etcd.spec(), tmp_path, "d", WEB_FILE) as stage:
            await agreed([stage], is_new)
            etcd.members[0].hold()
            await agreed([stage], lambda one: not reaches_etcd(one))
            assert "no answer within 2 s" in stage.store.known().why
            with pytest.raises(StoreError, match="no answer within 2 s"):
                await heavier(stage)
            etcd.members[0].go_on()
            await agreed([stage], reaches_etcd)
            await heavier(stage)
