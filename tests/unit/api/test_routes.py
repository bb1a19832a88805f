# SPDX-License-Identifier: Apache-2.0
"""The API's routes, over HTTP on a unix socket."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.api_server import ApiServer
from tests.support.fake_director import CLIENT, FakeDirector
from xdpdirector.api.app import create_app
from xdpdirector.api.auth.identity import user_name
from xdpdirector.api.auth.roles import OPEN, ROLES
from xdpdirector.api.http import negotiation, strict_parameters
from xdpdirector.client import Client
from xdpdirector.errors import ConflictError, InvalidRequestError, NotFoundError, TimedOutError
from xdpdirector.model.status import Statistics

LISTENER, LISTENER6 = "192.0.2.10:80/tcp", "[2001:db8::10]:80/tcp"
WEB1, WEB2 = "192.0.2.21", "192.0.2.22"
WEB = {"name": "web", "listeners": [LISTENER, LISTENER6], "backends": {"web1": {"address": WEB1}}}
SERVICE, BACKENDS, BACKEND = "/v1/services/web", "/v1/services/web/backends", "/v1/services/web/backends/web1"


@pytest.fixture
def director() -> FakeDirector:
    return FakeDirector()


@pytest.fixture
def api(director: FakeDirector, tmp_path: Path) -> Iterator[Client]:
    """The API with the service `web` and its backend `web1`."""
    with ApiServer(director, tmp_path / "api.sock") as server:
        server.client.post("/v1/services", WEB)
        yield server.client


def test_a_service_is_created_with_defaults(api: Client, director: FakeDirector) -> None:
    view = api.get(SERVICE)

    assert view["listeners"] == [LISTENER, LISTENER6]
    assert view["scheduler"] == "wlc"
    assert view["timeouts"]["tcp"] == "900s"
    assert [backend["name"] for backend in view["backends"]] == ["web1"]
    assert director.authors == [user_name(os.getuid())]


def test_lists_have_an_envelope(api: Client) -> None:
    services, backends = api.get("/v1/services"), api.get(BACKENDS)

    assert [service["name"] for service in services["items"]] == ["web"]
    assert [backend["name"] for backend in backends["items"]] == ["web1"]


def test_put_takes_omitted_fields_back_to_defaults(api: Client) -> None:
    api.patch(SERVICE, {"scheduler": "mh"})

    view = api.put(SERVICE, {"listeners": [LISTENER]})

    assert (view["scheduler"], view["listeners"], view["backends"]) == ("wlc", [LISTENER], [])


def test_patch_merges_and_null_removes(api: Client) -> None:
    api.patch(SERVICE, {"check": {"type": "http", "interval": "5s"}})
    assert api.get(SERVICE)["check"]["interval"] == "5s"

    view = api.patch(SERVICE, {"check": None, "timeouts": {"udp": "1m"}})

    assert (view["check"], view["timeouts"]["udp"], view["timeouts"]["tcp"]) == (None, "60s", "900s")


def test_a_deleted_service_is_gone(api: Client) -> None:
    assert api.delete(SERVICE) is None

    with pytest.raises(NotFoundError, match="web"):
        api.get(SERVICE)


def test_a_backend_is_added_and_changed(api: Client) -> None:
    added = api.post(BACKENDS, {"name": "web2", "address": WEB2, "weight": 5})
    changed = api.patch(f"{BACKENDS}/web2", {"weight": 7})

    assert (added["address"], added["weight"], changed["weight"]) == (WEB2, 5, 7)


@pytest.mark.parametrize(("verb", "admin"), [("maintenance", "maintenance"), ("enable", "enabled")])
@pytest.mark.parametrize("body", [None, {"reason": "new disk"}], ids=["no body", "reason"])
def test_admin_state_is_set(api: Client, verb: str, admin: str, body: object) -> None:
    assert api.post(f"{BACKEND}/{verb}", body)["admin"] == admin


def test_drain_reports_progress(api: Client, director: FakeDirector) -> None:
    director.busy["web", "web1"] = 3

    view = api.post(f"{BACKEND}/drain", {"reason": "new disk", "deadline": "10m", "on_deadline": "cut"})

    assert view["drain"]["remaining"] == 3
    assert (view["drain"]["reason"], view["drain"]["on_deadline"]) == ("new disk", "cut")


def test_enable_has_no_deadline(api: Client) -> None:
    with pytest.raises(InvalidRequestError, match="unknown key 'deadline'") as caught:
        api.post(f"{BACKEND}/enable", {"deadline": "10m"})

    assert caught.value.pointer == "/deadline"


def test_a_long_poll_ends_when_drained(api: Client, director: FakeDirector) -> None:
    api.post(f"{BACKEND}/drain")

    view = api.get(BACKEND, {"wait": "drained", "timeout": "60s"})

    assert view["operational"] == "drained"


def test_a_long_poll_times_out(api: Client, director: FakeDirector) -> None:
    director.busy["web", "web1"] = 1
    api.post(f"{BACKEND}/drain")
    began = time.monotonic()

    with pytest.raises(TimedOutError):
        api.get(BACKEND, {"wait": "drained", "timeout": "200ms"})

    assert 0.2 <= time.monotonic() - began < 10


@pytest.mark.parametrize("timeout", ["11m", "0", "soon"])
def test_a_long_poll_is_bounded(api: Client, timeout: str) -> None:
    with pytest.raises(InvalidRequestError, match="timeout"):
        api.get(BACKEND, {"wait": "drained", "timeout": timeout})


def test_a_busy_backend_is_not_deleted(api: Client, director: FakeDirector) -> None:
    director.busy["web", "web1"] = 1

    with pytest.raises(ConflictError):
        api.delete(BACKEND)
    with pytest.raises(TimedOutError):
        api.delete(BACKEND, {"drain": "50ms"})

    assert api.get(BACKEND)["admin"] == "drain"


@pytest.mark.parametrize("query", [{"force": "true"}, {"force": "1"}])
def test_a_busy_backend_is_deleted_by_force(
    api: Client, director: FakeDirector, query: dict[str, str]
) -> None:
    director.busy["web", "web1"] = 1

    api.delete(BACKEND, query)

    assert api.get(BACKENDS)["items"] == []


def test_an_idle_backend_is_deleted_after_its_drain(api: Client) -> None:
    api.delete(BACKEND, {"drain": "60s"})

    assert api.get(BACKENDS)["items"] == []


def test_force_and_drain_exclude_each_other(api: Client) -> None:
    with pytest.raises(InvalidRequestError, match="exclude"):
        api.delete(BACKEND, {"force": "true", "drain": "60s"})


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({}, 3),
        ({"limit": 2}, 2),
        ({"service": "other"}, 0),
        ({"client": CLIENT}, 3),
        ({"backend": "web1"}, 3),
    ],
    ids=["all", "limit", "service", "client", "backend"],
)
def test_connections_are_filtered(
    api: Client, director: FakeDirector, query: dict[str, object], count: int
) -> None:
    director.busy["web", "web1"] = 3

    assert len(api.get("/v1/connections", query)["items"]) == count


def test_readiness_shows_in_status_and_document(api: Client, director: FakeDirector) -> None:
    assert api.get("/healthz") == {"status": "ok"}
    assert api.get("/readyz")["ready"] is True

    director.problems = ("the map is full",)

    shown = {"ready": False, "problems": ["the map is full"], "warnings": [], "revision": 1}
    assert api.get("/readyz") == shown
    assert api.get("/healthz") == {"status": "ok"}


def test_statistics_are_the_facades(api: Client, director: FakeDirector) -> None:
    statistics = Statistics.of(director.vitals(), director.service_traffic())

    assert api.get("/v1/stats") == statistics.model_dump(mode="json")


def test_openapi_has_problems_everywhere() -> None:
    document = create_app(FakeDirector()).openapi()
    operations = [operation for path in document["paths"].values() for operation in path.values()]

    assert document["openapi"].startswith("3.1")
    for operation in operations:
        content = operation["responses"]["default"]["content"]
        assert content == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    assert {"Problem", "Fault"} <= set(document["components"]["schemas"])


def test_the_document_is_a_page_that_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    with ApiServer(FakeDirector(), tmp_path / "api.sock") as server:
        text, _ = server.client.text("/docs", "text/html")
        document = server.client.get("/openapi.json")

    assert "<script" not in text
    assert "//" not in text.replace("http://www.w3.org", "").split("<h2>")[0]
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert f'id="{operation["operationId"]}"' in text
            assert f"<code>{method.upper()} {path}</code>" in text
    assert {f'id="{name}"' in text for name in document["components"]["schemas"]} == {True}


def test_the_document_stays_what_it_is(tmp_path: Path) -> None:
    with ApiServer(FakeDirector(), tmp_path / "api.sock") as server:
        assert server.client.get("/openapi.json") == server.client.get("/openapi.json")


def test_every_route_passes_the_same_checks() -> None:
    checks = [strict_parameters.strict, negotiation.acceptable]

    routes = create_app(FakeDirector()).routes

    assert {route.name for route in routes} == ROLES.keys() | OPEN
    for route in routes:
        assert [each.dependency for each in route.dependencies[: len(checks)]] == checks


def test_no_route_is_made_for_an_application() -> None:
    """It would be on the event loop, while the first request waits."""
    one, another = ({route.name: route for route in create_app(FakeDirector()).routes} for _ in range(2))

    assert [name for name, route in one.items() if route is not another[name]] == []
