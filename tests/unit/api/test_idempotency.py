# SPDX-License-Identifier: Apache-2.0
"""Idempotency-Key: answered once, and again for a day; over HTTP and in the state database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from tests.support.api_server import ApiServer
from tests.support.fake_director import FakeDirector
from xdpdirector.client import UnixConnection
from xdpdirector.storage import idempotency_store
from xdpdirector.storage.idempotency_store import Answer, StoredAnswers
from xdpdirector.storage.store import Store

WEB = {"name": "web", "listeners": ["192.0.2.10:80/tcp"]}
MAIL = {"name": "mail", "listeners": ["192.0.2.10:25/tcp"]}
KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"


@pytest.fixture
def director() -> FakeDirector:
    return FakeDirector()


@pytest.fixture
def server(director: FakeDirector, tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(director, tmp_path / "api.sock") as server:
        yield server


def post(
    server: ApiServer, body: Any, key: str | None = KEY, target: str = "/v1/services", reason: str = ""
) -> tuple[HTTPResponse, Any]:
    connection = UnixConnection(server.path, 30)
    headers = {"content-type": "application/json", "change-reason": reason}
    headers |= {} if key is None else {"idempotency-key": key}
    try:
        connection.request("POST", target, body=json.dumps(body), headers=headers)
        answer = connection.getresponse()
        return answer, json.loads(answer.read())
    finally:
        connection.close()


def test_the_same_request_is_answered_again_and_done_once(server: ApiServer, director: FakeDirector) -> None:
    first, made = post(server, WEB)
    second, shown = post(server, WEB)

    assert (first.status, second.status) == (201, 201)
    assert shown == made
    assert second.headers["idempotent-replayed"] == "true"
    for field in ("etag", "location", "content-type"):
        assert second.headers[field] == first.headers[field]
    assert len(director.authors) == 1


def test_without_a_key_it_is_done_again(server: ApiServer) -> None:
    post(server, WEB, None)
    second, problem = post(server, WEB, None)

    assert (second.status, problem["type"]) == (409, "urn:xdpdirector:problem:conflict")


@pytest.mark.parametrize(
    ("body", "target"),
    [
        pytest.param(MAIL, "/v1/services", id="another body"),
        pytest.param(WEB, "/v1/services/web/backends", id="another path"),
        pytest.param(WEB, "/v1/services?dry_run=false", id="another query"),
    ],
)
def test_the_key_of_another_request_is_refused(
    server: ApiServer, director: FakeDirector, body: Any, target: str
) -> None:
    post(server, WEB)

    answer, problem = post(server, body, target=target)

    assert (answer.status, problem["type"]) == (422, "urn:xdpdirector:problem:reused-key")
    assert len(director.authors) == 1


def test_what_is_no_sound_request_gets_no_answer_of_another(server: ApiServer) -> None:
    post(server, WEB)

    answer, problem = post(server, WEB, reason="x" * 501)

    assert (answer.status, problem["errors"][0]["parameter"]) == (422, "change-reason")


def test_a_request_that_failed_may_be_tried_again(server: ApiServer, director: FakeDirector) -> None:
    director.broken = RuntimeError("for a moment")
    failed, _ = post(server, WEB)
    director.broken = None
    again, _ = post(server, WEB)

    assert (failed.status, again.status) == (500, 201)


@pytest.mark.parametrize("key", ["", "k" * 256], ids=["empty", "too long"])
def test_a_key_has_a_length(server: ApiServer, key: str) -> None:
    answer, problem = post(server, WEB, key)

    assert answer.status == 422
    assert problem["errors"][0]["parameter"] == "Idempotency-Key"


# In the database


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "state.db") as store:
        yield store


def an_answer(body: bytes = b"{}") -> Answer:
    return Answer("request", 201, {"etag": '"x"'}, body)


def test_answers_outlive_a_restart(tmp_path: Path) -> None:
    with Store(tmp_path / "state.db") as first:
        StoredAnswers(lambda: first.database).keep("key", an_answer(b"\xff\x00"))
    with Store(tmp_path / "state.db") as second:
        assert StoredAnswers(lambda: second.database).find("key") == an_answer(b"\xff\x00")


def test_answers_are_kept_for_a_day(store: Store) -> None:
    kept = StoredAnswers(lambda: store.database)
    kept.keep("old", an_answer())
    with store.database.transaction():
        store.database.write("UPDATE answers SET at = at - ?", (idempotency_store.KEPT_FOR,))

    found = kept.find("old")
    kept.keep("new", an_answer())

    assert found is None
    assert store.database.rows("SELECT id FROM answers") == [("new",)]


def test_there_are_only_so_many(store: Store) -> None:
    kept = StoredAnswers(lambda: store.database)
    with store.database.transaction():
        for number in range(idempotency_store.MOST + 5):
            store.database.write(
                "INSERT INTO answers VALUES (?, 'request', unixepoch() - ?, 201, '{}', '')",
                (str(number), idempotency_store.MOST + 10 - number),
            )

    kept.keep("new", an_answer())

    assert store.database.row("SELECT count(*) FROM answers") == (idempotency_store.MOST,)
    assert (kept.find("5"), kept.find("new")) == (None, an_answer())
    assert kept.find("6") is not None


def test_they_take_only_so_much_room(store: Store) -> None:
    kept = StoredAnswers(lambda: store.database)
    for number in range(idempotency_store.LARGEST_ALL // idempotency_store.LARGEST + 3):
        kept.keep(str(number), an_answer(bytes(idempotency_store.LARGEST)))
    kept.keep("too large", an_answer(bytes(idempotency_store.LARGEST + 1)))

    row = store.database.row("SELECT sum(length(body)) FROM answers")
    assert row == (idempotency_store.LARGEST_ALL,)
    assert kept.find("0") is None
    assert kept.find("too large") is None
