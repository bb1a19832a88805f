# SPDX-License-Identifier: Apache-2.0
"""Two directors that are active at once; one leaves for maintenance under running connections, asked through the
other one, and comes back.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.etcd import needed
from tests.support.lab_client import Conversation
from xdpdirector.errors import UnreachableError
from xdpdirector.lab import Lab, bird
from xdpdirector.lab.bird import Bird, knows, make_vip_interface
from xdpdirector.lab.configuration import web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.etcd import LabEtcd
from xdpdirector.lab.topology import VIP4
from xdpdirector.lab.waiting import wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow, needed]

SYNC_PORT = 8651
SOON = 90.0  # seconds: for what takes one or two on a quiet machine
CONNECTIONS = 24


@pytest.fixture(scope="module")
def lab(lab_factory: Callable[..., Lab]) -> Lab:
    lab = lab_factory(backends=3, directors=2, router=True)
    for host in lab.backends:
        lab.nginx(host.name)
    for host in lab.director_hosts:
        make_vip_interface(host)
    return lab


@pytest.fixture(scope="module")
def etcd(lab: Lab) -> Iterator[LabEtcd]:
    made = LabEtcd(lab.client)
    made.start()
    yield made
    made.kill()


def configuration(lab: Lab, etcd: LabEtcd, number: int) -> dict[str, Any]:
    nodes = lab.topology.director_nodes
    mine, other = nodes[number - 1], nodes[2 - number]
    return web_configuration(lab.topology.backend_nodes, scheduler="wlc") | {
        "vips": {"on": "dummy", "interface": bird.VIP_INTERFACE},
        "store": {"type": "etcd", "endpoints": etcd.endpoints, "name": f"d{number}", "insecure": True},
        "sync": {
            "listen": f"{mine.ipv4}:{SYNC_PORT}",
            "peers": [f"{other.ipv4}:{SYNC_PORT}"],
            "insecure": True,
            "patience": 2,
        },
    }


@pytest.fixture(scope="module")
def pair(lab: Lab, etcd: LabEtcd) -> Iterator[list[LabDirector]]:
    router = Bird(lab.router)
    birds = [Bird(host) for host in lab.director_hosts]
    directors: list[LabDirector] = []
    try:
        router.start(bird.of_router(lab.topology))
        for number, each in enumerate(birds, start=1):
            directors.append(lab.director(configuration(lab, etcd, number), number=number))
            directors[-1].wait_serving()
            each.start(bird.of_director(lab.topology, lab.topology.director_nodes[number - 1]))
        wait_until(lambda: knows(lab.router, 2), "the router knows both directors", SOON)
        wait_until(lambda: len(told(directors[0])) == 2, "the directors know each other", SOON)
        for each in directors:
            wait_until(lambda each=each: synced(each), "the peers are synced", SOON)
        yield directors
    finally:
        for daemon in (*directors, *birds, router):
            daemon.stop()


def told(director: LabDirector) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = director.client.get("/v1/fleet")["directors"]
    return found


def await_ready(pair: list[LabDirector]) -> None:
    """Both are, and know it of each other."""
    wait_until(
        lambda: all([each["ready"] for each in told(director)] == [True, True] for director in pair),
        "both are ready",
        SOON,
    )


def synced(director: LabDirector) -> bool:
    [peer] = director.client.get("/v1/fleet")["peers"]
    return peer["outgoing"]["state"] == peer["incoming"]["state"] == "synced"


def command(director: LabDirector, *words: str) -> list[str]:
    return [sys.executable, "-m", "xdpdirector", "--instance", director.paths.name, *words]


def forwarded(director: LabDirector) -> int:
    return int(director.client.get("/v1/stats")["traffic"]["packets"])


def stands(director: LabDirector) -> bool:
    """Whether the VIP is on this director."""
    return f" {VIP4}/" in director.host.run("ip", "addr", "show", "dev", bird.VIP_INTERFACE).stdout


@pytest.fixture
def clients(lab: Lab, pair: list[LabDirector]) -> Iterator[list[Conversation]]:
    wait_until(lambda: knows(lab.router, 2), "the router knows both directors", SOON)
    with contextlib.ExitStack() as stack:
        found: list[Conversation] = []
        for _ in range(CONNECTIONS):
            found.append(Conversation(lab.client, VIP4, timeout=SOON))
            stack.callback(found[-1].close)
        wait_until(lambda: all(map(forwarded, pair)), "the router sends connections to both directors", SOON)
        yield found


def test_a_director_leaves_under_load_and_comes_back(
    lab: Lab, pair: list[LabDirector], clients: list[Conversation]
) -> None:
    one, two = pair
    await_ready(pair)
    backends = [each.backend for each in clients]

    waiting = one.host.popen(
        *command(
            one, "fleet", "drain", "d2", "--wait", "--timeout", "5m", "--reason", "memory", "-o", "json"
        ),
        role="drain",
    )
    try:
        wait_until(lambda: not stands(two), "its VIPs are withdrawn", SOON)
        wait_until(lambda: knows(lab.router, 1), "the router knows one director", SOON)
        while waiting.poll() is None:
            assert [each.who() for each in clients] == backends
    finally:
        waiting.kill()
        waiting.wait(timeout=30)
    assert waiting.returncode == 0, one.host.log("drain").read_text()
    done = json.loads(one.host.log("drain").read_text())
    assert (done["name"], done["state"], done["flows"], done["reason"]) == ("d2", "drained", 0, "memory")
    assert 0 < done["flows_at_start"] <= CONNECTIONS
    ready = two.client.get("/readyz")
    assert not ready["ready"]
    assert ready["problems"] == ["this director leaves for maintenance, as root says: memory"]
    assert two.host.run(*command(two, "status", "--ready"), check=False).returncode == 1
    assert one.client.get("/readyz")["ready"]
    before = forwarded(two)
    assert [each.who() for each in clients] == backends
    assert forwarded(two) == before

    two.stop()
    two.launch()
    wait_until(lambda: answers(two), "its daemon answers again", SOON)
    assert not two.ready
    assert not stands(two)
    assert [each.who() for each in clients] == backends

    wait_until(lambda: happened(one, "d2").count("fleet.joined") == 2, "the other director hears of it", SOON)

    shown = one.host.run(*command(one, "fleet", "enable", "d2")).stdout
    assert "enabled" in shown
    wait_until(lambda: two.ready and stands(two), "it has its VIPs again", SOON)
    wait_until(lambda: knows(lab.router, 2), "the router knows both directors", SOON)
    assert [each.who() for each in clients] == backends
    assert happened(one, "d2") == [
        *("fleet.joined", "fleet.drain", "fleet.drained"),  # asked to leave
        *("fleet.left", "fleet.joined"),  # stopped and started
        "fleet.enable",
    ]


def answers(director: LabDirector) -> bool:
    try:
        return bool(director.client.get("/v1/fleet"))
    except UnreachableError:
        return False


def happened(director: LabDirector, name: str) -> list[str]:
    """Events of that director, as this one saw it."""
    said = director.client.stream("/v1/events", {"types": "fleet", "last": 100, "follow": "false"})
    return [message.event for message in said if json.loads(message.data)["subject"] == name]


def test_the_last_one_stays(pair: list[LabDirector]) -> None:
    one, two = pair
    await_ready(pair)
    one.client.post("/v1/fleet/d1/drain", {"reason": "a test"})
    refused = two.host.run(*command(two, "fleet", "drain", "d2"), check=False)
    try:
        assert refused.returncode == 4
        assert "no other director is ready to take the traffic of 'd2' (d1 is not)" in refused.stderr
    finally:
        two.client.post("/v1/fleet/d1/enable")
    wait_until(lambda: one.ready, "it is back", SOON)
