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
from typing import Any, NamedTuple

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Message, Scope

from tests.support.api_server import ApiServer
from tests.support.fake_director import FakeDirector
from xdpdirector.api.app import create_app
from xdpdirector.api.auth import roles
from xdpdirector.api.auth.access import Access
from xdpdirector.api.auth.auth_middleware import Gate, through_the_gate
from xdpdirector.api.auth.identity import Peer, identify
from xdpdirector.api.server.server import Door
from xdpdirector.client import UnixConnection
from xdpdirector.errors import NotAllowedError, NotAuthenticatedError
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
    with ApiServer(FakeDirector(), path, doors=[Door(listening)]) as server:
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


async def forgotten(request: Request) -> Response:
    return Response("let in")


def asked(gate: Gate, path: str) -> int:
    """The status that root gets on the unix socket."""
    statuses: list[int] = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    state = {"peer": Peer(uid=0)}
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "headers": [],
        "query_string": b"",
        "state": state,
    }
    asyncio.run(gate(scope, receive, send))
    return statuses[0]


def test_an_operation_without_a_row_is_refused_to_everybody() -> None:
    routes = [Route("/v1/forgotten", forgotten)]
    gate = Gate(Router(routes), routes, Access.nowhere())

    assert "forgotten" not in roles.ROLES
    assert asked(gate, "/v1/forgotten") == 403
    assert asked(gate, "/v1/unknown") == 404


@pytest.mark.parametrize(
    ("let_in", "route"),
    [("get_service", "delete_service"), (None, "get_service"), ("get_service", None)],
    ids=["another", "nothing", "no route"],
)
def test_a_route_that_the_gate_did_not_mean_is_refused(let_in: str | None, route: str | None) -> None:
    scope: Scope = {"type": "http", "state": {"operation": let_in}}
    if route:
        scope["route"] = Route("/v1/x", forgotten, name=route)

    with pytest.raises(NotAllowedError):
        asyncio.run(through_the_gate(Request(scope)))


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
