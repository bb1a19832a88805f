# SPDX-License-Identifier: Apache-2.0
"""`config` and `revisions`: the configuration as a whole, on the command line."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.support.api_server import ApiServer
from tests.support.fake_director import FakeDirector
from xdpdirector.cli import main
from xdpdirector.config import config_file
from xdpdirector.state.change_request import Intent
from xdpdirector.state.diff import Missing

WEB = {"name": "web", "listeners": ["192.0.2.10:80/tcp"], "backends": {"web1": {"address": "192.0.2.21"}}}
ANOTHER = """\
interfaces: [eth0]
services:
  web:
    listeners: ["192.0.2.10:80/tcp"]
    on_empty: drop
    backends:
      web2: {address: 192.0.2.22}
"""
WRONG = ANOTHER.replace("192.0.2.22", "here")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def director() -> FakeDirector:
    return FakeDirector()


@pytest.fixture
def server(director: FakeDirector, tmp_path: Path) -> Iterator[ApiServer]:
    """With the service `web`: revision 1."""
    with ApiServer(director, tmp_path / "api.sock") as server:
        server.client.post("/v1/services", WEB)
        yield server


@pytest.fixture
def run(server: ApiServer, capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit code, output and errors of a command."""

    def command(*arguments: str) -> tuple[int, str, str]:
        code = main(["--socket", str(server.path), *arguments])
        return code, *capsys.readouterr()

    return command


@pytest.fixture
def another(tmp_path: Path) -> Path:
    path = tmp_path / "another.yaml"
    path.write_text(ANOTHER)
    return path


def test_what_is_shown_is_a_configuration_file(run: Run, tmp_path: Path) -> None:
    code, text, _ = run("config", "show")
    (tmp_path / "shown.yaml").write_text(text)

    assert code == 0
    assert config_file.load(tmp_path / "shown.yaml").services["web"].backends["web1"].weight == 1
    assert run("config", "plan", str(tmp_path / "shown.yaml"))[0] == 0
    assert json.loads(run("config", "show", "-o", "json")[1])["interfaces"] == ["eth0"]


def test_a_plan_with_differences_exits_1_and_does_nothing(
    run: Run, director: FakeDirector, another: Path
) -> None:
    director.busy["web", "web1"] = 3

    code, text, _ = run("config", "plan", str(another))

    lines = [line.split() for line in text.splitlines()]
    assert code == 1
    assert ["changed", "services/web/on_empty", "reject", "drop"] in lines
    assert ["added", "services/web/backends/web2", "192.0.2.22"] in lines
    assert ["removed", "services/web/backends/web1", "192.0.2.21"] in lines
    assert ["web/web1", "3", "the", "backend", "is", "removed"] in lines
    assert len(director.authors) == 1


def test_a_plan_shows_what_the_servers_do_not_have_yet(
    run: Run, director: FakeDirector, another: Path
) -> None:
    director.absent = (
        Missing(service="web", backend="web2", address=ip_address("192.0.2.10"), why="nothing listens there"),
    )

    _, text, _ = run("config", "plan", str(another))

    lines = [line.split() for line in text.splitlines()]
    assert ["web/web2", "192.0.2.10", "nothing", "listens", "there"] in lines


def test_apply_does_it(run: Run, director: FakeDirector, another: Path) -> None:
    code, text, _ = run("config", "apply", str(another), "--reason", "moving house")
    again = run("config", "apply", str(another))

    assert code == 0
    assert "as revision 2" in text
    assert (again[0], again[1].strip()) == (0, "Nothing differs from revision 2.")
    assert [backend.name for backend in director.service("web").backends] == ["web2"]
    assert director.history.revisions[-1].reason == "replace the configuration: moving house"


def test_standard_input_and_json_will_do(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    document = {"interfaces": ["eth0"], "services": {}}
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(document)))

    code, text, _ = run("config", "plan", "-", "-o", "json")

    assert code == 1
    assert [each["pointer"] for each in json.loads(text)["changes"]] == ["/services/web"]


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        pytest.param(WRONG, 2, ":7:14: address of backend 'web2' of service 'web'", id="a wrong value"),
        pytest.param("a: [", 2, ":1:", id="no YAML"),
        pytest.param("a: 1\na: 2", 2, ":2:1:", id="a key twice"),
        pytest.param("", 2, "there is nothing in it", id="nothing"),
        pytest.param(None, 2, "cannot be read: No such file", id="no file"),
    ],
)
def test_what_is_wrong_has_its_line(
    run: Run, tmp_path: Path, text: str | None, code: int, words: str
) -> None:
    path = tmp_path / "wrong.yaml"
    if text is not None:
        path.write_text(text)

    ended, _, told = run("config", "plan", str(path))

    assert (ended, words in told) == (code, True), told


def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """`script` is what somebody does with the file $1."""
    path = tmp_path / "editor"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_what_is_edited_is_applied(
    run: Run, director: FakeDirector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor(tmp_path, monkeypatch, 'sed -i "s/weight: 1/weight: 7/" "$1"')

    code, text, _ = run("config", "edit")

    assert code == 0
    assert "services/web/backends/web1/weight" in text
    assert director.backend("web", "web1").weight == 7
    assert [*tmp_path.glob("xdpdirector-*")] == []


def test_who_changes_nothing_in_the_editor_writes_nothing(
    run: Run, director: FakeDirector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor(tmp_path, monkeypatch, "exit 0")

    assert run("config", "edit") == (0, "", "Nothing was changed.\n")
    assert len(director.authors) == 1


def test_an_edit_overwrites_nobody_and_is_not_lost(
    run: Run, director: FakeDirector, another: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else is quicker."""
    socket = tmp_path / "api.sock"
    quicker = f"{sys.executable} -m xdpdirector --socket {socket} backend set web/web1 --weight 9"
    editor(tmp_path, monkeypatch, f'{quicker} >/dev/null; cp {another} "$1"')

    code, _, told = run("config", "edit")

    [kept] = tmp_path.glob("xdpdirector-*.yaml")
    assert code == 4
    assert "is kept in" in told
    assert kept.read_text() == ANOTHER
    assert director.backend("web", "web1").weight == 9


def test_revisions_are_listed_shown_and_rolled_back(run: Run, director: FakeDirector, another: Path) -> None:
    run("config", "apply", str(another), "--reason", "moving house")

    listed = run("revisions", "list")[1]
    shown = run("revisions", "show", "2")[1]
    planned, _, _ = run("revisions", "rollback", "1", "--dry-run")
    done, text, _ = run("revisions", "rollback", "1", "--reason", "it was better")

    assert [line.split()[0] for line in listed.splitlines()] == ["REVISION", "2", "1"]
    assert "moving house" in listed
    assert "services/web/on_empty" in shown
    assert (planned, done) == (1, 0)
    assert "as revision 3" in text
    assert [backend.name for backend in director.service("web").backends] == ["web1"]


def test_long_lists_come_in_pages(run: Run, director: FakeDirector) -> None:
    for weight in (2, 3):
        asyncio.run(director.patch_backend("web", "web1", {"weight": weight}, intent=Intent("me")))

    first = json.loads(run("revisions", "list", "--limit", "2", "-o", "json")[1])
    second = json.loads(run("revisions", "list", "--cursor", first["next"], "-o", "json")[1])

    assert [each["revision"] for page in (first, second) for each in page["items"]] == [3, 2, 1]
    assert f"--cursor {first['next']}" in run("revisions", "list", "--limit", "2")[1]


def test_an_unknown_revision_is_said_to_be_one(run: Run) -> None:
    code, _, told = run("revisions", "show", "9")

    assert (code, "no revision 9" in told) == (2, True)
