# SPDX-License-Identifier: Apache-2.0
"""Labels and selectors; lists with filter, order and fields; verbs for many; a list to begin a watch with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.staged_daemon import StagedDaemon
from tests.unit.api.test_configuration import Http
from xdpdirector.cli import main
from xdpdirector.model import labels

WEB = {
    "listeners": ["192.0.2.10:80/tcp"],
    "labels": {"team": "shop"},
    "backends": {
        "web1": {"address": "192.0.2.21", "weight": 3, "labels": {"rack": "b3", "disk": "old"}},
        "web3": {"address": "192.0.2.23", "weight": 9, "labels": {"rack": "b4"}},
    },
}
MAIL = {
    "listeners": ["192.0.2.11:25/tcp"],
    "backends": {"mail1": {"address": "192.0.2.31", "weight": 5, "labels": {"rack": "b3"}}},
}
B3 = {"web/web1", "mail/mail1"}


@pytest.fixture
def daemon() -> Iterator[StagedDaemon]:
    with StagedDaemon() as daemon:
        for name, body in (("web", WEB), ("mail", MAIL)):
            daemon.client.post("/v1/services", {"name": name, **body})
        yield daemon


@pytest.fixture
def http(daemon: StagedDaemon) -> Http:
    return Http(daemon.socket)


LABELS = {"rack": "b3", "disk": "old", "zone.example/name": "a"}


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        ("rack=b3", True),
        ("rack==b3", True),
        ("rack = b4", False),
        ("rack!=b4", True),
        ("gone!=b4", True),
        ("disk", True),
        ("gone", False),
        ("!gone", True),
        ("!disk", False),
        ("rack in (b3, b4)", True),
        ("rack notin (b3,b4)", False),
        ("gone notin (b3)", True),
        ("rack=b3,disk=old", True),
        ("rack=b3,disk=new", False),
        ("zone.example/name=a", True),
    ],
)
def test_selectors(selector: str, matches: bool) -> None:
    assert labels.parse(selector).matches(LABELS) is matches


@pytest.mark.parametrize(
    "text", ["", ",", "=b3", "rack=b3,,disk", "rack=b 3", "rack in b3", "rack=" + "b" * 70, "a" * 99]
)
def test_what_is_no_selector(text: str) -> None:
    with pytest.raises(ValueError, match="is no selector"):
        labels.parse(text)


def test_a_long_selector_is_read_in_one_go() -> None:
    labels.parse(",".join(f"key{number}=value" for number in range(20_000)))

    with pytest.raises(ValueError, match="is no selector"):
        labels.parse("a" + " " * 100_000 + "b")


def names(answer: Any) -> list[str]:
    return [each["name"] for each in answer.json["items"]]


def test_lists_are_chosen_from(http: Http) -> None:
    def ask(path: str, **query: str) -> list[str]:
        return names(
            http("GET", path + "?" + "&".join(f"{key}={quote(value)}" for key, value in query.items()))
        )

    assert ask("/v1/services", selector="team=shop") == ["web"]
    assert ask("/v1/backends", selector="rack=b3") == ["web1", "mail1"]
    assert ask("/v1/backends", selector="rack=b3,disk!=old") == ["mail1"]
    assert ask("/v1/services/web/backends", selector="rack=b4") == ["web3"]
    assert ask("/v1/backends", admin="drain") == []
    assert ask("/v1/backends", sort="-weight") == ["web3", "mail1", "web1"]
    assert ask("/v1/backends", sort="service,-weight") == ["mail1", "web3", "web1"]


def test_only_some_fields(http: Http) -> None:
    items = http("GET", "/v1/backends?fields=name,labels&selector=disk").json["items"]

    assert items == [{"name": "web1", "labels": {"rack": "b3", "disk": "old"}}]


@pytest.mark.parametrize(
    "query", ["sort=colour", "fields=colour", "sort=traffic", "selector=", "operational=so"]
)
@pytest.mark.parametrize("path", ["/v1/services", "/v1/backends", "/v1/services/web/backends"])
def test_what_a_list_cannot_do_is_refused(http: Http, path: str, query: str) -> None:
    refused = http("GET", f"{path}?{query}")

    assert refused.status == 422
    assert query.partition("=")[0] in refused.content.decode()


@pytest.mark.parametrize("query", ["", "sort=-weight", "admin=enabled", "selector=rack"])
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_pages_have_what_the_whole_list_has(http: Http, query: str, limit: int) -> None:
    http("POST", "/v1/services", {"name": "empty", "listeners": ["192.0.2.12:25/tcp"]})
    whole = http("GET", f"/v1/backends?{query}").json
    assert (len(whole["items"]), whole["next"]) == (3, None)

    paged, cursor = [], ""
    while True:
        page = http("GET", f"/v1/backends?{query}&limit={limit}{cursor}").json
        paged += page["items"]
        if page["next"] is None:
            break
        assert len(page["items"]) == limit
        cursor = f"&cursor={page['next']}"

    assert paged == whole["items"]


@pytest.mark.parametrize(
    ("verb", "admin"), [("drain", "drain"), ("maintenance", "maintenance"), ("enable", "enabled")]
)
def test_one_request_for_many_is_one_revision(http: Http, verb: str, admin: str) -> None:
    before = http("GET", "/v1/revisions?limit=1").json["items"][0]["revision"]

    answer = http("POST", f"/v1/backends/{verb}?selector=rack%3Db3", {"reason": "new switch"})

    assert {f"{each['service']}/{each['name']}" for each in answer.json["items"]} == B3
    wanted = {
        f"{each['service']}/{each['name']}"
        for each in http("GET", f"/v1/backends?admin={admin}").json["items"]
    }
    assert wanted >= B3
    assert ("web/web3" in wanted) == (verb == "enable")
    newest = http("GET", "/v1/revisions?limit=1").json["items"][0]
    assert newest["revision"] == before + 1
    assert "new switch" in newest["reason"]


def test_many_are_tried_and_bound_to_what_was_read(http: Http) -> None:
    path, tag = "/v1/backends/maintenance?selector=rack%3Db3", http("GET", "/v1/backends").etag

    plan = http("POST", f"{path}&dry_run=true").json

    assert {each["pointer"] for each in plan["changes"]} == {
        "/services/web/backends/web1/admin",
        "/services/mail/backends/mail1/admin",
    }
    assert http("GET", "/v1/backends").etag == tag
    assert http("POST", path, if_match='"other"').status == 412
    assert http("POST", path, if_match=tag).status == 200


def test_nobody_is_found_and_nobody_is_meant(http: Http) -> None:
    assert http("POST", "/v1/backends/drain?selector=rack%3Db9").status == 404
    assert http("POST", "/v1/backends/drain").status == 422


def test_labels_are_patched_key_by_key(http: Http) -> None:
    patched = http("PATCH", "/v1/services/web/backends/web1", {"labels": {"disk": None, "cpu": "arm"}})

    assert patched.json["labels"] == {"rack": "b3", "cpu": "arm"}
    assert http("PATCH", "/v1/services/web", {"labels": {"a b": "c"}}).status == 422


@pytest.mark.parametrize(
    "path", ["/v1/services", "/v1/backends", "/v1/services/web/backends", "/v1/guard/deny", "/v1/revisions"]
)
def test_a_watch_goes_on_where_a_list_ended(http: Http, path: str) -> None:
    last = http("GET", path).json["last_event_id"]
    http("POST", "/v1/services/web/backends/web3/drain")

    told = http("GET", "/v1/events?follow=false", last_event_id=str(last)).content.decode()

    kinds = [line.removeprefix("event: ") for line in told.splitlines() if line.startswith("event: ")]
    assert "backend.drain" in kinds
    assert "gap" not in kinds
    assert "service.created" not in kinds


def test_the_command_line(daemon: StagedDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        code = main(["--socket", str(daemon.socket), "backend", *arguments])
        return code, capsys.readouterr().out

    code, text = run("drain", "-l", "rack=b3", "--reason", "new switch", "-o", "json")
    assert code == 0
    assert {f"{each['service']}/{each['name']}" for each in json.loads(text)["items"]} == B3
    assert run("enable", "-l", "rack=b3")[0] == 0
    assert run("set", "web/web3", "--label", "rack=b9", "--label", "gpu=")[0] == 0
    assert [each["name"] for each in json.loads(run("list", "-l", "gpu", "-o", "json")[1])["items"]] == [
        "web3"
    ]
    assert run("set", "web/web3", "--label", "gpu-")[0] == 0
    assert json.loads(run("show", "web/web3", "-o", "json")[1])["labels"] == {"rack": "b9"}
    assert run("drain")[0] == 2
    assert run("drain", "web/web1", "-l", "rack=b3")[0] == 2
