# SPDX-License-Identifier: Apache-2.0
"""`status --ready`: the question that keepalived asks once a second."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from xdpdirector.cli import readiness
from xdpdirector.errors import UnreachableError
from xdpdirector.paths import InstancePaths


@contextmanager
def answering(path: Path, body: bytes) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n" + body)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            thread.join()


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(InstancePaths, "socket", property(lambda _: tmp_path / "api.sock"))
    return tmp_path / "api.sock"


def test_ready(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(path, b'{"ready": true, "problems": []}'):
        assert readiness.answer("default") == 0
    assert capsys.readouterr().out == ""


def test_not_ready_says_why(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(path, b'{"ready": false, "problems": ["the link is down"]}'):
        assert readiness.answer("default") == 1
    assert capsys.readouterr().out == "the link is down\n"


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"nonsense"])
def test_an_answer_that_is_none(path: Path, body: bytes) -> None:
    with answering(path, body), pytest.raises(UnreachableError, match="does not answer"):
        readiness.answer("default")


def test_nobody_answers(path: Path) -> None:
    with pytest.raises(UnreachableError, match="'default' does not answer"):
        readiness.answer("default")


@pytest.mark.parametrize(
    ("line", "instance"),
    [
        ("status --ready", "default"),
        ("-i edge status --ready", "edge"),
        ("--instance=edge status --ready", "edge"),
        ("status", None),
        ("--ready status", None),
        ("--socket /x status --ready", None),
        ("-i edge status --ready -o json", None),
    ],
)
def test_the_question_is_told_from_others(line: str, instance: str | None) -> None:
    assert readiness.asked(line.split(), {}) == instance


def test_the_environment_names_the_instance() -> None:
    assert readiness.asked(["status", "--ready"], {"XDPDIRECTOR_INSTANCE": "edge"}) == "edge"
