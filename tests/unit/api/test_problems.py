# SPDX-License-Identifier: Apache-2.0
"""Every error is a problem document: raw HTTP, as any client sees it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from tests.support.api_server import ApiServer
from tests.support.fake_director import FakeDirector
from xdpdirector import errors
from xdpdirector.api.app import create_app
from xdpdirector.api.http import problems
from xdpdirector.client import UnixConnection

JSON = {"content-type": "application/json"}
WEB = {"name": "web", "listeners": ["192.0.2.10:80/tcp"]}
DOCUMENT = create_app(FakeDirector()).openapi()
LARGE = b'{"name": "' + b"x" * (1 << 20) + b'"}'


TREE = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.DirectorError)
]
STATUS_AND_EXIT = {  # the whole tree by hand, so that a new class needs a decision
    "internal": (500, 1),
    "invalid": (422, 2),
    "configuration": (422, 2),
    "capture": (422, 2),
    "not-unicode": (400, 2),
    "repeated": (400, 2),
    "not-found": (404, 2),
    "conflict": (409, 4),
    "stale": (412, 4),
    "reused-key": (422, 2),
    "foreign-program": (409, 4),
    "already-running": (409, 4),
    "unreachable": (503, 3),
    "timed-out": (504, 5),
    "not-allowed": (403, 6),
    "not-authenticated": (401, 6),
    "overloaded": (503, 3),
    "too-many-requests": (429, 3),
    "capacity": (507, 4),
    "dataplane": (500, 1),
    "loader": (500, 1),
    "bcc": (500, 1),
    "store": (503, 1),
    "damaged-store": (503, 1),
    "foreign-store": (503, 1),
    "superseded": (409, 4),
    "uncertain": (503, 1),
}


@pytest.fixture(scope="module")
def director() -> FakeDirector:
    return FakeDirector()


@pytest.fixture(scope="module")
def server(director: FakeDirector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with ApiServer(director, tmp_path_factory.mktemp("api") / "api.sock") as server:
        yield server


@pytest.fixture(autouse=True)
def mended(director: FakeDirector) -> Iterator[None]:
    yield
    director.broken = None


def ask(
    path: Path, method: str, target: str, body: Any = None, headers: dict[str, str] = JSON
) -> HTTPResponse:
    connection = UnixConnection(path, 30)
    content = json.dumps(body).encode() if isinstance(body, dict | list) else body
    try:
        connection.request(method, target, body=content, headers=headers)
        answer = connection.getresponse()
        answer.content = answer.read()  # type: ignore[attr-defined]
        return answer
    finally:
        connection.close()


def problem(answer: HTTPResponse) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = json.loads(answer.content)  # type: ignore[attr-defined]
    assert document["status"] == answer.status
    assert {"type", "title", "detail", "instance"} <= set(document)
    return document


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_each_error_has_its_status_and_comes_back(
    server: ApiServer, director: FakeDirector, kind: type[errors.DirectorError]
) -> None:
    director.broken = kind("the thing and the remedy", pointer="/a/0")
    status, exit_code = STATUS_AND_EXIT[kind.slug]

    document = problem(ask(server.path, "GET", "/v1/services"))
    with pytest.raises(errors.DirectorError) as caught:
        server.client.get("/v1/services")

    assert document == {
        "type": problems.TYPE + kind.slug,
        "title": kind.title,
        "status": status,
        "detail": "the thing and the remedy",
        "instance": "/v1/services",
        "errors": [{"detail": "the thing and the remedy", "pointer": "/a/0"}],
    }
    assert type(caught.value) is kind
    assert (caught.value.detail, caught.value.pointer) == ("the thing and the remedy", "/a/0")
    assert caught.value.exit_code == exit_code


def test_a_bug_says_nothing_of_the_inside(server: ApiServer, director: FakeDirector) -> None:
    director.broken = RuntimeError("secret")

    document = problem(ask(server.path, "GET", "/v1/services"))

    assert (document["status"], document["type"]) == (500, problems.TYPE + "internal")
    assert "secret" not in json.dumps(document)


@pytest.mark.parametrize(
    ("method", "target", "body", "headers", "status", "slug"),
    [
        ("GET", "/v2", None, JSON, 404, "not-found"),
        ("GET", "/v1/services/nope", None, JSON, 404, "not-found"),
        ("GET", "/v1/services/%2e%2e%00", None, JSON, 404, "not-found"),
        ("GET", "/doc", None, JSON, 404, "not-found"),
        ("DELETE", "/v1/services", None, JSON, 405, "method-not-allowed"),
        ("POST", "/v1/services", LARGE, JSON, 413, "too-large"),
        ("POST", "/v1/services", iter([LARGE]), JSON, 413, "too-large"),
        ("POST", "/v1/services", b"name=web", {}, 415, "unsupported-media-type"),
        ("POST", "/v1/services", b"{", JSON, 400, "invalid"),
        ("POST", "/v1/services", b'{"name": "\xff"}', JSON, 400, "invalid"),
        ("POST", "/v1/services", b"[" * 100_000, JSON, 400, "invalid"),
        ("POST", "/v1/services", b'"\\ud800"' + b"[" * 100_000, JSON, 400, "invalid"),
        ("POST", "/v1/services", None, JSON, 422, "invalid"),
        ("POST", "/v1/services", b"[]", JSON, 422, "invalid"),
        ("POST", "/v1/services", b'{"name": "w", "listeners": ["\\ud800"]}', JSON, 400, "not-unicode"),
        ("PATCH", "/v1/services/web", b"null", JSON, 422, "invalid"),
        ("GET", "/v1/connections?limit=0", None, JSON, 422, "invalid"),
        ("GET", "/v1/connections?client=here", None, JSON, 422, "invalid"),
    ],
    ids=[
        "unknown path", "unknown service", "odd name", "docs are off", "wrong method", "declared too large",
        "chunked too large", "not JSON by its type", "not JSON", "not UTF-8", "nested too deep",
        "and with a surrogate", "no body",
        "a list", "lone surrogate", "null as a patch", "limit 0", "client is no address",
    ],
)  # fmt: skip
def test_what_the_framework_refuses_is_a_problem_too(
    server: ApiServer, method: str, target: str, body: Any, headers: dict[str, str], status: int, slug: str
) -> None:
    document = problem(ask(server.path, method, target, body, headers))

    assert (document["status"], document["type"]) == (status, problems.TYPE + slug)


@pytest.mark.parametrize(
    ("method", "target", "body", "pointer"),
    [
        ("POST", "/v1/services/web/backends/web1/drain", rb'{"reason": "x\ud800y"}', "/reason"),
        ("POST", "/v1/services/web/backends", rb'{"name": "b", "x\uDFFFy": 1}', "/?"),
        (
            "PATCH",
            "/v1/services/web",
            rb'{"check": {"headers": [{}, {"a": "\udc00"}]}}',
            "/check/headers/1/a",
        ),
        (
            "PUT",
            "/v1/config",
            rb'{"services": {"w": {"listeners": ["\ud83d x"]}}}',
            "/services/w/listeners/0",
        ),
        ("POST", "/v1/tokens", rb'{"name": "\ud800", "role": "read"}', "/name"),
        ("POST", "/v1/explain", rb'{"client": "\ud800"}', "/client"),
    ],
    ids=["reason", "a key", "in a list", "the configuration", "a token", "explain"],
)
def test_half_a_surrogate_pair_is_refused_with_its_place(
    server: ApiServer, method: str, target: str, body: bytes, pointer: str
) -> None:
    document = problem(ask(server.path, method, target, body, JSON))

    assert (document["status"], document["type"]) == (400, problems.TYPE + "not-unicode")
    assert [fault["pointer"] for fault in document["errors"]] == [pointer]


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/healthz", "GET, HEAD"),
        ("/v1/services", "GET, HEAD, POST"),
        ("/v1/services/web", "DELETE, GET, HEAD, PATCH, PUT"),
        ("/v1/guard/deny/203.0.113.0/24", "DELETE, GET, HEAD, PUT"),
        ("/v1/sessions/links", "POST"),
        ("/v1/sessions/0123456789ab", "DELETE"),
    ],
)
def test_method_not_allowed_names_the_methods(server: ApiServer, path: str, methods: str) -> None:
    assert ask(server.path, "OPTIONS", path).headers["allow"] == methods


@pytest.mark.parametrize("path", sorted(DOCUMENT["paths"]))
def test_each_path_offers_what_the_document_says_of_it(server: ApiServer, path: str) -> None:
    """Also one that a path with a parameter would match as well."""
    methods = {method.upper() for method in DOCUMENT["paths"][path]}
    response = ask(server.path, "OPTIONS", re.sub(r"{.*?}", "1", path))

    assert set(response.headers["allow"].split(", ")) - {"HEAD"} == methods - {"HEAD"}


def test_a_literal_is_no_value_of_a_parameter(server: ApiServer) -> None:
    document = problem(ask(server.path, "DELETE", "/v1/sessions/links"))

    assert (document["status"], document["type"]) == (405, problems.TYPE + "method-not-allowed")


@pytest.mark.parametrize(
    ("change", "pointers"),
    [
        ({"listeners": ["192.0.2.10:80/tcp", "192.0.2.10:0/tcp"]}, ["/listeners/1"]),
        ({"listeners": []}, ["/listeners"]),
        ({"listeners": ["a"], "ring_slots": 1}, ["/listeners/0", "/ring_slots"]),
        ({"name": "a b"}, ["/name"]),
        ({"colour": "red", "a/b~c": 1}, ["/colour", "/a~1b~0c"]),
        ({"scheduler": "best"}, ["/scheduler"]),
        ({"check": {"type": "smoke"}}, ["/check/type"]),
        ({"check": {"type": "http", "path": "x"}}, ["/check/path"]),
        ({"check": {"type": "tcp", "path": "/x"}}, ["/check/path"]),
        ({"check": {"type": "tcp", "timeout": "9s"}}, ["/check"]),
        ({"backends": {"web1": {"address": "here"}}}, ["/backends/web1/address"]),
        ({"backends": {"web1": {}}}, ["/backends/web1/address"]),
        ({"backends": {"a b": {"address": "192.0.2.21"}}}, ["/backends/a b"]),
        ({"backends": {"web1": {"address": "192.0.2.10"}}}, [""]),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_faults_point_into_the_body(server: ApiServer, change: dict[str, Any], pointers: list[str]) -> None:
    document = problem(ask(server.path, "POST", "/v1/services", {**WEB, **change}))

    assert document["status"] == 422
    assert [fault["pointer"] for fault in document["errors"]] == pointers
    assert all(fault["detail"] for fault in document["errors"])


@pytest.mark.parametrize(
    ("method", "target", "body", "sentence"),
    [
        ("POST", "/v1/services", {**WEB, "ring_slots": 1}, "ring_slots: 1 is out of range: use 251 to 131071"),
        ("POST", "/v1/services", {**WEB, "colour": 1}, "unknown key 'colour': the keys there are"),
        ("POST", "/v1/services", {**WEB, "schedulr": "rr"}, "unknown key 'schedulr': did you mean 'scheduler'?"),
        ("POST", "/v1/services", {**WEB, "listeners": "a"}, 'listeners: must be a list, not \'a\': write ["a"]'),
        ("POST", "/v1/services", {"listeners": ["192.0.2.10:80/tcp"]}, "the key 'name' is missing: add it"),
        ("POST", "/v1/services", [], "the document must hold keys and values, not a list"),
        ("POST", "/v1/services", None, "the request has no body: send a JSON document"),
        (
            "POST",
            "/v1/services/web/backends",
            {"name": "web1", "address": "192.0.2.21", "port": 80},
            "unknown key 'port': a backend has no port, because direct routing keeps the destination port",
        ),
        (
            "PUT",
            "/v1/config",
            {"interfaces": ["eth0"], "services": {"web": {"listeners": ["192.0.2.10:80/tcp"], "on_down": "x"}}},
            "on_down of service 'web': unknown on_down 'x': use 'reject', 'drop' or 'schedule'",
        ),
        ("GET", "/v1/connections?limit=0", None, "limit: '0' is out of range: use 1 to 10000"),
        ("GET", "/v1/connections?limit=many", None, "limit: 'many' is not a whole number: use 1 to 10000"),
        ("GET", "/v1/connections?cursor=x", None, "cursor: this is no cursor of this list"),
        ("GET", "/v1/revisions/none", None, "revision: 'none' is not a whole number"),
        ("GET", "/v1/services/web/backends/web1?wait=up", None, "wait: unknown wait 'up': use 'drained'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_as_of_the_file(
    server: ApiServer, method: str, target: str, body: Any, sentence: str
) -> None:
    document = problem(ask(server.path, method, target, body))

    assert document["status"] == 422
    assert sentence in document["detail"]
    assert sentence in document["errors"][0]["detail"]


def test_a_fault_of_a_parameter_names_it(server: ApiServer) -> None:
    document = problem(ask(server.path, "GET", "/v1/connections?limit=many&cursor=x"))

    assert [fault["parameter"] for fault in document["errors"]] == ["cursor", "limit"]


@pytest.mark.parametrize(
    ("target", "accept", "status"),
    [
        pytest.param("/v1/services", "application/json", 200, id="JSON"),
        pytest.param("/v1/services", "text/html, */*;q=0.1", 200, id="a browser"),
        pytest.param("/v1/services", "application/*", 200, id="a range"),
        pytest.param("/v1/services", "application/problem+json", 200, id="problems alone"),
        pytest.param("/v1/services", "text/html", 406, id="HTML"),
        pytest.param("/v1/services", "application/json;q=0, image/png", 406, id="anything but JSON"),
        pytest.param("/v1/services", "nonsense;q=x", 406, id="nonsense"),
        pytest.param("/v1/services", "application/yaml", 406, id="YAML where there is none"),
        pytest.param("/v1/config", "application/yaml", 200, id="YAML where there is some"),
        pytest.param("/v1/config", "text/html", 406, id="neither"),
        pytest.param("/metrics", "text/plain", 200, id="metrics choose for themselves"),
    ],
)
def test_what_the_client_takes_is_sent_or_refused(
    server: ApiServer, target: str, accept: str, status: int
) -> None:
    answer = ask(server.path, "GET", target, headers={"accept": accept})

    assert answer.status == status
    if status == 406:
        assert problem(answer)["type"] == problems.TYPE + "not-acceptable"
