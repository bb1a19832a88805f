# SPDX-License-Identifier: Apache-2.0
"""Tokens and the audit over the API, and what happens when a change cannot be written down."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.api_server import ApiServer
from tests.support.fake_director import FakeDirector
from xdpdirector.api.auth.identity import user_name
from xdpdirector.client import Client, UnixConnection
from xdpdirector.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    StoreError,
)

ME = user_name(os.getuid())
WEB = {"name": "web", "listeners": ["192.0.2.10:80/tcp"], "backends": {"web1": {"address": "192.0.2.21"}}}
BACKEND = "/v1/services/web/backends/web1"
DRAIN = f"{BACKEND}/drain"
SOMEBODY_ELSE = 65534


@pytest.fixture
def director() -> FakeDirector:
    return FakeDirector()


@pytest.fixture
def server(director: FakeDirector, tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(director, tmp_path / "api.sock") as server:
        server.client.post("/v1/services", WEB)
        yield server


@pytest.fixture
def api(server: ApiServer) -> Client:
    return server.client


def ask(
    server: ApiServer, method: str, path: str, body: object = None, **headers: str
) -> http.client.HTTPResponse:
    connection = UnixConnection(server.path, 10)
    content = None if body is None else json.dumps(body)
    connection.request(method, path, content, {"content-type": "application/json", **headers})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


def audit(api: Client, **query: object) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = api.get("/v1/audit", query)["items"]
    return items


# Tokens


def test_a_token_is_made_shown_and_removed(api: Client) -> None:
    made = api.post("/v1/tokens", {"name": "deploy", "role": "operate", "lifetime": "30d"})
    shown = api.get("/v1/tokens")["items"]
    gone = api.delete("/v1/tokens/deploy")

    assert made["token"].startswith("xdpd_")
    assert [{**token, "token": made["token"]} for token in shown] == [made]
    assert (made["name"], made["role"], made["last_used"]) == ("deploy", "operate", None)
    assert made["expires"] > made["created"]
    assert gone is None
    assert api.get("/v1/tokens")["items"] == []


def test_others_are_answered_while_a_token_is_looked_for(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may hold the file that has the tokens."""
    token = server.client.post("/v1/tokens", {"name": "deploy", "role": "read"})["token"]
    find, begun, gate = server.access.tokens.find, threading.Event(), threading.Event()

    def waits(text: str) -> object:
        begun.set()
        assert gate.wait(30)
        return find(text)

    monkeypatch.setattr(server.access.tokens, "find", waits)
    with ThreadPoolExecutor(1) as beside:
        asked = beside.submit(lambda: ask(server, "GET", "/v1/services", authorization=f"Bearer {token}"))
        try:
            assert begun.wait(10)
            assert ask(server, "GET", "/healthz").status == 200
        finally:
            gate.set()
        assert asked.result().status == 200


def test_a_tokens_text_is_not_for_caches(server: ApiServer) -> None:
    answer = ask(server, "POST", "/v1/tokens", {"name": "deploy", "role": "read"})

    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["location"] == "/v1/tokens/deploy"


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ({"role": "read"}, "name"),
        ({"name": "a b", "role": "read"}, "name"),
        ({"name": "deploy", "role": "root"}, "role"),
        ({"name": "deploy", "role": "read", "lifetime": "0s"}, "lifetime"),
        ({"name": "deploy", "role": "read", "lifetime": "9999d"}, "lifetime"),
        ({"name": "deploy", "role": "read", "token": "xdpd_mine"}, "token"),
    ],
    ids=["no name", "name", "role", "no life", "long life", "own text"],
)
def test_a_token_that_makes_no_sense_is_refused(api: Client, body: dict[str, str], fault: str) -> None:
    with pytest.raises(InvalidRequestError, match=fault):
        api.post("/v1/tokens", body)


def test_a_name_is_taken_once_and_what_is_not_there_is_not_removed(api: Client) -> None:
    api.post("/v1/tokens", {"name": "deploy", "role": "read"})

    with pytest.raises(ConflictError, match="deploy"):
        api.post("/v1/tokens", {"name": "deploy", "role": "admin"})
    with pytest.raises(NotFoundError, match="other"):
        api.delete("/v1/tokens/other")


def test_a_removed_token_opens_nothing(server: ApiServer, api: Client) -> None:
    token = api.post("/v1/tokens", {"name": "deploy", "role": "read"})["token"]
    bearer = {"authorization": f"Bearer {token}"}

    before = ask(server, "GET", "/v1/services", **bearer)
    api.delete("/v1/tokens/deploy")
    after = ask(server, "GET", "/v1/services", **bearer)

    assert (before.status, after.status) == (200, 401)


# Audit


def test_a_change_is_in_the_audit(server: ApiServer, api: Client) -> None:
    ask(server, "POST", DRAIN, {"reason": "new disk"}, **{"idempotency-key": '"abc"'})

    row = audit(api)[0]

    assert (row["author"], row["role"], row["operation"]) == (ME, "admin", "drain_backend")
    assert (row["request"], row["key"]) == (f"POST {DRAIN}", '"abc"')
    assert (row["outcome"], row["status"], row["detail"]) == ("done", 200, "")
    assert row["source"] == f"uid {os.getuid()}, pid {os.getpid()}"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("POST", "/v1/tokens", {"name": "new", "role": "read"}), ("DELETE", "/v1/sessions/none", None)],
)
def test_any_change_has_its_reason_in_the_audit(
    server: ApiServer, api: Client, method: str, path: str, body: object
) -> None:
    """Also one that makes no revision."""
    ask(server, method, path, body, **{"change-reason": "für die Prüfung".encode().decode("latin-1")})

    assert audit(api)[0]["reason"] == "für die Prüfung"


def test_a_change_that_fails_is_in_the_audit_with_the_reason(api: Client, director: FakeDirector) -> None:
    director.busy["web", "web1"] = 1
    with pytest.raises(ConflictError):
        api.delete(BACKEND)

    row = audit(api)[0]

    assert (row["operation"], row["outcome"], row["status"]) == ("delete_backend", "failed", 409)
    assert "web/web1" in row["detail"]


def test_a_change_that_is_refused_is_in_the_audit(server: ApiServer, api: Client) -> None:
    token = api.post("/v1/tokens", {"name": "reader", "role": "read"})["token"]
    ask(server, "POST", DRAIN, authorization=f"Bearer {token}")

    row = audit(api)[0]

    assert (row["author"], row["role"], row["outcome"]) == ("token:reader", "read", "refused")
    assert (row["operation"], row["status"]) == ("drain_backend", 403)


def test_a_change_that_meets_a_bug_is_in_the_audit(server: ApiServer, director: FakeDirector) -> None:
    director.broken = RuntimeError("a bug")
    answer = ask(server, "POST", DRAIN)
    director.broken = None

    row = audit(server.client)[0]

    assert answer.status == 500
    assert (row["outcome"], row["status"]) == ("failed", 500)


def test_looking_is_not_in_the_audit(server: ApiServer, api: Client) -> None:
    before = audit(api)

    ask(server, "GET", "/v1/services")
    ask(server, "GET", "/v1/nothing")
    ask(server, "DELETE", "/v1/services")

    assert audit(api) == before


def test_strangers_do_not_fill_the_audit(server: ApiServer, api: Client) -> None:
    before = audit(api)

    statuses = {ask(server, "POST", DRAIN, authorization="Bearer nonsense").status for _ in range(8)}

    assert statuses == {401}
    assert len(audit(api)) <= len(before) + 1  # an address has a row now and then


def test_the_audit_has_pages_and_filters(api: Client) -> None:
    for verb in ("drain", "enable", "maintenance"):
        api.post(f"{BACKEND}/{verb}")

    first = api.get("/v1/audit", {"limit": 2})
    second = api.get("/v1/audit", {"limit": 2, "cursor": first["next"]})
    drains = audit(api, operation="drain_backend", author=ME)

    pages = [row["operation"] for page in (first, second) for row in page["items"]]
    assert pages == ["maintain_backend", "enable_backend", "drain_backend", "create_service"]
    assert second["next"] is None
    assert [row["operation"] for row in drains] == ["drain_backend"]
    assert audit(api, author="nobody") == audit(api, since="2120-01-01T00:00:00Z") == []


@pytest.mark.parametrize(
    "query",
    [
        {"cursor": "x"},
        {"cursor": "-1"},
        {"limit": 0},
        {"limit": 1001},
        {"since": "soon"},
        {"since": "0.5"},
        {"since": "0001-01-01T00:00:00+14:00"},
        {"since": "9999-12-31T23:59:59-14:00"},
    ],
)
def test_the_audit_refuses_what_makes_no_sense(api: Client, query: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError):
        api.get("/v1/audit", query)


def test_a_tokens_text_is_not_in_the_audit(api: Client) -> None:
    token = api.post("/v1/tokens", {"name": "deploy", "role": "read"})["token"]

    assert token.split("_", 2)[2] not in json.dumps(api.get("/v1/audit"))


# A file that cannot be used


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_what_cannot_be_written_down_is_not_done(director: FakeDirector) -> None:
    """But for root, who may have to drain a backend before the disk is mended."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        path.chmod(0o755)
        (path / "access.db").mkdir()
        with ApiServer(director, path / "api.sock") as server:
            server.path.chmod(0o666)
            os.seteuid(SOMEBODY_ELSE)
            try:
                with pytest.raises(StoreError, match=r"access\.db"):
                    server.client.post("/v1/services", WEB)
            finally:
                os.seteuid(0)

            assert server.client.get("/v1/services")["items"] == []
            assert director.authors == []


@pytest.mark.skipif(os.geteuid() != 0, reason="root's way in is open to root only")
def test_root_can_act_when_nothing_can_be_written_down(
    director: FakeDirector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "access.db").mkdir()
    with ApiServer(director, tmp_path / "api.sock") as server:
        server.client.post("/v1/services", WEB)
        drained = server.client.post("/v1/services/web/backends/web1/drain", {"reason": "the disk is broken"})

    assert drained["admin"] == "drain"
    assert "not in the audit" in caplog.text
    assert "drain_backend" in caplog.text


@pytest.mark.parametrize("when", ["at the start", "while it runs"])
def test_a_damaged_file_is_set_aside_and_said(director: FakeDirector, tmp_path: Path, when: str) -> None:
    path = tmp_path / "access.db"
    if when == "at the start":
        path.write_bytes(b"no database" * 100)
    with ApiServer(director, tmp_path / "api.sock") as server:
        if when == "while it runs":
            server.client.post("/v1/tokens", {"name": "deploy", "role": "read"})
            server.access.file.close()  # SQLite would go on with the pages that it remembers
            path.write_bytes(path.read_bytes()[:100] + b"\xff" * (path.stat().st_size - 100))
            with contextlib.suppress(StoreError):  # the one that finds it out
                server.client.post("/v1/tokens", {"name": "other", "role": "read"})
            with contextlib.suppress(StoreError):
                server.client.get("/v1/audit")
        server.client.post("/v1/services", WEB)
        rows = server.client.get("/v1/audit")["items"]
        [note] = server.access.audit.notes

    [kept] = tmp_path.glob("access.db.damaged-*[0-9]")
    assert str(kept) in note
    assert "token add" in note
    assert rows[0]["operation"] == "create_service"


def test_without_a_file_nobody_is_let_in_by_a_token(tmp_path: Path) -> None:
    (tmp_path / "access.db").mkdir()
    with ApiServer(FakeDirector(), tmp_path / "api.sock") as server:
        answer = ask(server, "GET", "/v1/services", authorization="Bearer xdpd_1_2")

    assert answer.status == 503
