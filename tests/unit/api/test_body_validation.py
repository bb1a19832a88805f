# SPDX-License-Identifier: Apache-2.0
"""Large bodies: looked at beside the loop, told of up to a hundred faults, and not larger than befits the role."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.api_server import ApiServer
from tests.support.fake_director import FakeDirector
from xdpdirector.api.http import body_validation
from xdpdirector.api.http.body_limit import LARGEST_BY_ROLE
from xdpdirector.client import UnixConnection
from xdpdirector.config.messages import MOST_FAULTS
from xdpdirector.model import Listener, ServiceSpec, check_listeners
from xdpdirector.model.access import Role

WEB = {"name": "web", "listeners": ["192.0.2.10:80/tcp"], "backends": {"web1": {"address": "192.0.2.21"}}}


def ask(
    server: ApiServer, method: str, path: str, document: Any, **headers: str
) -> tuple[int, dict[str, Any]]:
    connection = UnixConnection(server.path, 60.0)
    body = json.dumps(document)
    connection.request(method, path, body=body, headers={"content-type": "application/json", **headers})
    answer = connection.getresponse()
    status, content = answer.status, answer.read()
    connection.close()
    return status, json.loads(content)


def services(count: int, backends: int = 1) -> dict[str, Any]:
    return {
        f"s{number}": {
            "listeners": [f"10.0.{number >> 8}.{number & 255}:80/tcp"],
            "backends": {
                f"b{each}": {"address": f"10.1.{number >> 8}.{each + 1}"} for each in range(backends)
            },
        }
        for number in range(count)
    }


def test_thousands_of_faults_are_told_up_to_a_bound(tmp_path: Path) -> None:
    wrong = {f"key{number}": number for number in range(20_000)}
    with ApiServer(FakeDirector(), tmp_path / "api.sock") as server:
        status, problem = ask(server, "POST", "/v1/services", {**WEB, **wrong})

    assert status == 422
    assert len(problem["errors"]) == MOST_FAULTS


def test_what_is_large_and_right_is_taken_as_what_is_small(tmp_path: Path) -> None:
    director = FakeDirector()
    with ApiServer(director, tmp_path / "api.sock") as server:
        wanted = {"interfaces": ["eth0"], "services": services(200)}
        assert len(json.dumps(wanted)) > body_validation.AT_ONCE

        status, _ = ask(server, "PUT", "/v1/config", wanted)
        names = [each["name"] for each in server.client.pages("/v1/services")["items"]]

    assert status == 200
    assert sorted(names) == sorted(wanted["services"])


def test_a_large_body_is_looked_at_in_another_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []
    looked_at = body_validation._looked_at

    def watched(*arguments: Any) -> object:
        threads.append(threading.current_thread())
        return looked_at(*arguments)

    monkeypatch.setattr(body_validation, "_looked_at", watched)
    with ApiServer(FakeDirector(), tmp_path / "api.sock") as server:
        ask(server, "POST", "/v1/services", WEB)
        ask(server, "PUT", "/v1/config", {"interfaces": ["eth0"], "services": services(200)})
        loop = server._thread

    assert len(threads) == 1
    assert threads[0] is not loop


@pytest.mark.parametrize("document", ["[1", '{"name": "\\ud800"}' + " " * 5000, "[" * 50_000])
def test_what_is_no_document_is_refused_as_ever(tmp_path: Path, document: str) -> None:
    with ApiServer(FakeDirector(), tmp_path / "api.sock") as server:
        connection = UnixConnection(server.path, 60.0)
        connection.request(
            "POST", "/v1/services", body=document + " " * 5000, headers={"content-type": "application/json"}
        )
        status = connection.getresponse().status
        connection.close()

    assert status == 400


@pytest.mark.parametrize("role", [Role.READ, Role.OPERATE])
def test_a_body_is_not_larger_than_befits_the_role(tmp_path: Path, role: Role) -> None:
    with ApiServer(FakeDirector(), tmp_path / "api.sock") as server:
        server.client.post("/v1/services", WEB)
        token = server.client.post("/v1/tokens", {"name": "somebody", "role": str(role)})["token"]
        path = "/v1/explain" if role is Role.READ else "/v1/services/web/backends/web1/drain"
        document = {"reason": "x" * LARGEST_BY_ROLE[role]}

        status, problem = ask(server, "POST", path, document, authorization=f"Bearer {token}")

    assert status == 413
    assert str(LARGEST_BY_ROLE[role]) in problem["detail"]


def ranged(number: int, text: str) -> ServiceSpec:
    return ServiceSpec.model_construct(listeners=(Listener.parse(text),))


@pytest.mark.parametrize(
    ("listeners", "overlap"),
    [
        (["192.0.2.1:1-10/tcp", "192.0.2.1:5-15/tcp"], True),
        (["192.0.2.1:5-15/tcp", "192.0.2.1:1-10/tcp"], True),
        (["192.0.2.1:1-10/tcp", "192.0.2.1:10-20/tcp"], True),
        (["192.0.2.1:1-10/tcp", "192.0.2.1:11-20/tcp"], False),
        (["192.0.2.1:1-10/tcp", "192.0.2.1:2-5/tcp"], False),
        (["192.0.2.1:1-100/tcp", "192.0.2.1:2-5/tcp", "192.0.2.1:50-150/tcp"], True),
        (["192.0.2.1:1-10/tcp", "192.0.2.1:5-15/udp"], False),
        (["192.0.2.1:1-10/tcp", "192.0.2.2:5-15/tcp"], False),
        (["192.0.2.1:*/tcp", "192.0.2.1:5-15/tcp"], False),
    ],
)
def test_ranges_that_overlap_are_found(listeners: list[str], overlap: bool) -> None:
    wanted = {f"s{number}": ranged(number, text) for number, text in enumerate(listeners)}
    if overlap:
        with pytest.raises(ValueError, match="overlap"):
            check_listeners(wanted)
    else:
        check_listeners(wanted)


def test_many_ranges_are_compared_with_their_neighbours_only(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0
    overlaps = Listener.overlaps

    def counted(one: Listener, other: Listener) -> bool:
        nonlocal compared
        compared += 1
        return overlaps(one, other)

    monkeypatch.setattr(Listener, "overlaps", counted)
    count = 2000
    check_listeners({f"s{n}": ranged(n, f"10.0.{n >> 8}.{n & 255}:1-{n + 2}/tcp") for n in range(count)})
    check_listeners({f"s{n}": ranged(n, f"10.0.0.1:{10 * n + 1}-{10 * n + 5}/tcp") for n in range(count)})

    assert compared <= count
