# SPDX-License-Identifier: Apache-2.0
"""The fleet over HTTP and on the command line, and how old what is read may be."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from starlette.types import Message, Receive, Scope, Send

from tests.support.api_server import ApiServer
from tests.support.fake_director import FakeDirector
from xdpdirector.api.app import create_app
from xdpdirector.api.http.fleet_headers import FleetHeaders
from xdpdirector.cli import fleet as cli
from xdpdirector.cli.fleet import _is_one
from xdpdirector.cli.tables import Table
from xdpdirector.errors import ConflictError, NotFoundError, TimedOutError
from xdpdirector.model.fleet import DirectorReport, DirectorView, DrainState, StoreView
from xdpdirector.sync.status import FleetView

ETCD = StoreView(type="etcd", endpoint="192.0.2.5:2379", age=0.4)
ONE = DirectorReport(name="one", version="1.0", revision=7, ready=True)
TWO = DirectorReport(name="two", version="1.0", revision=6, ready=False, why="the map is full")


def shown(view: FleetView) -> str:
    parts = cli.show(view.model_dump(mode="json"))
    return "\n".join(
        "\n".join(part.lines(colours=False)) if isinstance(part, Table) else part for part in parts
    )


def test_directors_and_store_are_in_the_document_and_in_metrics(tmp_path: Path) -> None:
    director = FakeDirector()
    director.fleet = FleetView(name="one", store=ETCD, directors=(ONE, TWO))
    with ApiServer(director, tmp_path / "api.sock") as server:
        found = server.client.get("/v1/fleet")
        metrics, _ = server.client.text("/metrics", "text/plain")

    assert found["store"] == {
        "type": "etcd",
        "endpoint": "192.0.2.5:2379",
        "reached": True,
        "why": "",
        "age": 0.4,
    }
    assert [each["name"] for each in found["directors"]] == ["one", "two"]
    assert "xdpdirector_store_reached 1\n" in metrics
    assert 'xdpdirector_fleet_revision{director="two"} 6\n' in metrics
    assert 'xdpdirector_fleet_ready{director="two"} 0\n' in metrics


def test_the_table_says_who_is_behind() -> None:
    text = shown(FleetView(name="one", store=ETCD, directors=(ONE, TWO)))

    assert "The desired state is in etcd, asked at 192.0.2.5:2379." in text
    assert ["one", "(this", "one)", "1.0", "7", "ready"] in [line.split() for line in text.splitlines()]
    assert "not ready: the map is full" in text


def test_the_table_says_how_old_it_is() -> None:
    away = StoreView(type="etcd", reached=False, why="no answer", age=12.3)
    assert "What is known of the desired state is 12 s old: no answer" in shown(FleetView(store=away))
    never = away.model_copy(update={"age": None})
    assert "has not been seen since the start" in shown(FleetView(store=never))


@pytest.mark.parametrize(
    ("view", "is_one"),
    [
        (FleetView(), True),
        (FleetView(store=ETCD, directors=(ONE,)), True),
        (FleetView(store=ETCD, directors=(ONE, TWO)), False),
        (FleetView(store=ETCD, directors=(ONE, TWO.model_copy(update={"ready": True}))), False),
        (FleetView(store=ETCD.model_copy(update={"reached": False}), directors=(ONE,)), False),
    ],
)
def test_the_exit_code_says_whether_all_are_one(view: FleetView, is_one: bool) -> None:
    assert _is_one(view.model_dump(mode="json")) is is_one


class FakeShared:
    """What a fleet's state tells of itself."""

    def __init__(self, age: float | None = 0.4, pending: Sequence[str] = ()) -> None:
        self._age, self._pending = age, list(pending)
        self.position = (7, 0)

    def store(self) -> StoreView:
        return ETCD.model_copy(update={"age": self._age})

    async def applied(self) -> tuple[list[str], list[str]]:
        return ["one", "two"], self._pending


async def asked(shared: FakeShared, method: str, changes: int = 0) -> dict[bytes, bytes]:
    """The header of an answer."""
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        shared.position = (7, changes)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"etag", b"1")]})
        await send({"type": "http.response.body", "body": b"{}"})

    async def receive() -> Message:
        raise AssertionError("nothing is read")

    async def send(message: Message) -> None:
        sent.append(message)

    await FleetHeaders(app, shared)({"type": "http", "method": method}, receive, send)
    assert [each["type"] for each in sent] == ["http.response.start", "http.response.body"]
    found = dict(sent[0]["headers"])
    assert found.pop(b"etag") == b"1"
    return found


@pytest.mark.parametrize(
    ("method", "age", "headers"),
    [("GET", 0.4, {b"age": b"0"}), ("HEAD", 12.9, {b"age": b"12"}), ("GET", None, {})],
)
def test_what_is_read_says_how_old_it_may_be(
    method: str, age: float | None, headers: dict[bytes, bytes]
) -> None:
    assert asyncio.run(asked(FakeShared(age), method)) == headers


def test_the_answer_to_a_change_says_which_directors_have_it() -> None:
    assert asyncio.run(asked(FakeShared(), "POST", changes=1)) == {b"fleet-applied": b"one, two"}
    assert asyncio.run(asked(FakeShared(pending=["three"]), "PATCH", changes=1)) == {
        b"fleet-applied": b"one, two",
        b"fleet-pending": b"three",
    }
    assert asyncio.run(asked(FakeShared(), "PATCH")) == {}


def test_only_with_a_shared_state() -> None:
    def layers(shared: FakeShared | None) -> list[object]:
        return [each.cls for each in create_app(FakeDirector(), fleet=shared).user_middleware]

    assert FleetHeaders in layers(FakeShared())
    assert FleetHeaders not in layers(None)


def test_the_table_says_on_which_backends_directors_differ() -> None:
    down = {"web/web1": ("192.0.2.10",), "web/web2": ("192.0.2.10",)}
    one = ONE.model_copy(update={"down": down})
    two = TWO.model_copy(update={"down": {"web/web2": ("192.0.2.10",)}})

    text = shown(FleetView(name="one", store=ETCD, directors=(one, two)))

    assert "web/web1 for VIP 192.0.2.10 is down at one, and at none of the others" in text
    assert "web/web2" not in text


def test_a_director_is_drained_and_enabled_over_http(tmp_path: Path) -> None:
    director = FakeDirector()
    director.fleet = FleetView(
        name="one", store=ETCD, directors=(ONE, TWO.model_copy(update={"ready": True}))
    )
    with ApiServer(director, tmp_path / "api.sock") as server:
        drained = server.client.post("/v1/fleet/two/drain", {"reason": "patches"})
        shown_then = server.client.get("/v1/fleet")["leaving"]
        metrics, _ = server.client.text("/metrics", "text/plain")
        with pytest.raises(ConflictError, match="no other director is ready"):
            server.client.post("/v1/fleet/one/drain")
        forced = server.client.post("/v1/fleet/one/drain", query={"force": "true"})
        with pytest.raises(TimedOutError, match="director 'two' is still draining"):
            server.client.get("/v1/fleet/two", {"wait": "drained", "timeout": "100ms"})
        with pytest.raises(NotFoundError, match="no director 'three' is known: there are one, two"):
            server.client.post("/v1/fleet/three/drain")
        with pytest.raises(NotFoundError):
            server.client.get("/v1/fleet/three")
        enabled = server.client.post("/v1/fleet/two/enable")
        again = server.client.get("/v1/fleet/two")

    assert (drained["admin"], drained["reason"], drained["this"], drained["live"]) == (
        "drain", "patches", False, True,
    )  # fmt: skip
    assert drained["state"] == "enabled"  # it has not heard of it
    assert shown_then == [drained]
    assert 'xdpdirector_fleet_drained{director="two"} 0\n' in metrics
    assert (forced["admin"], forced["this"]) == ("drain", True)
    assert (enabled["admin"], enabled["since"]) == ("enabled", None)
    assert again == enabled


def test_the_table_says_who_leaves_and_how_far_it_is() -> None:
    obstacle = "3 flows are left on it"
    leaving = DirectorView(
        name="two", admin="drain", this=False, live=True, state=DrainState.DRAINING, reason="patches",
        flows=3, flows_at_start=40, obstacles=(obstacle,),
    )  # fmt: skip
    away = DirectorView(name="three", admin="drain", this=True, live=False)

    text = shown(FleetView(name="one", store=ETCD, directors=(ONE,), leaving=(leaving, away)))

    lines = [line.split() for line in text.splitlines()]
    assert ["two", "drain", "draining", "3", "of", "40", "patches", *obstacle.split()] in lines
    assert ["three", "(this", "one)", "drain", "unknown", "it", "is", "not", "heard", "of"] in lines
