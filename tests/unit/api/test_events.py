# SPDX-License-Identifier: Apache-2.0
"""/v1/events over HTTP on a unix socket: what a follower gets, from where, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.support.api_server import ApiServer
from tests.support.fake_director import FakeDirector
from xdpdirector.api.http import sse_limit
from xdpdirector.client import Client
from xdpdirector.control.events import Events
from xdpdirector.errors import InvalidRequestError, OverloadedError
from xdpdirector.sse import Message, messages

EVENTS = "/v1/events"
NO_MORE = {"follow": "false"}


@pytest.fixture
def director() -> FakeDirector:
    director = FakeDirector()
    director.events = Events(capacity=8)
    for number in range(5):
        director.events.publish("backend.down", f"web/web{number}", "refused")
        director.events.publish("vip.absent", f"192.0.2.{number}", "gone")
    return director


@pytest.fixture
def api(director: FakeDirector, tmp_path: Path) -> Iterator[Client]:
    with ApiServer(director, tmp_path / "api.sock") as server:
        yield server.client
        director.events.close()


def subjects(found: Iterable[Message]) -> list[str]:
    return [json.loads(message.data).get("subject", "-") for message in found]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param({}, [], id="only what will be"),
        pytest.param({"last": 3}, ["192.0.2.3", "web/web4", "192.0.2.4"], id="the last three"),
        pytest.param(
            {"last": 2, "types": "backend"}, ["web/web3", "web/web4"], id="the last two of a family"
        ),
        pytest.param({"last": 1, "types": "backend.down,lan"}, ["web/web4"], id="of one kind"),
        pytest.param({"last": 1, "types": "backend.up"}, [], id="of a kind that was not"),
        pytest.param({"last": 1, "types": "back"}, [], id="a part of a word is no family"),
    ],
)
def test_what_was_before(api: Client, query: dict[str, object], expected: list[str]) -> None:
    # when
    found = list(api.stream(EVENTS, query | NO_MORE))

    # then
    assert subjects(found) == expected


def test_an_event_on_the_wire(api: Client, director: FakeDirector) -> None:
    # when
    (found,) = api.stream(EVENTS, {"last": 1} | NO_MORE)

    # then
    event = director.events.since(director.events.last - 1)[1][0]
    assert (found.event, found.id) == ("vip.absent", str(event.id))
    assert json.loads(found.data) == event.document


@pytest.mark.parametrize(
    ("place", "gap", "count"),
    [
        pytest.param(lambda last: last, None, 0, id="up to date"),
        pytest.param(lambda last: last - 3, None, 3, id="a little late"),
        pytest.param(lambda last: last - 9, 1, 8, id="too late by one"),
        pytest.param(lambda last: 1, "unknown", 8, id="of an earlier daemon"),
    ],
)
def test_who_comes_back_goes_on_where_it_was(
    api: Client,
    director: FakeDirector,
    place: Callable[[int], int],
    gap: int | str | None,
    count: int,
) -> None:
    # given
    last = director.events.last

    # when
    found = list(api.stream(EVENTS, NO_MORE, after=str(place(last))))

    # then
    gaps = [json.loads(message.data) for message in found if message.event == "gap"]
    missed = None if gap == "unknown" else gap
    assert gaps == ([{"missed": missed, "oldest": last - 7}] if gap else [])
    assert [int(message.id) for message in found if message.event != "gap"] == list(
        range(last - count + 1, last + 1)
    )


def test_a_follower_gets_what_happens_until_the_daemon_ends(api: Client, director: FakeDirector) -> None:
    # given
    follower = api.stream(EVENTS, {"last": 1})
    first = next(follower)

    # when
    director.events.publish("backend.up", "web/web1", "up")
    second = next(follower)
    director.events.publish("backend.up", "web/web2", "up")
    director.events.close()

    # then
    assert subjects([first, second, *follower]) == ["192.0.2.4", "web/web1", "web/web2"]


def test_there_is_an_end_to_how_many_may_follow(api: Client) -> None:
    # given
    followers = [api.stream(EVENTS, {"last": 1}) for _ in range(sse_limit.MOST)]
    for follower in followers:
        next(follower)

    # when
    with pytest.raises(OverloadedError, match="end one of them first"):
        next(api.stream(EVENTS, {"last": 1}))

    # then
    for follower in followers:
        follower.close()


def test_a_follower_who_leaves_in_the_middle_is_no_error(
    director: FakeDirector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # given
    director.events = Events()
    for _ in range(100):
        director.events.publish("vip.absent", "192.0.2.1", "gone " * 10_000)

    # when
    with ApiServer(director, tmp_path / "api.sock") as server:
        stream = server.client.stream(EVENTS, {"last": 100})
        next(stream)
        stream.close()

    # then
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize(
    ("query", "after"),
    [
        pytest.param({"types": "Backend"}, None, id="no kind"),
        pytest.param({"types": "backend,,vip"}, None, id="an empty kind"),
        pytest.param({"last": -1}, None, id="fewer than none"),
        pytest.param({}, "yesterday", id="no id"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(
    api: Client, query: dict[str, object], after: str | None
) -> None:
    with pytest.raises(InvalidRequestError):
        next(api.stream(EVENTS, query | NO_MORE, after=after))


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        pytest.param(b"data: a\n\n", [("message", "a", "")], id="data alone"),
        pytest.param(b"event: up\nid: 7\ndata: a\n\n", [("up", "a", "7")], id="all fields"),
        pytest.param(b"data: a\ndata:b\r\n\r\n", [("message", "a\nb", "")], id="two lines"),
        pytest.param(b": ping\n\n: ping\n\ndata: a\n\n", [("message", "a", "")], id="comments"),
        pytest.param(b"id: 7\n\ndata: a\n\n", [("message", "a", "7")], id="an id stays"),
        pytest.param(b"data: a\n\ndata: b\n", [("message", "a", "")], id="cut in two"),
        pytest.param(b"retry: 5\nnonsense\n\n", [], id="nothing to say"),
    ],
)
def test_messages_on_the_wire(wire: bytes, expected: list[tuple[str, str, str]]) -> None:
    assert list(messages(wire.splitlines(keepends=True))) == expected
