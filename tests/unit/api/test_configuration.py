# SPDX-License-Identifier: Apache-2.0
"""/v1/config, /v1/revisions, ETags and cursors, as any HTTP client sees them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.api_server import ApiServer
from tests.support.fake_director import FakeDirector
from xdpdirector.client import UnixConnection
from xdpdirector.config import config_file

WEB = {"listeners": ["192.0.2.10:80/tcp"], "backends": {"web1": {"address": "192.0.2.21"}}}
MAIL = {"listeners": ["192.0.2.10:25/tcp", "[2001:db8::10]:25/tcp"]}


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def etag(self) -> str:
        return self.headers["etag"]


class Http:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, method: str, target: str, body: Any = None, **headers: str) -> Answer:
        """Header names with `_` for `-`."""
        connection = UnixConnection(self._path, 30)
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            fields["content-type"] = "application/json"
        try:
            connection.request(method, target, json.dumps(body) if body is not None else None, fields)
            answer = connection.getresponse()
            known = {name.lower(): value for name, value in answer.headers.items()}
            return Answer(answer.status, known, answer.read())
        finally:
            connection.close()


@pytest.fixture
def director() -> FakeDirector:
    return FakeDirector()


@pytest.fixture
def http(director: FakeDirector, tmp_path: Path) -> Iterator[Http]:
    """With the service `web`."""
    with ApiServer(director, tmp_path / "api.sock") as server:
        http = Http(server.path)
        http("POST", "/v1/services", {"name": "web", **WEB})
        yield http


# The document


def test_what_is_shown_can_be_put_and_changes_nothing(http: Http) -> None:
    shown = http("GET", "/v1/config")

    plan = http("PUT", "/v1/config", shown.json, if_match=shown.etag)

    assert (plan.status, plan.json["changes"]) == (200, [])
    assert plan.etag == shown.etag
    assert shown.json["services"]["web"]["backends"]["web1"]["admin"] == "enabled"


def test_yaml_is_what_a_file_would_say(http: Http, tmp_path: Path) -> None:
    shown = http("GET", "/v1/config", accept="application/yaml")
    (tmp_path / "director.yaml").write_bytes(shown.content)

    read = config_file.load(tmp_path / "director.yaml")

    assert shown.headers["content-type"].startswith("application/yaml")
    assert json.loads(read.model_dump_json(exclude_none=True)) == http("GET", "/v1/config").json


def test_who_has_it_already_gets_no_second_copy(http: Http) -> None:
    first = http("GET", "/v1/config")
    again = http("GET", "/v1/config", if_none_match=f'"other", W/{first.etag}')
    http("PATCH", "/v1/services/web", {"on_empty": "drop"})
    changed = http("GET", "/v1/config", if_none_match=first.etag)

    assert (again.status, again.content, again.etag) == (304, b"", first.etag)
    assert changed.status == 200
    assert changed.etag != first.etag


def test_a_plan_says_what_would_change(http: Http, director: FakeDirector) -> None:
    director.busy["web", "web1"] = 3
    document = {"interfaces": ["eth0"], "services": {"mail": MAIL}}

    planned = http("PUT", "/v1/config?dry_run=true", document)
    still = http("GET", "/v1/config").json["services"]
    done = http("PUT", "/v1/config", document, change_reason="moving house")

    assert [(each["action"], each["pointer"]) for each in planned.json["changes"]] == [
        ("added", "/services/mail"),
        ("removed", "/services/web"),
    ]
    assert planned.json["affected"] == [
        {
            "service": "web",
            "backend": "web1",
            "connections": 3,
            "exact": True,
            "why": "the service is removed",
        }
    ]
    assert (planned.json["dry_run"], planned.json["revision"], list(still)) == (True, 1, ["web"])
    assert done.json == {**planned.json, "dry_run": False, "revision": 2}
    assert http("GET", "/v1/revisions/2").json["reason"] == "replace the configuration: moving house"


# Conditions

WRITES = [
    pytest.param("PUT", "/v1/config", {"interfaces": ["eth0"]}, "/v1/config", id="the configuration"),
    pytest.param("POST", "/v1/revisions/1/rollback", None, "/v1/config", id="a rollback"),
    pytest.param("POST", "/v1/services", {"name": "mail", **MAIL}, "/v1/services", id="a new service"),
    pytest.param("PUT", "/v1/services/web", WEB, "/v1/services/web", id="a service"),
    pytest.param("PATCH", "/v1/services/web", {"on_empty": "drop"}, "/v1/services/web", id="a patch"),
    pytest.param("DELETE", "/v1/services/web", None, "/v1/services/web", id="a service that goes"),
    pytest.param(
        "POST",
        "/v1/services/web/backends",
        {"name": "web2", "address": "192.0.2.22"},
        "/v1/services/web/backends",
        id="a new backend",
    ),
    pytest.param(
        "PATCH",
        "/v1/services/web/backends/web1",
        {"weight": 7},
        "/v1/services/web/backends/web1",
        id="a backend",
    ),
    pytest.param(
        "DELETE",
        "/v1/services/web/backends/web1",
        None,
        "/v1/services/web/backends/web1",
        id="a backend that goes",
    ),
    *(
        pytest.param(
            "POST",
            f"/v1/services/web/backends/web1/{verb}",
            None,
            "/v1/services/web/backends/web1",
            id=verb,
        )
        for verb in ("drain", "enable", "maintenance")
    ),
]


@pytest.mark.parametrize(("method", "target", "body", "seen"), WRITES)
def test_a_write_takes_if_match(http: Http, method: str, target: str, body: Any, seen: str) -> None:
    etag = http("GET", seen).etag
    http("PATCH", "/v1/services/web/backends/web1", {"weight": 3})

    stale = http(method, target, body, if_match=etag)
    weak = http(method, target, body, if_match=f"W/{http('GET', seen).etag}")
    listed = http(method, target, body, if_match=f'"other", {http("GET", seen).etag}')

    assert (stale.status, weak.status) == (412, 412)
    assert stale.json["type"] == "urn:xdpdirector:problem:stale"
    assert listed.status < 300


@pytest.mark.parametrize("field", ["*", None], ids=["any", "none"])
@pytest.mark.parametrize(("method", "target", "body", "seen"), WRITES)
def test_without_a_condition_it_is_written(
    http: Http, method: str, target: str, body: Any, seen: str, field: str | None
) -> None:
    assert http(method, target, body, **({} if field is None else {"if_match": field})).status < 300


def test_what_a_write_answers_can_be_the_next_ones_condition(http: Http) -> None:
    path = "/v1/services/web/backends/web1"
    first = http("PATCH", path, {"weight": 3})
    second = http("POST", f"{path}/drain", {"reason": "new memory"}, if_match=first.etag)

    assert second.status == 200
    assert second.etag == http("GET", path).etag != first.etag


# Revisions and pages


def test_revisions_come_in_pages(http: Http) -> None:
    for weight in range(2, 8):
        http("PATCH", "/v1/services/web/backends/web1", {"weight": weight})

    found, target = [], "/v1/revisions?limit=3"
    while target:
        page = http("GET", target).json
        found.append([each["revision"] for each in page["items"]])
        target = f"/v1/revisions?limit=3&cursor={page['next']}" if page["next"] else ""

    assert found == [[7, 6, 5], [4, 3, 2], [1]]


def test_connections_come_in_pages(http: Http, director: FakeDirector) -> None:
    director.busy["web", "web1"] = 5

    first = http("GET", "/v1/connections?limit=3").json
    second = http("GET", f"/v1/connections?limit=3&cursor={first['next']}").json

    ports = [each["client_port"] for page in (first, second) for each in page["items"]]
    assert ports == [40000, 40001, 40002, 40003, 40004]
    assert second["next"] is None


@pytest.mark.parametrize("cursor", ["x", "", "%00", "cmV2aXNpb25zOi0x", "Y29ubmVjdGlvbnM6Mw"])
def test_a_broken_cursor_is_refused(http: Http, cursor: str) -> None:
    answer = http("GET", f"/v1/revisions?cursor={cursor}")

    assert answer.status == 422
    assert answer.json["errors"][0]["parameter"] == "cursor"


def test_a_rollback_says_what_it_changes(http: Http) -> None:
    http("PATCH", "/v1/services/web/backends/web1", {"weight": 9})

    planned = http("POST", "/v1/revisions/1/rollback?dry_run=true")
    done = http("POST", "/v1/revisions/1/rollback", {"reason": "it was better"})

    [change] = planned.json["changes"]
    assert (change["pointer"], change["before"], change["after"]) == (
        "/services/web/backends/web1/weight",
        9,
        1,
    )
    assert done.json["changes"] == planned.json["changes"]
    assert http("GET", "/v1/revisions/3").json["reason"] == "roll back to revision 1: it was better"


@pytest.mark.parametrize("target", ["/v1/revisions/9", "/v1/revisions/9/rollback"])
def test_an_unknown_revision_is_not_found(http: Http, target: str) -> None:
    answer = http("POST" if target.endswith("rollback") else "GET", target)

    assert (answer.status, answer.json["type"]) == (404, "urn:xdpdirector:problem:not-found")


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("interfaces: [eth0]\n", []),
        ("interfaces: [eth0\n", [(2, 1)]),
        ("", [(1, 1)]),
        (
            "interfaces: [eth0]\nservices:\n  web:\n    listeners: ['192.0.2.10:80/tcp']\n    sheduler: rr\n"
            "    backends:\n      web1: {address: 192.0.2.300}\n",
            [(5, 5), (7, 14)],
        ),
    ],
    ids=["sound", "no YAML", "empty", "two faults"],
)
def test_a_text_is_checked_with_its_places(http: Http, text: str, faults: list[tuple[int, int]]) -> None:
    checked = http("POST", "/v1/config/check", {"yaml": text}).json

    assert [(each["line"], each["column"]) for each in checked["faults"]] == faults
    assert (checked["document"] is None) == bool(faults)
    assert all(each["detail"] for each in checked["faults"])
