# SPDX-License-Identifier: Apache-2.0
"""Several directors, one deny list in a real etcd."""

from __future__ import annotations

import asyncio
import secrets
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.etcd import DEADLINE, Etcd, needed
from tests.support.fleet import (
    WEB_FILE,
    FleetStage,
    agreed,
    director,
    directors,
    has_asked_again,
    reaches_etcd,
)
from tests.support.stage import story
from xdpdirector.errors import ConflictError, NotFoundError, StaleError, StoreError
from xdpdirector.model import Configuration
from xdpdirector.model.guard import DenyEntry, GuardSpec, Prefix, parse_prefix
from xdpdirector.model.store import StoreSpec
from xdpdirector.state.change_request import Intent
from xdpdirector.state.denylist import Denial
from xdpdirector.storage.etcd.gateway import Gateway, after_all
from xdpdirector.storage.etcd.shared_table import PARTS

pytestmark = needed
NET, HOST, NET6 = (parse_prefix(text) for text in ("203.0.113.0/24", "198.51.100.9", "2001:db8:7::/48"))
ALICE = Intent("alice", "they flood")


def entry(prefix: Prefix, reason: str = "") -> DenyEntry:
    return DenyEntry(prefix=prefix, reason=reason)


def file_denying(*prefixes: Prefix) -> Configuration:
    return WEB_FILE.model_copy(update={"guard": GuardSpec(deny=tuple(entry(each) for each in prefixes))})


def is_ready(stage: FleetStage) -> bool:
    """Whether the fleet's list is known here."""
    return stage.director.guard.version > 0


async def applied(stage: FleetStage) -> tuple[list[str], list[str]]:
    """Those that have what it has, and those that have not said so."""
    assert stage.director.fleet
    return await stage.director.fleet.applied()


def hosts(count: int) -> list[Prefix]:
    return [parse_prefix(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}") for number in range(count)]


@story
async def test_what_one_denies_all_deny(spec: StoreSpec, tmp_path: Path) -> None:
    async with directors(spec, tmp_path, 3, WEB_FILE) as fleet:
        await agreed(fleet, is_ready)
        await fleet[0].director.guard.add(entry(NET, "floods"), intent=ALICE)
        await fleet[1].director.guard.add(entry(NET6), intent=ALICE)
        await agreed(fleet, lambda one: one.plane.denials == {NET, NET6})
        for each in fleet:
            view = each.director.guard.denial(NET)
            assert (view.reason, view.author) == ("floods", "alice")
            assert each.director.guard.denied() == [NET, NET6]
        assert len({each.director.guard.tag() for each in fleet}) == 1
        async with asyncio.timeout(DEADLINE):  # each says so within a second, on a quiet machine
            while await applied(fleet[0]) != (["d1", "d2", "d3"], []):
                pass

        await fleet[2].director.guard.remove(NET, intent=ALICE)
        await agreed(fleet, lambda one: one.plane.denials == {NET6})
        with pytest.raises(NotFoundError):
            await fleet[0].director.guard.remove(NET, intent=ALICE)
        kinds = [(each.kind, each.subject) for each in fleet[1].director.events.since(0)[1]]
        assert ("guard.denied", str(NET)) in kinds
        assert ("guard.allowed", str(NET)) in kinds


@story
async def test_racing_writers_lose_no_denial(spec: StoreSpec, tmp_path: Path) -> None:
    async with directors(spec, tmp_path, 2, WEB_FILE) as fleet:
        await agreed(fleet, is_ready)
        many = hosts(60)
        await asyncio.gather(
            *(
                fleet[number % 2].director.guard.add(entry(each), intent=ALICE)
                for number, each in enumerate(many)
            )
        )
        await agreed(fleet, lambda one: one.plane.denials == set(many))
        outcomes = await asyncio.gather(
            *(each.director.guard.add(entry(NET), intent=ALICE) for each in fleet), return_exceptions=True
        )
        assert sum(isinstance(each, ConflictError) for each in outcomes) == 1
        await agreed(fleet, lambda one: len(one.plane.denials) == 61)
        assert fleet[0].director.guard.denied() == fleet[1].director.guard.denied()


@story
async def test_an_etag_of_one_director_is_good_at_the_other(spec: StoreSpec, tmp_path: Path) -> None:
    async with directors(spec, tmp_path, 2, WEB_FILE) as fleet:
        one, two = (each.director.guard for each in fleet)
        await agreed(fleet, is_ready)
        seen = frozenset({one.tag()})
        await two.replace([entry(HOST)], intent=Intent("bob", expected=seen))
        with pytest.raises(StaleError):
            await one.replace([entry(NET)], intent=Intent("ann", expected=seen))
        await agreed(fleet, lambda stage: stage.plane.denials == {HOST})


@story
async def test_a_list_larger_than_a_request_is_replaced_at_once(
    spec: StoreSpec, etcd: Etcd, tmp_path: Path
) -> None:
    async with directors(spec, tmp_path, 2, WEB_FILE) as fleet:
        await agreed(fleet, is_ready)
        for each in fleet:
            each.plane.room = 16_000
        many = [entry(each, secrets.token_hex(100)) for each in hosts(16_000)]
        await fleet[0].director.guard.replace(many, intent=ALICE)
        await agreed(fleet, lambda one: len(one.plane.denials) == 16_000)
        assert fleet[1].director.guard.denied() == fleet[0].director.guard.denied()
        await fleet[1].director.guard.remove(many[7].prefix, intent=ALICE)
        await agreed(fleet, lambda one: len(one.plane.denials) == 15_999)

    parts = Gateway(spec).range(f"{spec.prefix}/denied/", after_all(f"{spec.prefix}/denied/"))
    assert len(parts) == PARTS
    said = etcd.members[0].ask("/v3/lease/leases", {})
    for lease in said.get("leases", []):  # type: ignore[attr-defined]
        kept = etcd.members[0].ask("/v3/lease/timetolive", {"ID": lease["ID"], "keys": True})
        assert not kept.get("keys"), kept  # else they would go with the lease


@story
async def test_without_etcd_who_is_denied_stays_denied_and_changes_are_refused(tmp_path: Path) -> None:
    with Etcd(tmp_path / "etcd") as etcd:
        async with director(etcd.spec(), tmp_path, "d", WEB_FILE) as stage:
            await agreed([stage], is_ready)
            await stage.director.guard.add(entry(NET, "floods"), intent=ALICE)
            etcd.kill()
            with pytest.raises(StoreError, match="etcd cannot be asked"):
                await stage.director.guard.add(entry(HOST), intent=ALICE)
            assert stage.plane.denials == {NET}
        async with director(etcd.spec(), tmp_path, "d", WEB_FILE) as stage:  # from what it saw last
            assert stage.plane.denials == {NET}
            assert stage.director.guard.denial(NET).reason == "floods"
            etcd.start()
            await agreed([stage], reaches_etcd)
            await stage.director.guard.add(entry(HOST), intent=ALICE)
            assert stage.plane.denials == {NET, HOST}


@story
async def test_an_etcd_restored_from_a_backup_gets_the_list_back(tmp_path: Path) -> None:
    with Etcd(tmp_path / "etcd") as etcd:
        async with directors(etcd.spec(), tmp_path, 2, WEB_FILE) as fleet:
            await agreed(fleet, is_ready)
            await fleet[0].director.guard.add(entry(NET), intent=ALICE)
            await agreed(fleet, lambda one: one.plane.denials == {NET})
            etcd.back_up("backup")
            await agreed(fleet, has_asked_again())
            await fleet[0].director.guard.replace([entry(HOST), entry(NET6)], intent=ALICE)
            await agreed(fleet, lambda one: one.plane.denials == {HOST, NET6})
            etcd.restore("backup")
            await agreed(fleet, has_asked_again())
            assert all(each.plane.denials == {HOST, NET6} for each in fleet)
            await fleet[1].director.guard.add(entry(NET), intent=ALICE)
            await agreed(fleet, lambda one: one.plane.denials == {HOST, NET6, NET})
        async with director(etcd.spec(), tmp_path, "new", WEB_FILE) as stage:
            await agreed([stage], lambda one: one.plane.denials == {HOST, NET6, NET})


@story
async def test_the_first_directors_list_begins_the_fleets(spec: StoreSpec, tmp_path: Path) -> None:
    before = {NET: Denial("since long", "ann", datetime.now(UTC))}

    async with director(spec, tmp_path, "one", file_denying(HOST), before) as one:
        await agreed([one], lambda each: each.director.guard.version > 0)
        assert one.plane.denials == {NET, HOST}
        async with director(spec, tmp_path, "two", WEB_FILE) as two:
            await agreed([two], lambda each: each.plane.denials == {NET, HOST})
            assert two.director.guard.denial(NET).author == "ann"


@story
async def test_of_the_file_of_one_who_joins_only_changes_count(spec: StoreSpec, tmp_path: Path) -> None:
    async with director(spec, tmp_path, "one", file_denying(NET)) as one:
        await agreed([one], is_ready)
        async with director(spec, tmp_path, "two", file_denying(HOST, NET)) as two:
            await agreed([two], lambda each: each.plane.denials == {NET})
            await two.director.guard.take_in(file_denying(HOST, NET6).guard)
            await agreed([one, two], lambda each: each.plane.denials == {HOST, NET6})
            assert two.director.guard.warning == ""
        async with director(spec, tmp_path, "two", file_denying(HOST)) as two:  # changed while it was away
            await agreed([one, two], lambda each: each.plane.denials == {HOST})


@story
async def test_a_director_without_room_for_the_list_is_not_ready(spec: StoreSpec, tmp_path: Path) -> None:
    async with directors(spec, tmp_path, 2, WEB_FILE) as fleet:
        one, two = fleet
        await agreed(fleet, is_ready)
        two.plane.room = 2
        await one.director.guard.replace([entry(each) for each in (NET, HOST, NET6)], intent=ALICE)
        await agreed([two], lambda each: not each.director.readiness().ready)
        assert any("deny list" in text for text in two.director.readiness().problems)
        _, pending = await applied(one)
        assert pending == ["d2"]
        await one.director.guard.remove(HOST, intent=ALICE)
        await agreed([two], lambda each: each.director.readiness().ready)
        assert two.plane.denials == {NET, NET6}
