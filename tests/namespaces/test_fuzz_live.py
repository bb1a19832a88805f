# SPDX-License-Identifier: Apache-2.0
"""A real daemon over real maps: writers race, and schemathesis asks for all that there is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import concurrent_writers
from tests.support.concurrent_writers import Writer, race
from tests.support.fuzzing import create_resources, runs
from tests.support.lab_director import CHECK, command, directing
from xdpdirector.client import backend_path, service_path
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import SERVICE, web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.waiting import wait_until

pytestmark = [pytest.mark.root, pytest.mark.backends(2)]

OPTIONS = (
    "--max-examples",
    "4",
    "--exclude-checks",
    "ignored_auth",
)  # so many random cases of each operation
BUT_COVERAGE = ("examples", "fuzzing")
DOOR = "127.0.0.1:8650"
PATIENCE = 600.0  # seconds
WEB, BACKEND = service_path(SERVICE), backend_path(SERVICE, "backend1")
RESOURCES: dict[str, dict[str, Any]] = {
    "/v1/services/mail": {
        "listeners": ["192.0.2.98:25/tcp"],
        "backends": {"mail1": {"address": "192.0.2.23"}},
    }
}


@pytest.fixture
def director(lab: Lab) -> Iterator[LabDirector]:
    configuration = web_configuration(lab.topology.backend_nodes, check=CHECK)
    configuration["api"] = {"rate": 100_000}
    with directing(lab, configuration) as director:
        yield director


def weights(director: LabDirector) -> dict[str, int]:
    return {each["name"]: each["weight"] for each in director.client.get(WEB)["backends"]}


def entries(director: LabDirector) -> set[tuple[str, str]]:
    """Services and backends that the maps hold."""
    found = director.client.get("/v1/dataplane")["backends"]
    return {(each["service"], each["backend"]) for each in found}


def wanted(director: LabDirector) -> set[tuple[str, str]]:
    services = director.client.get("/v1/services")["items"]
    return {(service["name"], each["name"]) for service in services for each in service["backends"]}


def is_true(director: LabDirector) -> bool:
    """The maps hold what is wanted, and never held anything else by mistake."""
    drift = director.client.get("/v1/stats")["drift_repaired"]
    return bool(entries(director) == wanted(director) and drift == 0)


@pytest.mark.parametrize("writers", [12, pytest.param(50, marks=pytest.mark.soak)])
def test_writers_lose_nothing(director: LabDirector, writers: int) -> None:
    socket = director.paths.socket

    def grow(writer: Writer) -> int:
        backend = {"address": f"192.0.2.{150 + writer.number}"}
        return writer.ask("PATCH", WEB, {"backends": {f"new{writer.number}": backend}}).status

    _, lost = race(
        socket, writers, lambda writer: writer.change("PATCH", BACKEND, concurrent_writers.weigh_more)
    )
    statuses, _ = race(socket, writers, grow)
    once, _ = race(
        socket,
        writers,
        concurrent_writers.make_once(f"{WEB}/backends", {"name": "late", "address": "192.0.2.99"}),
    )

    assert lost > 0, "nobody raced"
    assert weights(director)["backend1"] == 1 + writers
    assert statuses == [200] * writers
    assert {f"new{number}" for number in range(writers)} < set(weights(director))
    assert concurrent_writers.statuses(once) == {(201, False): 1, (201, True): writers - 1}
    wait_until(lambda: is_true(director), "the maps hold what is wanted")


def test_no_answer_of_a_real_daemon_is_outside_the_document(lab: Lab, director: LabDirector) -> None:
    """Over TCP, with a token. unit/test_fuzz.py has the thousands of cases of coverage, and those with wrong
    tokens: this daemon delays its answers to them, by up to four seconds each."""
    director.stop()
    token = command(director, "token", "add", "fuzz", "--role", "admin").stdout.strip()
    configuration = web_configuration(lab.topology.backend_nodes, check=CHECK)
    director.configure(configuration | {"api": {"rate": 100_000, "listen": [DOOR]}})
    director.start()
    create_resources(director.client, RESOURCES)
    directory, url = lab.director_host.directory("fuzz"), f"http://{DOOR}"

    asked = [
        lab.director_host.run(
            *("env", f"--chdir={directory}", *run.line),
            environment=run.environment,
            timeout=PATIENCE,
            check=False,
        )
        for run in runs(director.client, url, token, directory, RESOURCES, *OPTIONS, single=BUT_COVERAGE)
    ]

    assert [each.returncode for each in asked] == [0, 0], "\n".join(each.stdout for each in asked)
    director.client.post(
        f"/v1/fleet/{director.client.get('/v1/fleet')['name']}/enable"
    )  # it may be told to leave
    wait_until(lambda: director.client.get("/readyz")["problems"] == [], "it is ready")
    assert "Traceback" not in director.log.read_text()
    wait_until(lambda: is_true(director), "the maps hold what is wanted")
