# SPDX-License-Identifier: Apache-2.0
"""The role matrix: every operation of the OpenAPI document, asked by everybody."""

from __future__ import annotations

import asyncio
import http.client
import json
import pwd
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from starlette.applications import Starlette
from starlette.routing import Match
from starlette.types import Message, Scope

from tests.support.api_server import ApiServer
from tests.support.fake_director import FakeDirector
from xdpdirector.api.app import create_app
from xdpdirector.api.auth import roles
from xdpdirector.api.auth.access import Access
from xdpdirector.api.auth.identity import Peer, identify
from xdpdirector.api.routers import ControlledRoute, new_router
from xdpdirector.api.server.server import ListeningSocket
from xdpdirector.client import UnixConnection
from xdpdirector.errors import NotAuthenticatedError
from xdpdirector.model.access import Role
from xdpdirector.storage.tokens import TokenSpec

DOCUMENT = create_app(FakeDirector()).openapi()
DOCUMENTATION = {"openapi", "get_reference", "get_dashboard"}
"""Routes that are no operations."""
SOMEBODY_ELSE = 65534


class Operation(NamedTuple):
    id: str
    method: str
    path: str


OPERATIONS = [
    Operation(operation["operationId"], method.upper(), re.sub(r"{.*?}", "1", path))
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]
WHO = [None, *Role]


class House:
    """The API on a TCP port, with a token of each role."""

    def __init__(self, server: ApiServer, port: int) -> None:
        self._port = port
        add = server.access.tokens.add
        self.tokens = {role: add(TokenSpec(name=str(role), role=role))[1] for role in Role}

    def ask(
        self, method: str, path: str, role: Role | None = None, **headers: str
    ) -> tuple[http.client.HTTPResponse, Any]:
        """The answer, and its document when it is a problem."""
        if role:
            headers["authorization"] = f"Bearer {self.tokens[role]}"
        body = "{}" if method in ("POST", "PUT", "PATCH") else None
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request(method, path, body, {"content-type": "application/json", **headers})
            answer = connection.getresponse()
            is_problem = answer.headers["content-type"] == "application/problem+json"
            return answer, json.loads(answer.read()) if is_problem else None
        finally:
            connection.close()


@pytest.fixture(scope="module")
def listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, listening: socket.socket) -> Iterator[ApiServer]:
    path = tmp_path_factory.mktemp("roles") / "api.sock"
    with ApiServer(FakeDirector(), path, listening_sockets=[ListeningSocket(listening)]) as server:
        yield server


@pytest.fixture(scope="module")
def house(server: ApiServer, listening: socket.socket) -> House:
    return House(server, listening.getsockname()[1])


@pytest.mark.parametrize("who", WHO, ids=str)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_matrix(house: House, operation: Operation, who: Role | None) -> None:
    needed = roles.ROLES.get(operation.id)

    answer, problem = house.ask(operation.method, operation.path, who)

    if operation.id in roles.OPEN:
        assert answer.status == (422 if operation.id == "create_session" else 200)
    elif who is None:
        assert (answer.status, problem["type"]) == (401, "urn:xdpdirector:problem:not-authenticated")
        assert answer.headers["www-authenticate"].startswith("Bearer ")
    elif needed is None or not who.covers(needed):
        assert (answer.status, problem["type"]) == (403, "urn:xdpdirector:problem:not-allowed")
        assert operation.id in problem["detail"]
    else:
        assert answer.status not in (401, 403, 405, 500)


def test_every_operation_has_a_role_and_every_role_an_operation() -> None:
    assert set(roles.ROLES) | roles.OPEN == {operation.id for operation in OPERATIONS} | DOCUMENTATION


def test_only_liveness_and_what_a_browser_needs_to_log_in_are_open() -> None:
    assert {"get_liveness", "get_dashboard", "create_session"} == roles.OPEN


def test_who_only_reads_changes_nothing() -> None:
    changing = {operation.id for operation in OPERATIONS if roles.changes(operation.id, operation.method)}

    assert {name for name in changing - roles.OPEN if roles.ROLES[name] is Role.READ} == roles.OF_ONESELF


def test_the_document_says_which_role_is_needed() -> None:
    said = {
        operation["operationId"]: operation.get("x-role")
        for path in DOCUMENT["paths"].values()
        for operation in path.values()
    }

    assert said == {operation.id: roles.ROLES.get(operation.id) for operation in OPERATIONS}


def asked(app: Starlette, path: str, method: str = "GET") -> tuple[int, list[tuple[str, str]]]:
    """The status that root gets on the unix socket, and what the audit has then: operation and request."""
    statuses: list[int] = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(b"host", b"localhost")],
        "query_string": b"",
        "scheme": "http",
        "state": {"peer": Peer(uid=0)},
    }
    asyncio.run(app(scope, receive, send))
    return statuses[0], [(row.operation, row.request) for row in app.state.access.audit.page()]


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Starlette]:
    access = Access.at(tmp_path / "access.db")
    yield create_app(FakeDirector(), access)
    access.close()


def test_an_operation_without_a_row_is_refused_to_everybody(app: Starlette) -> None:
    router = new_router()

    @router.post("/v1/forgotten")
    async def forgotten() -> None: ...

    app.router.routes += router.routes

    assert "forgotten" not in roles.ROLES
    assert asked(app, "/v1/forgotten", "POST") == (403, [("forgotten", "POST /v1/forgotten")])
    assert asked(app, "/v1/unknown")[0] == 404


def test_each_route_is_under_access_control(app: Starlette) -> None:
    assert [route for route in app.routes if not isinstance(route, ControlledRoute)] == []


@pytest.mark.parametrize("path", ["/v1/services", "/v1/audit", "/v1/unknown"])
def test_routes_are_matched_once(app: Starlette, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []
    matches = ControlledRoute.matches

    def counted(self: ControlledRoute, scope: Scope) -> tuple[Match, Scope]:
        if scope["path"] == path:
            looked_at.append(id(self))
        return matches(self, scope)

    monkeypatch.setattr(ControlledRoute, "matches", counted)

    asked(app, path)

    assert looked_at
    assert len(looked_at) == len(set(looked_at))


@pytest.mark.parametrize("who", [None, Role.READ], ids=str)
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/unknown", 404),
        ("POST", "/v1/services/web/unknown", 404),
        ("PUT", "/v1/services", 405),
        ("OPTIONS", "/v1/tokens/ci", 405),
        ("GET", "/v1/services/", 307),
        ("DELETE", "/v1/services/web/", 307),
    ],
)
def test_only_who_is_known_learns_what_is_no_operation(
    house: House, who: Role | None, method: str, path: str, status: int
) -> None:
    answer, _ = house.ask(method, path, who)

    assert answer.status == (status if who else 401)
    assert bool(answer.headers["allow"]) == (answer.status == 405)
    if answer.status == 307:
        assert answer.headers["location"].endswith(path.rstrip("/"))


def test_allow_says_what_is_possible_on_the_path(house: House) -> None:
    allowed = {path: house.ask("OPTIONS", path, Role.READ)[0].headers["allow"] for _, _, path in OPERATIONS}

    documented = {path: set[str]() for path in allowed}
    for _, method, path in OPERATIONS:
        documented[path] |= {method, "HEAD"} if method == "GET" else {method}
    assert allowed == {path: ", ".join(sorted(methods)) for path, methods in documented.items()}


@pytest.mark.parametrize(
    ("uid", "role", "given"),
    [
        (0, Role.READ, Role.ADMIN),
        (SOMEBODY_ELSE, Role.ADMIN, Role.ADMIN),
        (SOMEBODY_ELSE, Role.READ, Role.READ),
    ],
    ids=["root", "by default", "by configuration"],
)
def test_users_on_the_socket_have_the_role_that_is_configured(uid: int, role: Role, given: Role) -> None:
    identity = identify(Peer(uid=uid, pid=7), None, NoTokens(), role)

    assert identity.role is given
    assert identity.name == pwd.getpwuid(uid).pw_name


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Bearer nonsense", "Basic cm9vdDpyb290", "x"])
def test_a_header_that_is_no_token_counts_also_for_root(header: str) -> None:
    with pytest.raises(NotAuthenticatedError):
        identify(Peer(uid=0), header, NoTokens(), Role.ADMIN)


def test_a_token_lowers_what_root_may_on_the_socket(house: House, server: ApiServer) -> None:
    reading = {"authorization": f"Bearer {house.tokens[Role.READ]}"}
    connection = UnixConnection(server.path, 10)

    connection.request("DELETE", "/v1/services/web", headers=reading)

    assert connection.getresponse().status == 403
    connection.close()


class NoTokens:
    def find(self, text: str) -> None:
        return None
