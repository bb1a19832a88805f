# SPDX-License-Identifier: Apache-2.0
"""Two daemons with one desired state in an etcd of the lab: a change through one, and etcd that is away."""

from __future__ import annotations

import contextlib
import http.client
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.etcd import needed
from xdpdirector.client import UnixConnection
from xdpdirector.errors import StoreError
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.etcd import LabEtcd
from xdpdirector.lab.waiting import wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow, needed]
BACKEND = "/v1/services/web/backends/backend1"


@pytest.fixture(scope="module")
def lab(lab_factory: Callable[..., Lab]) -> Lab:
    lab = lab_factory(backends=2, directors=2)
    for host in lab.backends:
        lab.nginx(host.name)
    return lab


@pytest.fixture(scope="module")
def etcd(lab: Lab) -> Iterator[LabEtcd]:
    made = LabEtcd(lab.client)
    made.start()
    yield made
    made.kill()


@pytest.fixture(scope="module")
def fleet(lab: Lab, etcd: LabEtcd) -> Iterator[list[LabDirector]]:
    directors: list[LabDirector] = []
    try:
        for number in (1, 2):
            name = lab.topology.director_nodes[number - 1].name
            store = {"type": "etcd", "endpoints": etcd.endpoints, "name": name, "insecure": True}
            services = web_configuration(lab.topology.backend_nodes)
            vips = "manage" if number == 1 else "external"
            directors.append(lab.director(services | {"vips": vips, "store": store}, number=number))
        directors[0].wait_serving()
        yield directors
    finally:
        for director in directors:
            director.stop()


@pytest.fixture(autouse=True)
def whole(fleet: list[LabDirector]) -> None:
    """Each test begins with two directors that reach etcd, and know it of each other: one may just have started."""
    wait_until(lambda: all(map(knows_both_ready, fleet)), "the fleet is whole", 60)


def knows_both_ready(director: LabDirector) -> bool:
    seen = director.client.get("/v1/fleet")
    reports = seen["directors"]
    return seen["store"]["reached"] and len(reports) == 2 and all(each["ready"] for each in reports)


def weight(director: LabDirector) -> int:
    return int(director.client.get(BACKEND)["weight"])


def age(director: LabDirector) -> int:
    with contextlib.closing(UnixConnection(director.paths.socket, 30.0)) as connection:
        connection.request("GET", BACKEND)
        response: http.client.HTTPResponse = connection.getresponse()
        response.read()
        return int(response.headers["Age"])


def answers(lab: Lab) -> bool:
    said = lab.client.run("curl", "-s", "-m", "5", "http://192.0.2.10/", check=False)
    return said.returncode == 0


def test_a_change_through_one_is_in_the_data_plane_of_the_other(fleet: list[LabDirector]) -> None:
    one, two = fleet
    for number in range(10, 20):
        one.client.patch(BACKEND, {"weight": number})
        wait_until(
            lambda number=number: weight(two) == number, "the other director has it", 30, interval=0.01
        )
    seen: dict[str, Any] = two.client.get("/v1/fleet")
    assert (
        len({each["revision"] for each in [*seen["directors"]]} | {one.client.get("/readyz")["revision"]})
        <= 2
    )
    assert seen["store"]["reached"]


def test_a_client_that_is_denied_through_one_is_denied_by_the_other(
    lab: Lab, fleet: list[LabDirector]
) -> None:
    one, two = fleet
    wait_until(lambda: answers(lab), "the client is served", 30)
    prefix = f"{lab.client.node.ipv4}/32"
    two.client.post("/v1/guard/deny", {"prefix": prefix, "reason": "a test"})
    wait_until(lambda: one.client.get("/v1/guard")["denied"] == 1, "the director with the VIP has it", 30)
    assert not answers(lab)
    one.client.delete(f"/v1/guard/deny/{prefix}")
    wait_until(lambda: two.client.get("/v1/guard")["denied"] == 0, "the other director has it", 30)
    assert answers(lab)


def test_a_token_that_one_makes_is_known_to_the_other(fleet: list[LabDirector]) -> None:
    def names(director: LabDirector) -> set[str]:
        return {each["name"] for each in director.client.get("/v1/tokens")["items"]}

    one, two = fleet
    one.client.post("/v1/tokens", {"name": "monitor", "role": "read"})
    wait_until(lambda: names(two) == {"monitor"}, "the other director knows it", 30)
    two.client.delete("/v1/tokens/monitor")
    wait_until(lambda: not names(one), "it is gone", 30)


def test_without_etcd_traffic_goes_on_and_changes_are_refused(
    lab: Lab, etcd: LabEtcd, fleet: list[LabDirector]
) -> None:
    one, two = fleet
    known = weight(one)
    etcd.kill()
    try:
        wait_until(lambda: not one.client.get("/v1/fleet")["store"]["reached"], "it is missed", 60)
        with pytest.raises(StoreError, match="etcd cannot be asked"):
            one.client.patch(BACKEND, {"weight": known + 1})
        assert weight(one) == weight(two) == known
        wait_until(lambda: age(one) >= 1, "what is read has an age", 60)
        assert one.client.get("/readyz")["ready"]
        one.kill()
        one.start()  # from what it saw last
        assert weight(one) == known
    finally:
        etcd.start()
    until = time.monotonic() + 60
    while True:
        try:
            two.client.patch(BACKEND, {"weight": known + 1})
            break
        except StoreError:
            assert time.monotonic() < until
            time.sleep(0.1)
    wait_until(lambda: weight(one) == known + 1, "it catches up", 60)


def test_a_move_needs_the_daemon_to_be_stopped_and_says_its_plan(fleet: list[LabDirector]) -> None:
    two = fleet[1]
    words = ("store", "move", "--to", "sqlite", "--config", str(two.configuration))
    command = [sys.executable, "-m", "xdpdirector", "--instance", two.paths.name, *words]

    refused = two.host.run(*command, check=False)
    assert (refused.returncode, "runs already" in refused.stderr) == (4, True), refused
    two.stop()
    try:
        planned = two.host.run(*command).stdout.splitlines()
    finally:
        two.start()

    assert planned[0].startswith("from etcd at ")
    assert planned[-1] == "Nothing is done yet: say --yes to do it."
