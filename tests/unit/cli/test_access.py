# SPDX-License-Identifier: Apache-2.0
"""`token` and `audit`, through the daemon and without one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.api_server import ApiServer
from tests.support.fake_director import FakeDirector
from xdpdirector.api.auth.identity import user_name
from xdpdirector.cli import main
from xdpdirector.errors import ConflictError, InvalidRequestError, NotAllowedError, NotFoundError
from xdpdirector.storage.access_db import AccessFile
from xdpdirector.storage.audit_log import Audit
from xdpdirector.storage.offline_access import OfflineAccess
from xdpdirector.storage.tokens import Tokens

DEPLOY = {"name": "deploy", "role": "operate", "lifetime": "30d"}
NOBODY = 65534
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with ApiServer(FakeDirector(), tmp_path_factory.mktemp("cli") / "api.sock") as server:
        yield server


@pytest.fixture
def run(server: ApiServer, capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit code, output and errors of a command."""

    def command(*arguments: str) -> tuple[int, str, str]:
        code = main(["--socket", str(server.path), *arguments])
        return code, *capsys.readouterr()

    return command


def test_a_token_is_made_listed_and_removed(run: Run, server: ApiServer) -> None:
    code, text, told = run("token", "add", "deploy", "--role", "operate", "--lifetime", "30d")
    listed = run("token", "list")[1]
    as_json = json.loads(run("token", "list", "-o", "json")[1])["items"]
    found = server.access.tokens.find(text.strip())
    removed = run("token", "remove", "deploy")

    assert (code, removed) == (0, (0, "", ""))
    assert found is not None
    assert "operate" in told
    assert "not shown again" in told
    assert listed.split()[5:7] == ["deploy", "operate"]
    assert [(token["name"], "token" in token) for token in as_json] == [("deploy", False)]
    assert run("token", "list")[1].startswith("There are no tokens")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("token", "add", "x", "--role", "root"), 2),
        (("token", "add", "x"), 2),
        (("token", "remove", "none"), 2),
        (("audit", "--since", "soon"), 2),
        (("--socket", "/nonexistent/api.sock", "token", "list"), 3),
        (("--socket", "/nonexistent/api.sock", "audit"), 3),
    ],
    ids=["role", "no role", "unknown", "time", "unreachable", "audit unreachable"],
)
def test_exit_codes(run: Run, arguments: tuple[str, ...], code: int) -> None:
    assert run(*arguments)[0] == code


def test_the_audit_is_shown(run: Run) -> None:
    run("token", "add", "earlier", "--role", "read")
    run("token", "remove", "earlier")
    run("service", "add", "web", "--listen", "192.0.2.10:80/tcp")

    code, table, _ = run("audit", "--limit", "1")
    document = json.loads(run("audit", "-o", "json", "--operation", "create_service")[1])

    assert code == 0
    header, row, more = table.splitlines()
    assert header.split()[:3] == ["TIME", "AUTHOR", "FROM"]
    assert user_name(os.getuid()) in row
    assert "create_service" in row
    assert "done" in row
    assert more.startswith("There is more: --cursor ")
    assert [item["operation"] for item in document["items"]] == ["create_service"]


@pytest.fixture
def offline(tmp_path: Path) -> Iterator[OfflineAccess]:
    with OfflineAccess(tmp_path / "new" / "access.db") as offline:
        yield offline


def rows(offline: OfflineAccess) -> list[tuple[str, str, str]]:
    with closing(AccessFile(offline.path)) as file:
        return [(row.operation, row.outcome, row.detail) for row in Audit(file).page()]


def test_without_a_daemon_the_file_does(offline: OfflineAccess) -> None:
    made = offline.add(DEPLOY)
    listed = offline.list()["items"]
    with closing(AccessFile(offline.path)) as file:
        found = Tokens(file).find(made["token"])
    offline.remove("deploy")

    assert found is not None
    assert [{**token, "token": made["token"]} for token in listed] == [made]
    assert offline.list() == {"items": []}
    assert rows(offline) == [("delete_token", "done", ""), ("create_token", "done", "")]


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        (lambda offline: offline.add(DEPLOY), ConflictError, "deploy"),
        (lambda offline: offline.remove("none"), NotFoundError, "none"),
    ],
    ids=["taken", "unknown"],
)
def test_what_fails_without_a_daemon_is_in_the_audit_too(
    offline: OfflineAccess, change: Callable[[OfflineAccess], Any], error: type[Exception], sentence: str
) -> None:
    offline.add(DEPLOY)

    with pytest.raises(error, match=sentence):
        change(offline)

    assert rows(offline)[0][1] == "failed"
    assert sentence in rows(offline)[0][2]


@pytest.mark.parametrize("change", [{"role": "root"}, {"lifetime": "0s"}, {"name": "a b"}, {"more": 1}])
def test_the_model_judges_without_a_daemon_too(offline: OfflineAccess, change: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError, match=next(iter(change))):
        offline.add(DEPLOY | change)


def test_the_file_is_for_its_user_only(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    own = os.geteuid()
    if own == 0:  # whom nothing is closed to
        os.seteuid(NOBODY)
    try:
        with (
            pytest.raises(NotAllowedError, match="run the command as root"),
            OfflineAccess(closed / "access.db"),
        ):
            pass
    finally:
        os.seteuid(own)
