# SPDX-License-Identifier: Apache-2.0
"""Who watches packets: what the plane is asked for, what each gets, and what reaches them over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from tests.support.api_server import ApiServer
from tests.support.fake_director import FakeDirector
from tests.support.fake_plane import FakePlane
from tests.support.stage import story
from xdpdirector.client import Client
from xdpdirector.control import trace_sessions
from xdpdirector.control.trace_sessions import TraceSessions
from xdpdirector.dataplane.trace_types import Decision, Selection, union
from xdpdirector.errors import DataplaneError, InvalidRequestError, NotFoundError
from xdpdirector.lab.waiting import wait_until
from xdpdirector.model import ServiceSpec
from xdpdirector.state.change_request import Intent
from xdpdirector.system.background_tasks import BackgroundTasks

SOON = 5.0
TRACE = "/v1/trace"
WEB = {"listeners": ["192.0.2.10:80/tcp"], "backends": {"web1": {"address": "192.0.2.21"}}}
NOW = 1_700_000_000.25

FORWARDED = Decision(
    time=NOW,
    client=ip_address("198.51.100.7"),
    client_port=40000,
    vip=ip_address("192.0.2.10"),
    port=80,
    protocol="tcp",
    flags="S",
    reason="forward_new",
    service="web",
    backend="web1",
    interface="eth0",
    length=54,
    frame=b"\x02\x00",
)
DENIED = replace(FORWARDED, reason="drop_denied", backend=None)
MAIL = replace(FORWARDED, service="mail", backend="mail1", client=ip_address("2001:db8::7"))
EVERYTHING = [FORWARDED, DENIED, MAIL]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        pytest.param(Selection(), EVERYTHING, id="all"),
        pytest.param(Selection(services=frozenset({"web"})), [FORWARDED, DENIED], id="a service"),
        pytest.param(Selection(backend=("web", "web1")), [FORWARDED], id="a backend"),
        pytest.param(Selection(backend=("mail", "web1")), [], id="a backend of another service"),
        pytest.param(Selection(client=ip_network("198.51.100.0/24")), [FORWARDED, DENIED], id="a network"),
        pytest.param(Selection(client=ip_network("2001:db8::/32")), [MAIL], id="IPv6"),
        pytest.param(Selection(reasons=frozenset({"drop"})), [DENIED], id="a verdict"),
        pytest.param(Selection(reasons=frozenset({"forward_new"})), [FORWARDED, MAIL], id="a reason"),
    ],
)
def test_a_selection(selection: Selection, expected: list[Decision]) -> None:
    assert [each for each in EVERYTHING if selection.has(each)] == expected


WEB1, MAIL1 = ("web", "web1"), ("mail", "mail1")
CLIENTS = ip_network("198.51.100.0/24")


@pytest.mark.parametrize(
    ("selections", "expected"),
    [
        pytest.param([Selection(rate=7)], Selection(rate=7), id="one"),
        pytest.param(
            [Selection(services=frozenset({"web"})), Selection(services=frozenset({"mail"}))],
            Selection(services=frozenset({"web", "mail"})),
            id="services",
        ),
        pytest.param([Selection(services=frozenset({"web"})), Selection()], Selection(), id="one wants all"),
        pytest.param(
            [Selection(backend=WEB1, client=CLIENTS), Selection(backend=WEB1, client=CLIENTS)],
            Selection(backend=WEB1, client=CLIENTS),
            id="the same",
        ),
        pytest.param([Selection(backend=WEB1), Selection(backend=MAIL1)], Selection(), id="two backends"),
        pytest.param(
            [Selection(rate=7, one_in=100), Selection(rate=70, one_in=5)],
            Selection(rate=70, one_in=5),
            id="who wants most",
        ),
    ],
)
def test_what_the_plane_is_asked_for(selections: list[Selection], expected: Selection) -> None:
    assert union(selections) == expected


@story
async def test_the_plane_tells_while_somebody_watches() -> None:
    # given
    plane = FakePlane()
    watched = TraceSessions(plane)
    before = plane.watched

    # when
    with watched.watch(Selection(services=frozenset({"web"}))) as watcher:
        during = plane.watched
        plane.told, plane.missed = [FORWARDED, MAIL, DENIED], 3
        missed, found = await watcher.take(SOON)

    # then
    assert (before, plane.watched) == (None, None)
    assert during == Selection(services=frozenset({"web"}))
    assert (missed, found) == (3, [FORWARDED, DENIED])
    await watched.close()


@story
async def test_two_watchers_get_what_each_wants() -> None:
    # given
    plane = FakePlane()
    watched = TraceSessions(plane)
    with (
        watched.watch(Selection(reasons=frozenset({"drop"}))) as one,
        watched.watch(Selection(services=frozenset({"mail"}))) as other,
    ):
        # when
        plane.told = list(EVERYTHING)
        found = [await one.take(SOON), await other.take(SOON)]

    # then
    assert found == [(0, [DENIED]), (0, [MAIL])]
    await watched.close()


@story
async def test_nobody_gets_more_than_asked_for() -> None:
    # given
    plane = FakePlane()
    watched = TraceSessions(plane)
    with watched.watch(Selection(rate=2)) as watcher:
        # when
        plane.told = [FORWARDED] * 5 + [replace(FORWARDED, time=NOW + 1)]
        missed, found = await watcher.take(SOON)

    # then
    assert (missed, len(found)) == (3, 3)
    await watched.close()


@story
async def test_a_slow_watcher_loses_the_oldest() -> None:
    # given
    watched = TraceSessions(FakePlane())
    many = [replace(FORWARDED, time=NOW + number) for number in range(trace_sessions.KEPT + 10)]
    with watched.watch(Selection()) as watcher:
        # when
        watcher.offer(0, many)
        missed, found = await watcher.take(SOON)

    # then
    assert (missed, found) == (10, many[10:])
    await watched.close()


@story
async def test_who_could_not_watch_is_forgotten() -> None:
    # given
    plane = FakePlane()
    watched = TraceSessions(plane)
    plane.broken = DataplaneError("refused")
    with pytest.raises(DataplaneError), watched.watch(Selection(services=frozenset({"web"}))):
        pass
    plane.broken = None

    # when
    with watched.watch(Selection(services=frozenset({"mail"}))):
        asked = plane.watched

    # then
    assert asked == Selection(services=frozenset({"mail"}))
    await watched.close()


@story
async def test_the_plane_is_asked_again_and_again() -> None:
    """It stops by itself, when the daemon dies."""
    # given
    plane = FakePlane()
    watched = TraceSessions(plane)
    with watched.watch(Selection()):
        plane.watched = None

        # when
        async with asyncio.timeout(SOON):
            while plane.watched is None:
                await asyncio.sleep(0.01)

    # then
    assert plane.watched is None
    await watched.close()


@story
async def test_a_look_that_fails_is_said_and_done_again() -> None:
    # given
    class OnceWrong(FakePlane):
        wrong = True

        def decisions(self, most: int) -> tuple[int, list[Decision]]:
            if self.wrong:
                self.wrong = False
                raise ValueError("a mistake")
            return super().decisions(most)

    plane, tasks = OnceWrong(), BackgroundTasks(sleep=lambda _: asyncio.sleep(0))
    watched = TraceSessions(plane, tasks)
    with watched.watch(Selection()) as watcher:
        # when
        plane.told = [FORWARDED]
        _, found = await watcher.take(SOON)

    # then
    assert found == [FORWARDED]
    assert tasks.problems() == ["the look at traced packets failed and is restarted: ValueError: a mistake"]
    await watched.close()


@story
async def test_somebody_watches_again_after_all_have_gone() -> None:
    # given
    plane = FakePlane()
    watched = TraceSessions(plane)
    with watched.watch(Selection()):
        pass

    # when
    with watched.watch(Selection()) as watcher:
        plane.told = [FORWARDED]
        _, found = await watcher.take(SOON)

    # then
    assert found == [FORWARDED]
    await watched.close()


@story
async def test_the_end_comes_at_once() -> None:
    # given
    watched = TraceSessions(FakePlane())
    with watched.watch(Selection()) as watcher:
        waiting = asyncio.create_task(watcher.take(60.0))
        await asyncio.sleep(0)

        # when
        watched.stop()

        # then
        assert await waiting == (0, [])
        assert watcher.ended
    await watched.close()


# Over the API


@pytest.fixture
def director() -> FakeDirector:
    made = FakeDirector()
    asyncio.run(made.create_service("web", ServiceSpec.model_validate(WEB), intent=Intent("operator")))
    return made


@pytest.fixture
def api(director: FakeDirector, tmp_path: Path) -> Iterator[Client]:
    with ApiServer(director, tmp_path / "api.sock") as server:
        yield server.client


def test_decisions_on_the_wire(api: Client, director: FakeDirector) -> None:
    # given
    director.plane.told, director.plane.missed = [FORWARDED, DENIED], 2

    # when
    found = list(api.stream(TRACE, {"count": 2, "frames": "true"}))

    # then
    assert [(each.event, json.loads(each.data)) for each in found] == [
        ("missed", {"count": 2}),
        ("decision", _shown(FORWARDED) | {"frame": "AgA="}),
        ("decision", _shown(DENIED) | {"frame": "AgA="}),
    ]
    wait_until(lambda: director.plane.watched is None, "nobody is told any more")


def _shown(decision: Decision) -> dict[str, Any]:
    return vars(decision) | {
        "time": "2023-11-14T22:13:20.250000Z",
        "client": str(decision.client),
        "vip": str(decision.vip),
        "verdict": decision.verdict,
    }


def test_filters_reach_the_plane(api: Client, director: FakeDirector) -> None:
    # given
    query = {
        "backend": "web/web1",
        "client": "198.51.100.0/24",
        "reason": "drop,forward_new",
        "rate": 5,
        "one_in": 3,
        "seconds": 60,
    }
    stream = api.stream(TRACE, query)
    director.plane.told = [FORWARDED]

    # when
    next(stream)
    asked = director.plane.watched
    stream.close()

    # then
    assert asked == Selection(
        services=frozenset({"web"}),
        backend=("web", "web1"),
        client=ip_network("198.51.100.0/24"),
        reasons=frozenset({"drop", "forward_new"}),
        rate=5,
        one_in=3,
    )


def test_it_ends_after_its_time(api: Client) -> None:
    assert list(api.stream(TRACE, {"seconds": 0.05})) == []


@pytest.mark.parametrize(
    ("query", "error"),
    [
        pytest.param({"service": "mail"}, NotFoundError, id="no such service"),
        pytest.param({"backend": "web/web9"}, NotFoundError, id="no such backend"),
        pytest.param({"backend": "web"}, InvalidRequestError, id="half a backend"),
        pytest.param({"client": "somebody"}, InvalidRequestError, id="no address"),
        pytest.param({"client": "198.51.100.7/24"}, InvalidRequestError, id="a network with a host in it"),
        pytest.param({"reason": "DROP"}, InvalidRequestError, id="no reason"),
        pytest.param({"reason": "drop,forward_nwe"}, InvalidRequestError, id="a slip of the finger"),
        pytest.param({"rate": 100000}, InvalidRequestError, id="too many"),
        pytest.param({"count": 0}, InvalidRequestError, id="none"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(
    api: Client, query: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        next(api.stream(TRACE, {"seconds": 1} | query))


def test_a_plane_that_cannot_tell_is_an_error_before_the_stream(api: Client, director: FakeDirector) -> None:
    # given
    director.plane.broken = DataplaneError("the kernel refused")

    # when
    with pytest.raises(DataplaneError, match="refused"):
        next(api.stream(TRACE))

    # then
    director.plane.broken = None


def test_the_data_plane_is_shown(api: Client) -> None:
    # when
    shown = api.get("/v1/dataplane")

    # then
    assert (shown["program"]["id"], shown["drift_repaired"]) == (42, 0)
