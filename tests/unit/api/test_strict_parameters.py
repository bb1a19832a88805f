# SPDX-License-Identifier: Apache-2.0
"""What the API does not read over: unknown query parameters, and what stands twice. And HEAD."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dev.openapi_contract import current
from tests.support.api_server import ApiServer
from tests.support.fake_director import FakeDirector

WEB = {"name": "web", "listeners": ["192.0.2.10:80/tcp"], "backends": {"web1": {"address": "192.0.2.21"}}}
STREAMS = ("/v1/events", "/v1/live", "/v1/trace")


@pytest.fixture
def director() -> FakeDirector:
    return FakeDirector()


@pytest.fixture
def server(director: FakeDirector, tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(director, tmp_path / "api.sock") as server:
        server.client.post("/v1/services", WEB)
        yield server


class Raw:
    """A whole answer, as it came, to a request as it is written here."""

    def __init__(self, server: ApiServer, request: str, body: bytes = b"") -> None:
        head = f"{request}\r\nhost: localhost\r\nconnection: close\r\n"
        if body:
            head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(str(server.path))
            connection.sendall(head.encode() + b"\r\n" + body)
            answer = b""
            while part := connection.recv(65536):
                answer += part
        text, _, self.content = answer.partition(b"\r\n\r\n")
        lines = text.decode().split("\r\n")
        self.status = int(lines[0].split()[1])
        self.headers = dict(line.lower().split(": ", 1) for line in lines[1:])

    @property
    def json(self) -> Any:
        return json.loads(self.content)


def operations() -> list[tuple[str, str]]:
    """Method and path of each, with names that are there."""
    known = {
        "service": "web",
        "backend": "web1",
        "revision": "1",
        "prefix": "203.0.113.0/24",
        "token": "spare",
        "session": "0123456789ab",
        "name": "one",
    }
    return [
        (method.upper(), path.format(**known)) for path, item in current()["paths"].items() for method in item
    ]


@pytest.mark.parametrize(("method", "path"), operations())
def test_unknown_query_parameters_are_refused(
    server: ApiServer, director: FakeDirector, method: str, path: str
) -> None:
    before = director.tag()

    answer = Raw(server, f"{method} {path}?force=true&surely=not HTTP/1.1")

    assert answer.status == 422
    assert {each["parameter"] for each in answer.json["errors"]} <= {"surely", "force"}
    assert "there is no query parameter" in answer.json["detail"]
    assert director.tag() == before


def test_a_slip_is_told_what_may_be_meant(server: ApiServer) -> None:
    answer = Raw(server, "DELETE /v1/services/web/backends/web1?froce=true HTTP/1.1")

    assert answer.json["detail"] == "there is no query parameter 'froce': did you mean 'force'?"


def test_a_query_parameter_stands_once(server: ApiServer) -> None:
    answer = Raw(server, "GET /v1/services/web/backends/web1?timeout=1s&timeout=2s HTTP/1.1")

    assert (answer.status, answer.json["type"]) == (400, "urn:xdpdirector:problem:repeated")


def test_a_list_of_values_may_be_several_parameters(server: ApiServer) -> None:
    answer = Raw(server, "GET /v1/trace?service=web&service=web&seconds=0.01 HTTP/1.1")

    assert answer.status == 200


REPEATED = {
    "at the top": (b'{"weight": 1, "weight": 2}', "/weight"),
    "written in two ways": (b'{"weight": 1, "we\\u0069ght": 2}', "/weight"),
    "deep inside": (b'{"a": [{"b": {"c": 1, "d": 2, "c": 1}}]}', "/a/0/b/c"),
    "with a slash": (b'{"a/b": 1, "a/b": 1}', "/a~1b"),
}


@pytest.mark.parametrize(("body", "pointer"), [pytest.param(*row, id=name) for name, row in REPEATED.items()])
def test_a_key_stands_once(server: ApiServer, director: FakeDirector, body: bytes, pointer: str) -> None:
    before = director.tag()

    answer = Raw(server, "PATCH /v1/services/web/backends/web1 HTTP/1.1", body)

    assert (answer.status, answer.json["type"]) == (400, "urn:xdpdirector:problem:repeated")
    assert [fault["pointer"] for fault in answer.json["errors"]] == [pointer]
    assert director.tag() == before


@pytest.mark.parametrize(
    ("header", "value"),
    [("authorization", "Bearer x"), ("change-reason", "because"), ("content-type", "application/json")],
)
def test_a_header_stands_once(server: ApiServer, header: str, value: str) -> None:
    lines = f"\r\n{header}: {value}\r\n{header}: {value}"

    answer = Raw(server, f"DELETE /v1/services/web HTTP/1.1{lines}")

    assert (answer.status, answer.json["type"]) == (400, "urn:xdpdirector:problem:repeated")
    assert header in answer.json["detail"]


def test_an_idempotency_key_stands_once(server: ApiServer) -> None:
    lines = "\r\nidempotency-key: a\r\nidempotency-key: b"

    answer = Raw(server, f"POST /v1/services/web/backends/web1/drain HTTP/1.1{lines}")

    assert (answer.status, answer.json["type"]) == (400, "urn:xdpdirector:problem:repeated")


def test_several_lines_of_a_list_are_one_list(server: ApiServer) -> None:
    tag = Raw(server, "GET /v1/services/web HTTP/1.1").headers["etag"]

    lines = f'\r\nif-match: "other"\r\nif-match: {tag}'
    answer = Raw(server, f"DELETE /v1/services/web HTTP/1.1{lines}")

    assert answer.status == 204


def gets() -> list[str]:
    return [path for method, path in operations() if method == "GET"]


@pytest.mark.parametrize("path", [*gets(), "/openapi.json"])
def test_head_is_get_without_content(server: ApiServer, path: str) -> None:
    server.client.post("/v1/guard/deny", {"prefix": "203.0.113.0/24"})

    head = Raw(server, f"HEAD {path} HTTP/1.1")

    assert head.status == 200
    assert head.content == b""
    if not path.startswith(STREAMS):
        got = Raw(server, f"GET {path} HTTP/1.1").headers
        assert {name: head.headers.get(name) for name in ("content-type", "etag")} == {
            name: got.get(name) for name in ("content-type", "etag")
        }


def test_head_of_what_is_not_there(server: ApiServer) -> None:
    answer = Raw(server, "HEAD /v1/services/mail HTTP/1.1")

    assert (answer.status, answer.content) == (404, b"")


def test_head_is_among_what_is_allowed(server: ApiServer) -> None:
    answer = Raw(server, "PUT /v1/services HTTP/1.1")

    assert (answer.status, answer.headers["allow"]) == (405, "get, head, post")


def test_head_begins_no_change(server: ApiServer) -> None:
    assert Raw(server, "HEAD /v1/services/web/backends/web1/drain HTTP/1.1").status == 405
