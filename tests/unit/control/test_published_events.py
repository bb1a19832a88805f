# SPDX-License-Identifier: Apache-2.0
"""What the director tells of itself: which events follow from what happens."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import tests.support.stage as s
from tests.support.stage import (
    ME,
    VIP,
    WEB1,
    WEB2,
    story,
    web_stage,
)
from xdpdirector.control.director import Director
from xdpdirector.control.events import Events
from xdpdirector.control.status_events import StatusEvents
from xdpdirector.errors import StoreError
from xdpdirector.model import AdminState
from xdpdirector.model.status import AttachmentView, Operational
from xdpdirector.state.admin_change import AdminChange

Change = Callable[[Director], Coroutine[Any, Any, object]]

ETH0 = AttachmentView(interface="eth0", mode="native", program_id=7)
REPLACED = AttachmentView(interface="eth0", mode="native", program_id=8)


def told(events: Events) -> list[tuple[str, str, str]]:
    return [(event.kind, event.subject, event.text) for event in events.since(0)[1]]


CHANGES: list[tuple[str, Change, list[tuple[str, str, str]]]] = [
    (
        "create a service",
        lambda d: d.create_service("mail", s.service("web3", listener=f"{VIP}:25/tcp"), intent=ME),
        [("service.created", "mail", f"new service on {VIP}:25/tcp, scheduler wlc, backends: 1")],
    ),
    (
        "change a service",
        lambda d: d.patch_service("web", {"on_empty": "drop"}, intent=ME),
        [("service.changed", "web", "on_empty reject -> drop")],
    ),
    (
        "give it a check",
        lambda d: d.patch_service("web", {"check": s.CHECK}, intent=ME),
        [("service.changed", "web", "check")],  # who was taken to be up is so until it is asked
    ),
    (
        "delete a service",
        lambda d: d.delete_service("web", intent=ME),
        [("service.removed", "web", "the service is removed")],
    ),
    (
        "create a backend",
        lambda d: d.create_backend("web", "web3", s.backend("web3"), intent=ME),
        [("backend.created", "web/web3", f"new backend {s.HOSTS['web3']}, weight 1")],
    ),
    (
        "change a backend",
        lambda d: d.patch_backend("web", "web1", {"weight": 7}, intent=ME),
        [("backend.changed", "web/web1", "weight 1 -> 7")],
    ),
    (
        "delete a backend",
        lambda d: d.drains.delete_backend("web", "web1", intent=ME),
        [("backend.removed", "web/web1", "the backend is removed")],
    ),
    (
        "maintain a backend",
        lambda d: d.drains.set_admin("web", "web1", AdminChange(AdminState.MAINTENANCE), intent=ME),
        [("backend.admin", "web/web1", "enabled -> maintenance")],
    ),
    (
        "drain a backend",
        lambda d: d.drains.set_admin("web", "web1", AdminChange(AdminState.DRAIN, reason="disk"), intent=ME),
        [
            ("backend.admin", "web/web1", "enabled -> drain"),
            ("backend.drain", "web/web1", "draining, connections now: 4 (disk)"),
        ],
    ),
]


@pytest.mark.parametrize(("change", "events"), [pytest.param(c, e, id=name) for name, c, e in CHANGES])
@story
async def test_a_change_is_told(change: Change, events: list[tuple[str, str, str]]) -> None:
    # given
    async with web_stage() as stage:
        stage.plane.active = {WEB1: 4} if "drain" in str(events) else {}

        # when
        await change(stage.director)

        # then
        assert told(stage.director.events) == events


@story
async def test_a_change_says_who_made_it_and_as_which_revision() -> None:
    # given
    async with web_stage() as stage:
        # when
        await stage.director.patch_backend("web", "web1", {"weight": 7}, intent=ME)

        # then
        (event,) = stage.director.events.since(0)[1]
        assert event.data == {
            "author": ME.author,
            "reason": "patch web/web1",
            "revision": 1,
            "changes": {"weight": {"before": 1, "after": 7}},
        }


@story
async def test_a_change_that_is_taken_back_is_not_told() -> None:
    # given
    async with web_stage() as stage:
        stage.history.full = StoreError("the disk is full")

        # when
        with pytest.raises(StoreError):
            await stage.director.patch_backend("web", "web1", {"weight": 7}, intent=ME)

        # then
        assert told(stage.director.events) == []


@story
async def test_verdicts_are_told_once_the_plane_holds_them() -> None:
    # given
    async with web_stage(check=s.CHECK) as stage:
        events = stage.director.events

        # when
        stage.checks.say(WEB1, Operational.UP)
        await s.until(lambda: stage.member(WEB1).accepts)
        stage.checks.say(WEB1, Operational.DOWN, "connection refused")
        await s.until(lambda: len(told(events)) == 2)

        # then
        assert told(events) == [
            ("backend.up", "web/web1", "up"),
            ("backend.down", "web/web1", "down: connection refused"),
        ]
        assert not stage.member(WEB1).accepts


@story
async def test_drift_is_told() -> None:
    # given
    async with web_stage() as stage:
        stage.plane.plans.clear()

        # when
        await stage.reconciler.upkeep()

        # then
        text = "places of the data plane that had drifted and were repaired: 1"
        assert told(stage.director.events) == [("dataplane.drift", "web", text)]


@story
async def test_a_drain_that_is_cut_is_told() -> None:
    # given
    async with web_stage() as stage:
        stage.plane.active = {WEB2: 3}
        await stage.director.drains.set_admin(
            "web", "web2", AdminChange(AdminState.DRAIN, deadline=0, on_deadline="cut"), intent=ME
        )

        # when
        await stage.director.drains.cut_overdue()

        # then
        assert told(stage.director.events)[-2:] == [
            ("backend.admin", "web/web2", "drain -> maintenance"),
            ("backend.cut", "web/web2", "the drain's deadline has passed; connections that are cut: 3"),
        ]


@pytest.mark.parametrize(
    ("before", "after", "events"),
    [
        pytest.param(([], [], []), ([], [], []), [], id="nothing"),
        pytest.param(
            ([], [], []),
            (["the disk is full"], [], []),
            [("director.problem", "director", "the disk is full")],
            id="a problem",
        ),
        pytest.param(
            (["the disk is full"], [], []),
            ([], [], []),
            [("director.recovered", "director", "no more: the disk is full")],
            id="a problem is over",
        ),
        pytest.param(
            ([], [WEB1], []),
            ([], [WEB1, WEB2], []),
            [("backend.drained", "web/web2", "drained: no connection is left")],
            id="another drain is done",
        ),
        pytest.param(
            ([], [], []),
            ([], [], [ETH0]),
            [("dataplane.attached", "eth0", "program 7 runs on eth0, native mode")],
            id="attached",
        ),
        pytest.param(
            ([], [], [ETH0]),
            ([], [], [REPLACED]),
            [("dataplane.attached", "eth0", "program 8 runs on eth0, native mode")],
            id="replaced",
        ),
        pytest.param(
            ([], [], [ETH0]),
            ([], [], []),
            [("dataplane.lost", "eth0", "eth0 carries program 7 no more")],
            id="lost",
        ),
    ],
)
def test_what_nobody_announces_is_seen(
    before: tuple[Any, ...], after: tuple[Any, ...], events: list[tuple[str, str, str]]
) -> None:
    # given
    ring = Events()
    lookout = StatusEvents(ring)
    lookout.look(*before)
    seen = ring.last

    # when
    lookout.look(*after)
    lookout.look(*after)

    # then
    assert [(event.kind, event.subject, event.text) for event in ring.since(seen)[1]] == events
