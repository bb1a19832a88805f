# SPDX-License-Identifier: Apache-2.0
"""Changes that are only tried, conditions on what does not exist yet, and what GET gives given to PUT.

Over the real director on a stage, so that what is not done can be seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from socket import gethostname
from typing import Any

import pytest

from dev.openapi_contract import current
from tests.support.staged_daemon import StagedDaemon
from tests.unit.api.test_configuration import Http

WEB = {
    "listeners": ["192.0.2.10:80/tcp"],
    "persistence": {"timeout": "5m"},
    "backends": {
        "web1": {"address": "192.0.2.21", "weight": 3, "labels": {"rack": "b3"}},
        "web2": {"address": "192.0.2.22"},
    },
}
MAIL = {"listeners": ["192.0.2.11:25/tcp"], "backends": {"mail1": {"address": "192.0.2.23"}}}


@pytest.fixture
def daemon() -> Iterator[StagedDaemon]:
    """With the service `web`, a denied prefix and a token."""
    with StagedDaemon() as daemon:
        daemon.client.post("/v1/services", {"name": "web", **WEB})
        daemon.client.post("/v1/guard/deny", {"prefix": "203.0.113.0/24", "reason": "noise"})
        daemon.client.post("/v1/tokens", {"name": "spare", "role": "read"})
        yield daemon


@pytest.fixture
def http(daemon: StagedDaemon) -> Http:
    return Http(daemon.socket)


def everything(http: Http) -> list[Any]:
    """All that a write can change; events come also by themselves."""
    paths = ("/v1/config", "/v1/guard/deny", "/v1/tokens", "/v1/revisions")
    found = [http("GET", path).json for path in paths]
    for each in found:
        each.pop("last_event_id", None)
    return [*found, http("GET", "/v1/fleet").json["leaving"]]


WRITES: dict[str, tuple[str, str, Any]] = {
    "create_service": ("POST", "/v1/services", {"name": "mail", **MAIL}),
    "replace_service": ("PUT", "/v1/services/web", MAIL),
    "patch_service": ("PATCH", "/v1/services/web", {"scheduler": "rr"}),
    "delete_service": ("DELETE", "/v1/services/web", None),
    "create_backend": ("POST", "/v1/services/web/backends", {"name": "web3", "address": "192.0.2.24"}),
    "put_backend": ("PUT", "/v1/services/web/backends/web1", {"address": "192.0.2.24"}),
    "patch_backend": ("PATCH", "/v1/services/web/backends/web1", {"weight": 7}),
    "delete_backend": ("DELETE", "/v1/services/web/backends/web1", None),
    "drain_backend": ("POST", "/v1/services/web/backends/web1/drain", None),
    "enable_backend": ("POST", "/v1/services/web/backends/web1/enable", None),
    "maintain_backend": ("POST", "/v1/services/web/backends/web1/maintenance", {"reason": "ticket"}),
    "drain_backends": ("POST", "/v1/backends/drain?selector=rack%3Db3", None),
    "enable_backends": ("POST", "/v1/backends/enable?selector=rack%3Db3", None),
    "maintain_backends": ("POST", "/v1/backends/maintenance?selector=rack%3Db3", {"reason": "ticket"}),
    "replace_configuration": ("PUT", "/v1/config", {"interfaces": ["eth0"], "services": {}}),
    "roll_back": ("POST", "/v1/revisions/1/rollback", None),
    "create_denial": ("POST", "/v1/guard/deny", {"prefix": "198.51.100.0/24"}),
    "put_denial": ("PUT", "/v1/guard/deny/203.0.113.0/24", {"reason": "more noise"}),
    "delete_denial": ("DELETE", "/v1/guard/deny/203.0.113.0/24", None),
    "replace_denied": ("PUT", "/v1/guard/deny", {"items": []}),
    "drain_director": ("POST", f"/v1/fleet/{gethostname()}/drain", {"reason": "ticket"}),
    "enable_director": ("POST", f"/v1/fleet/{gethostname()}/enable", None),
    "create_token": ("POST", "/v1/tokens", {"name": "new", "role": "read"}),
    "delete_token": ("DELETE", "/v1/tokens/spare", None),
}
NO_CHANGE = {
    "explain",
    "check_configuration",
    "create_session",
    "end_session",
    "delete_session",
    "create_login_link",
}
"""They change nothing that a plan could show."""
NOTHING_TO_CHANGE = {"enable_backend", "enable_backends", "enable_director", "roll_back"}


def tried(path: str) -> str:
    """What only tries the write."""
    return f"{path}{'&' if '?' in path else '?'}dry_run=true"


def test_every_write_is_among_them() -> None:
    operations = {
        operation["operationId"]
        for path in current()["paths"].values()
        for method, operation in path.items()
        if method != "get"
    }

    assert operations - NO_CHANGE == WRITES.keys()


@pytest.mark.parametrize("operation", WRITES)
def test_a_dry_run_changes_nothing_and_tells_what_would_change(http: Http, operation: str) -> None:
    method, path, body = WRITES[operation]
    before = everything(http)

    plan = http(method, tried(path), body)

    assert plan.status == 200
    assert plan.json["dry_run"] is True
    assert bool(plan.json["changes"]) == (operation not in NOTHING_TO_CHANGE)
    assert everything(http) == before


@pytest.mark.parametrize("operation", WRITES)
def test_what_was_only_tried_can_be_done(http: Http, operation: str) -> None:
    method, path, body = WRITES[operation]

    http(method, tried(path), body)

    assert http(method, path, body).status in (200, 201, 204)


def test_a_dry_run_is_not_kept_for_its_key(http: Http) -> None:
    method, path, body = WRITES["create_service"]

    http(method, f"{path}?dry_run=true", body, idempotency_key="one")

    assert http(method, path, body, idempotency_key="one").status == 201


def test_a_dry_run_is_refused_as_the_change_would_be(http: Http) -> None:
    assert http("POST", "/v1/services?dry_run=true", {"name": "web", **MAIL}).status == 409
    assert http("DELETE", "/v1/services/mail?dry_run=true").status == 404
    assert http("PATCH", "/v1/services/web?dry_run=true", {"scheduler": "rr"}, if_match='"x"').status == 412
    assert http("POST", "/v1/tokens?dry_run=true", {"name": "spare", "role": "read"}).status == 409
    assert http("DELETE", "/v1/tokens/other?dry_run=true").status == 404
    assert http("POST", "/v1/guard/deny?dry_run=true", {"prefix": "203.0.113.0/24"}).status == 409


def test_a_dry_run_tells_whom_it_would_cut_off(http: Http) -> None:
    plan = http("POST", "/v1/services/web/backends/web2/maintenance?dry_run=true").json

    assert [(each["backend"], each["connections"]) for each in plan["affected"]] == [("web2", 3)]


def test_a_dry_run_of_a_removal_waits_for_no_drain(http: Http) -> None:
    assert http("DELETE", "/v1/services/web/backends/web2?drain=10m&dry_run=true").status == 200
    assert http("DELETE", "/v1/services/web/backends/web2?dry_run=true").status == 409


@pytest.mark.parametrize("operation", ["create_service", "create_backend", "replace_configuration"])
def test_a_plan_says_507_where_the_change_would(daemon: StagedDaemon, http: Http, operation: str) -> None:
    method, path, body = WRITES[operation]
    if operation == "replace_configuration":
        body = {"interfaces": ["eth0"], "services": {"web": WEB, "mail": MAIL}}
    daemon.stage.plane.room = 2

    tried, done = (http(method, path + query, body) for query in ("?dry_run=true", ""))

    assert (tried.status, done.status) == (507, 507)
    assert tried.json["detail"] == done.json["detail"]


def test_a_plan_of_the_deny_list_says_507(daemon: StagedDaemon, http: Http) -> None:
    items = [{"prefix": f"198.51.{number >> 8}.{number & 255}"} for number in range((1 << 14) + 1)]

    assert http("PUT", "/v1/guard/deny?dry_run=true", {"items": items}).status == 507


# Only what does not exist, only what exists

CREATED = {
    "service": ("/v1/services/mail", MAIL),
    "backend": ("/v1/services/web/backends/web3", {"address": "192.0.2.24"}),
    "denial": ("/v1/guard/deny/198.51.100.0/24", {"reason": "noise"}),
}
EXISTING = {
    "service": ("/v1/services/web", WEB),
    "backend": ("/v1/services/web/backends/web1", {"address": "192.0.2.24"}),
    "denial": ("/v1/guard/deny/203.0.113.0/24", {"reason": "other"}),
    "deny list": ("/v1/guard/deny", {"items": []}),
    "configuration": ("/v1/config", {"interfaces": ["eth0"]}),
}


@pytest.mark.parametrize("thing", CREATED)
def test_put_creates(http: Http, thing: str) -> None:
    path, body = CREATED[thing]

    first, again = (http("PUT", path, body, if_none_match="*") for _ in range(2))

    assert first.status == (200 if thing == "denial" else 201)
    assert first.headers.get("location", path) == path
    assert http("GET", path).headers["etag"] == first.etag
    assert again.status == 412


@pytest.mark.parametrize("thing", EXISTING)
def test_what_is_only_to_be_created_is_not_replaced(http: Http, thing: str) -> None:
    path, body = EXISTING[thing]
    before = everything(http)

    assert http("PUT", path, body, if_none_match="*").status == 412
    assert everything(http) == before


@pytest.mark.parametrize("thing", CREATED)
@pytest.mark.parametrize("condition", ["*", '"some"'])
def test_what_is_only_to_be_replaced_is_not_created(http: Http, thing: str, condition: str) -> None:
    path, body = CREATED[thing]
    before = everything(http)

    assert http("PUT", path, body, if_match=condition).status == 412
    assert everything(http) == before


def test_post_creates_with_the_same_condition(http: Http) -> None:
    method, path, body = WRITES["create_backend"]

    assert http(method, path, body, if_none_match="*").status == 201
    assert http(method, path, body, if_none_match="*").status == 412


def test_a_tag_that_is_not_wanted(http: Http) -> None:
    tag = http("GET", "/v1/services/web").etag

    assert http("PATCH", "/v1/services/web", {"scheduler": "rr"}, if_none_match=tag).status == 412
    assert http("PATCH", "/v1/services/web", {"scheduler": "rr"}, if_none_match='"other"').status == 200


# What GET gives, PUT takes


@pytest.mark.parametrize("path", [path for path, _ in EXISTING.values()])
def test_what_get_gives_put_takes_and_nothing_changes(http: Http, path: str) -> None:
    before, shown = everything(http), http("GET", path)

    put = http("PUT", path, shown.json, if_match=shown.etag)

    assert put.status == 200, put.json
    assert put.etag == shown.etag
    assert everything(http) == before


def test_a_page_is_no_list(http: Http) -> None:
    http("POST", "/v1/guard/deny", {"prefix": "198.51.100.0/24"})
    page = http("GET", "/v1/guard/deny?limit=1")

    assert http("PUT", "/v1/guard/deny", page.json).status == 422
    assert len(http("GET", "/v1/guard/deny").json["items"]) == 2


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/services/web", {"name": "mail", **WEB}),
        ("/v1/services/web/backends/web1", {"name": "web2", "address": "192.0.2.21"}),
        ("/v1/services/web/backends/web1", {"service": "mail", "address": "192.0.2.21"}),
        ("/v1/guard/deny/203.0.113.0/24", {"prefix": "198.51.100.0/24"}),
        ("/v1/services/web", {**WEB, "backends": [{"name": "web1", "address": "192.0.2.21", "wait": 1}]}),
        ("/v1/services/web", {**WEB, "backends": [{"address": "192.0.2.21"}]}),
        ("/v1/services/web", {**WEB, "backends": 2 * [{"name": "web1", "address": "192.0.2.21"}]}),
        ("/v1/services/.", WEB),
    ],
)
def test_what_contradicts_itself_is_refused(http: Http, path: str, body: Any) -> None:
    before = everything(http)

    answer = http("PUT", path, body)

    assert answer.status == 422
    assert everything(http) == before
