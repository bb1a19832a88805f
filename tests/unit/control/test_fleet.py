# SPDX-License-Identifier: Apache-2.0
"""Several directors, one desired state in a real etcd."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import tests.support.stage as s
from tests.support.etcd import Etcd, needed
from tests.support.fleet import (
    WEB_FILE,
    FleetStage,
    agreed,
    director,
    directors,
    happened,
    has_merged,
    heavier,
    is_new,
    weight,
)
from tests.support.stage import (
    ME,
    VIP,
    WEB1,
    configuration,
    story,
)
from xdpdirector.errors import ConflictError, StaleError, StoreError
from xdpdirector.model import AdminState
from xdpdirector.model.status import Operational
from xdpdirector.model.store import StoreSpec
from xdpdirector.state.admin_change import AdminChange
from xdpdirector.state.change_request import Intent

pytestmark = needed


def left_at(stage: FleetStage, name: str) -> dict[str, int]:
    """How many connections draining backends have at that director, as this one knows."""
    seen = {each.name: each.drains for each in stage.director.fleet_view().directors}
    return seen.get(name, {})


def has_asked(stage: FleetStage) -> object:
    """Whether it has asked once who else is there."""
    return stage.director.fleet and stage.director.fleet._reports


@story
async def test_a_change_through_one_is_in_the_data_plane_of_all(spec: StoreSpec, tmp_path: Path) -> None:
    async with directors(spec, tmp_path, 5, WEB_FILE) as fleet:
        for number, each in enumerate(fleet):
            await each.director.patch_backend(*WEB1, {"weight": 10 + number}, intent=ME)
            await agreed(fleet, lambda one, number=number: one.member(WEB1).weight == 10 + number)
        await agreed(fleet, lambda one: one.director.revision == 6)
        assert [each.director.tag() for each in fleet] == [fleet[0].director.tag()] * 5


@story
async def test_racing_writers_on_two_directors_lose_no_update(spec: StoreSpec, tmp_path: Path) -> None:
    """Each change is made of the weight that it finds, under If-Match."""

    async def write(stage: FleetStage) -> None:
        left = 10
        while left:
            tag = stage.director.tag(*WEB1)
            try:
                await heavier(stage, Intent("writer", expected=frozenset({tag})))
                left -= 1
            except StaleError:
                await asyncio.sleep(0)

    async with directors(spec, tmp_path, 2, WEB_FILE) as fleet:
        await asyncio.gather(*(write(fleet[number % 2]) for number in range(20)))
        await agreed(fleet, lambda one: one.member(WEB1).weight == 201)
        await agreed(fleet, lambda one: one.director.revision == 201)


@story
async def test_writers_without_precondition_are_made_one_after_the_other(
    spec: StoreSpec, tmp_path: Path
) -> None:
    async with directors(spec, tmp_path, 2, WEB_FILE) as fleet:
        specs = {
            f"s{number}": s.service("web3", listener=f"{VIP}:{1000 + number}/tcp") for number in range(40)
        }
        await asyncio.gather(
            *(
                fleet[number % 2].director.create_service(name, each, intent=ME)
                for number, (name, each) in enumerate(specs.items())
            )
        )
        await agreed(fleet, lambda one: one.wanted().keys() == {"web", *specs})


@story
async def test_one_name_is_taken_once(spec: StoreSpec, tmp_path: Path) -> None:
    async with directors(spec, tmp_path, 2, WEB_FILE) as fleet:
        made = s.service("web3", listener="192.0.2.10:81/tcp")
        outcomes = await asyncio.gather(
            *(each.director.create_service("new", made, intent=ME) for each in fleet),
            return_exceptions=True,
        )
        assert sum(isinstance(each, ConflictError) for each in outcomes) == 1
        assert sum(isinstance(each, Exception) for each in outcomes) == 1


@story
async def test_one_who_joins_takes_the_fleets_services_and_not_its_files(
    spec: StoreSpec, tmp_path: Path
) -> None:
    async with director(spec, tmp_path, "first", WEB_FILE) as first:
        await agreed([first], is_new)
        await heavier(first)
        other = configuration(
            web=s.service("web1", "web2"), mail=s.service("web3", listener="192.0.2.10:25/tcp")
        )
        async with director(spec, tmp_path, "second", other) as second:
            await agreed([second], lambda one: weight(one) == 2)
            assert second.wanted().keys() == {"web"}
            # What changes in its file later is merged, and is the fleet's.
            later = configuration(**other.services, ftp=s.service("web4", listener="192.0.2.10:21/tcp"))
            await agreed([second], lambda one: one.store.file() is not None)
            await second.director.configuration.reload(later, "later")
            await agreed([first, second], lambda one: one.wanted().keys() == {"web", "ftp"})
            assert weight(first) == 2


@story
async def test_revisions_and_their_authors_are_the_same_everywhere(spec: StoreSpec, tmp_path: Path) -> None:
    async with directors(spec, tmp_path, 2, WEB_FILE) as (one, two):
        await heavier(one, Intent("ann", "more"))
        await heavier(two, Intent("bob", "still more"))
        await agreed([one, two], lambda each: each.director.revision == 3)
        seen = [each.director.configuration.summaries(before=None, limit=10) for each in (one, two)]
        assert seen[0] == seen[1]
        assert [each.author for each in seen[0]] == ["bob", "ann", "file"]
        await one.director.configuration.roll_back(1, intent=ME)
        await agreed([one, two], lambda each: weight(each) == 1)


@story
async def test_a_drain_is_the_fleets_and_its_deadline_fires_once(spec: StoreSpec, tmp_path: Path) -> None:
    async with directors(spec, tmp_path, 3, WEB_FILE) as fleet:
        for each in fleet:
            each.plane.active[WEB1] = 5
        change = AdminChange(AdminState.DRAIN, reason="patches", deadline=6.0, on_deadline="cut")
        await fleet[0].director.drains.set_admin(*WEB1, change, intent=ME)
        await agreed(fleet, lambda one: one.director.backend(*WEB1).drain is not None)
        assert {each.director.backend(*WEB1).drain.reason for each in fleet} == {"patches"}  # type: ignore[union-attr]
        await agreed(fleet, lambda one: one.wanted()["web"].backends["web1"].admin is AdminState.MAINTENANCE)
        await asyncio.gather(*(each.director.drains.cut_overdue() for each in fleet))
        await agreed(fleet, lambda one: one.director.revision == 3)


@story
async def test_a_backend_is_drained_when_all_directors_say_so(spec: StoreSpec, tmp_path: Path) -> None:
    def operational(stage: FleetStage) -> Operational:
        return stage.director.backend(*WEB1).operational

    def elsewhere(stage: FleetStage) -> dict[str, int]:
        seen = stage.director.backend(*WEB1).drain
        return seen.elsewhere if seen else {}

    async with directors(spec, tmp_path, 2, WEB_FILE) as (one, two):
        await agreed([one, two], lambda each: len(each.director.fleet_view().directors) == 2)
        two.plane.active[WEB1] = 3
        await one.director.drains.set_admin(*WEB1, AdminChange(AdminState.DRAIN), intent=ME)
        await agreed([one], lambda each: elsewhere(each) == {"d2": 3})
        assert operational(one) is not Operational.DRAINED
        two.plane.active[WEB1] = 0
        await agreed([one, two], lambda each: operational(each) is Operational.DRAINED)
        assert elsewhere(one) == {}


@story
async def test_a_backend_that_left_the_file_goes_when_no_director_has_its_connections(
    spec: StoreSpec, tmp_path: Path
) -> None:
    async with directors(spec, tmp_path, 2, WEB_FILE) as (one, two):
        await agreed([one, two], lambda each: len(each.director.fleet_view().directors) == 2)
        await agreed([one, two], has_merged)
        for each in (one, two):
            each.plane.active[WEB1] = 3
        await one.director.configuration.reload(configuration(web=s.service("web2")), "without web1")
        await agreed([one, two], lambda each: weight(each) and each.director.backend(*WEB1).drain)
        one.plane.active[WEB1] = 0
        await agreed([two], lambda each: left_at(each, "d1") == {"web/web1": 0})
        await one.director.drains.remove_drained()
        assert weight(one) == 1
        two.plane.active[WEB1] = 0
        await agreed([one, two], lambda each: weight(each) is None)


@story
async def test_a_director_says_who_else_is_there(spec: StoreSpec, tmp_path: Path) -> None:
    async with director(spec, tmp_path, "one", WEB_FILE) as one:
        await agreed([one], has_asked)
        async with director(spec, tmp_path, "two", WEB_FILE) as two:
            await agreed([one, two], lambda each: len(each.director.fleet_view().directors) == 2)
            await heavier(two)
            await agreed(
                [one],
                lambda each: {seen.revision for seen in each.director.fleet_view().directors} == {2},
            )
            view = one.director.fleet_view()
            assert [(each.name, each.ready) for each in view.directors] == [("one", True), ("two", True)]
            assert view.name == "one"
            assert view.store.reached
        await agreed([one], lambda each: len(each.director.fleet_view().directors) == 1)
    kinds = {(event.kind, event.subject) for event in happened(one)}
    assert {("fleet.joined", "two"), ("fleet.left", "two")} <= kinds


@story
async def test_a_director_without_room_says_so_and_refuses_changes(spec: StoreSpec, tmp_path: Path) -> None:
    async with directors(spec, tmp_path, 2, WEB_FILE) as (one, two):
        two.plane.room = 2
        more = s.service("web3", "web4", listener=f"{VIP}:81/tcp")
        await one.director.create_service("more", more, intent=ME)
        await agreed([two], lambda each: not each.director.readiness().ready)
        [problem] = two.director.readiness().problems
        assert problem.startswith("revision 2 of the fleet is not applied here: ")
        assert two.wanted().keys() == {"web"}
        with pytest.raises(StoreError, match="revision 2 of the fleet is not applied here"):
            await heavier(two)
        two.plane.room = 100
        await agreed([one, two], lambda each: each.director.readiness().ready and "more" in each.wanted())
        await heavier(two)


@story
async def test_compaction_beneath_it_loses_nothing(spec: StoreSpec, etcd: Etcd, tmp_path: Path) -> None:
    async with directors(spec, tmp_path, 2, WEB_FILE) as fleet:
        for _ in range(3):
            await heavier(fleet[0])
            header = etcd.members[0].ask("/v3/kv/range", {"key": "eA=="})["header"]
            assert isinstance(header, dict)
            etcd.members[0].ask("/v3/kv/compaction", {"revision": header["revision"], "physical": True})
        await agreed(fleet, lambda one: weight(one) == 4)
