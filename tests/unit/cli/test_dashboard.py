# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector dashboard`: an address that logs in once, by the API's own doors or by a relay."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.api_server import ApiServer
from tests.support.fake_director import FakeDirector
from xdpdirector.cli import main
from xdpdirector.model.access import ApiSpec, Endpoint

LISTEN = (Endpoint.parse("192.0.2.1:8650"), Endpoint.parse("127.0.0.1:8650"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(FakeDirector(), tmp_path / "api.sock") as server:
        yield server


def test_where_the_api_listens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = ApiSpec.model_construct(**{**dict(ApiSpec()), "listen": LISTEN})
    with ApiServer(FakeDirector(), tmp_path / "api.sock", spec) as server:
        status = main(["--socket", str(server.path), "dashboard"])
        text, told = capsys.readouterr()
        main(["--socket", str(server.path), "dashboard", "-o", "json"])
        document = json.loads(capsys.readouterr().out)

    assert status == 0
    assert text.startswith("http://192.0.2.1:8650/ui/#/login/")
    assert len(text.splitlines()) == 1
    assert "once" in told
    assert document["addresses"] == ["http://192.0.2.1:8650", "http://127.0.0.1:8650"]


def test_where_it_does_not(server: ApiServer) -> None:
    command = [sys.executable, "-m", "xdpdirector", "--socket", str(server.path), "dashboard"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        address = process.stdout.readline()
        place, code = address.removeprefix("http://").strip().split("/ui/#/login/")
        connection = http.client.HTTPConnection(place, timeout=30)
        connection.request(
            "POST", "/v1/sessions", json.dumps({"code": code}), {"content-type": "application/json"}
        )
        answer = connection.getresponse()
        process.send_signal(signal.SIGINT)
        status = process.wait(30)

    assert answer.status == 201
    assert status == 128 + signal.SIGINT
    connection.close()


def test_a_port_that_is_taken(server: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status = main(["--socket", str(server.path), "dashboard", "--port", str(port)])

    assert status == 4
    assert str(port) in capsys.readouterr().err
