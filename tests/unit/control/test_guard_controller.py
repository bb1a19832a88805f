# SPDX-License-Identifier: Apache-2.0
"""The guard's promises: in the plane and kept, or neither; so again after a restart, a drift, or a full disk."""

from __future__ import annotations

import pytest

from tests.support.fake_denylist_store import FakeDenyListStore
from tests.support.fake_plane import FakePlane
from tests.support.stage import Stage, service, story
from xdpdirector.control.events import Events
from xdpdirector.control.guard_controller import GuardController
from xdpdirector.errors import CapacityError, ConflictError, NotFoundError, StaleError, StoreError
from xdpdirector.model import Sizes
from xdpdirector.model.guard import (
    DenyEntry,
    GuardSpec,
    Prefix,
    ServiceLimit,
    parse_prefix,
)
from xdpdirector.model.status import Refused
from xdpdirector.state.change_request import Intent
from xdpdirector.state.denylist import (
    StoredDenyList,
)

NET, HOST, NET6, ALL = (
    parse_prefix(text) for text in ("203.0.113.0/24", "203.0.113.9", "2001:db8:7::/48", "0.0.0.0/0")
)
BACKENDS = parse_prefix("192.0.2.0/24")
ALICE = Intent("alice", "they flood")


def entry(prefix: Prefix, reason: str = "") -> DenyEntry:
    return DenyEntry(prefix=prefix, reason=reason)


def file_of(*prefixes: Prefix) -> GuardSpec:
    return GuardSpec(deny=tuple(entry(prefix) for prefix in prefixes))


def guarding(plane: FakePlane, store: FakeDenyListStore) -> GuardController:
    return GuardController(plane, store, Events(), dict, Sizes())


def kinds(guard: GuardController) -> list[tuple[str, str]]:
    _, events = guard._events.since(0)
    return [(event.kind, event.subject) for event in events]


@story
async def test_what_is_denied_is_in_the_plane_and_kept() -> None:
    async with Stage() as stage:
        guard = stage.director.guard

        view = await guard.add(entry(NET, "floods"), intent=ALICE)

        assert (view.prefix, view.reason, view.author) == (NET, "floods", "alice")
        assert stage.plane.denials == {NET}
        assert set(stage.denials.kept.denials) == {NET}
        with pytest.raises(ConflictError):
            await guard.add(entry(NET), intent=ALICE)

        await guard.remove(NET, intent=ALICE)
        assert stage.plane.denials == set(stage.denials.kept.denials) == frozenset()
        with pytest.raises(NotFoundError):
            guard.denial(NET)


@story
@pytest.mark.parametrize("where", ["plane", "store"])
async def test_what_fails_changes_nothing(where: str) -> None:
    async with Stage() as stage:
        await stage.director.guard.add(entry(NET), intent=ALICE)
        if where == "plane":
            stage.plane.room = 1
        else:
            stage.denials.broken = StoreError("the disk is full")

        with pytest.raises(CapacityError if where == "plane" else StoreError):
            await stage.director.guard.add(entry(NET6), intent=ALICE)

        assert stage.plane.denials == set(stage.denials.kept.denials) == {NET}
        assert stage.director.guard.denied() == [NET]
        assert stage.director.guard.trouble == ""


@story
async def test_the_list_is_replaced_whole() -> None:
    async with Stage() as stage:
        guard = stage.director.guard
        await guard.add(entry(NET), intent=ALICE)

        await guard.replace([entry(HOST), entry(NET6)], intent=ALICE)

        assert stage.plane.denials == {HOST, NET6}
        assert kinds(guard)[-3:] == [
            ("guard.denied", str(HOST)), ("guard.denied", str(NET6)), ("guard.allowed", str(NET)),
        ]  # fmt: skip


@story
async def test_many_changes_are_one_event() -> None:
    async with Stage() as stage:
        many = [entry(parse_prefix(f"10.0.0.{host}")) for host in range(100)]

        await stage.director.guard.replace(many, intent=ALICE)

        assert kinds(stage.director.guard)[-1:] == [("guard.changed", "guard")]
        assert len(kinds(stage.director.guard)) < 10


@story
async def test_who_has_seen_something_else_changes_nothing() -> None:
    async with Stage() as stage:
        guard = stage.director.guard
        before = guard.tag()
        await guard.add(entry(NET, "floods"), intent=ALICE)
        stale, known = (Intent("bob", expected=frozenset({tag})) for tag in (before, guard.tag(NET)))

        with pytest.raises(StaleError):
            await guard.replace([], intent=stale)
        with pytest.raises(StaleError):
            await guard.add(entry(NET6), intent=stale)
        with pytest.raises(StaleError):
            await guard.remove(NET, intent=stale)

        await guard.put(entry(NET, "more"), intent=known)
        assert guard.denial(NET).reason == "more"
        assert guard.tag() != before


@story
async def test_a_restart_goes_on_with_what_was_changed_at_run_time() -> None:
    plane, store = FakePlane(), FakeDenyListStore()
    first = guarding(plane, store)
    first.start(file_of(NET, HOST))
    await first.remove(HOST, intent=ALICE)
    await first.add(entry(NET6), intent=ALICE)
    await first.close()

    again, otherwise = guarding(plane, store), guarding(plane, store)
    again.start(file_of(NET, HOST))
    assert plane.denials == {NET, NET6}
    await again.close()
    otherwise.start(file_of(HOST))
    await otherwise.close()

    assert plane.denials == {HOST, NET6}
    assert {prefix: otherwise.denial(prefix).from_file for prefix in plane.denials} == {
        HOST: True,
        NET6: False,
    }


@story
async def test_the_file_is_read_again() -> None:
    plane, store = FakePlane(), FakeDenyListStore()
    guard = guarding(plane, store)
    guard.start(file_of(NET))
    await guard.add(entry(NET6), intent=ALICE)

    await guard.take_in(file_of(HOST))

    assert plane.denials == set(store.kept.denials) == {HOST, NET6}
    await guard.close()


class UnreadableStore(FakeDenyListStore):
    """As long as it is `broken`, also for those who read."""

    def load(self) -> StoredDenyList:
        if self.broken:
            raise self.broken
        return super().load()


@story
async def test_while_nothing_can_be_read_who_is_denied_stays_denied() -> None:
    plane, store = FakePlane(), UnreadableStore()
    first = guarding(plane, store)
    first.start(file_of(NET))
    await first.add(entry(NET6, "scans"), intent=ALICE)
    await first.close()
    store.broken = StoreError("the disk is gone")

    guard = guarding(plane, store)
    guard.start(file_of(NET, HOST))

    assert plane.denials == {NET, NET6, HOST}
    assert "the disk is gone" in guard.warning
    with pytest.raises(StoreError):
        await guard.remove(NET, intent=ALICE)

    store.broken = None
    guard.repair()

    assert guard.warning == ""
    assert plane.denials == set(store.kept.denials) == {NET, NET6, HOST}
    assert guard.denial(NET6).reason == "scans"
    await guard.close()


@story
async def test_a_full_disk_keeps_nobody_from_starting() -> None:
    plane, store = FakePlane(), FakeDenyListStore()
    store.broken = StoreError("the disk is full")

    guard = guarding(plane, store)
    guard.start(file_of(NET))

    assert plane.denials == {NET}
    assert "the disk is full" in guard.warning
    store.broken = None
    guard.repair()
    assert set(store.kept.denials) == {NET}
    await guard.close()


@story
async def test_drift_is_repaired_and_told() -> None:
    async with Stage() as stage:
        guard = stage.director.guard
        await guard.replace([entry(NET), entry(NET6)], intent=ALICE)
        stage.plane.denials = frozenset([NET, HOST])

        await guard.look()

        assert stage.plane.denials == {NET, NET6}
        assert kinds(guard)[-1] == ("dataplane.drift", "guard")
        assert stage.director.vitals().drift_repaired == 2


@story
async def test_what_cannot_be_repaired_is_a_problem_until_it_can() -> None:
    async with Stage() as stage:
        guard = stage.director.guard
        await guard.add(entry(NET), intent=ALICE)
        stage.plane.broken = OSError("no")
        guard.repair()
        assert any("deny list" in problem for problem in stage.director.readiness().problems)

        stage.plane.broken = None
        guard.repair()

        assert stage.director.readiness().problems == ()


@story
async def test_what_may_not_be_meant_is_said() -> None:
    async with Stage(web=service("web1")) as stage:
        view = await stage.director.guard.add(entry(BACKENDS), intent=ALICE)
        assert view.warnings == ("the address of backend web/web1, 192.0.2.21, is under it",)

        view = await stage.director.guard.add(entry(ALL), intent=ALICE)
        assert view.warnings == ("it is every IPv4 client",)

        assert (await stage.director.guard.add(entry(NET6), intent=ALICE)).warnings == ()


@story
async def test_limits_are_shown_with_what_they_refused() -> None:
    limit = ServiceLimit(rate=10.0)
    async with Stage(web=service("web1", limit=limit), shop=service(listener="192.0.2.11:80/tcp")) as stage:
        stage.plane.refusals["web"] = Refused(by_service=3)

        view = stage.director.guard.view()

        assert {name: (each.limit, each.refused) for name, each in view.limits.items()} == {
            "web": (limit, Refused(by_service=3))
        }
        assert stage.plane.plans["web"].limit == limit
        assert stage.director.service("web").refused == Refused(by_service=3)
