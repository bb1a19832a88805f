# SPDX-License-Identifier: Apache-2.0
"""Directors that are active at once: a router sends each flow to one of those that announce the VIPs (BGP, BFD,
ECMP), and to another one when a director comes or goes. No connection changes its backend.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPException
from typing import Any

import pytest

from tests.support.lab_client import Conversation
from xdpdirector.client import backend_path, service_path
from xdpdirector.lab import Lab, bird
from xdpdirector.lab.bird import Bird, knows, make_vip_interface
from xdpdirector.lab.configuration import SERVICE, web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.lab.waiting import wait_until

pytestmark = pytest.mark.root

PORT = 8651
ACTIVE, ALL = 3, 4
SOON = 90.0  # seconds: for what takes one or two on a quiet machine


@pytest.fixture(scope="module")
def lab(lab_factory: Callable[..., Lab]) -> Lab:
    lab = lab_factory(backends=4, directors=ALL, router=True)
    for host in lab.backends:
        lab.nginx(host.name)
    for host in lab.director_hosts:
        make_vip_interface(host)
    return lab


class Fleet:
    """Directors by number, from 1 on; all have one desired state, which the test gives to each."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.backends = {node.name: "enabled" for node in lab.topology.backend_nodes[:3]}
        """Names, and `admin` of each."""
        self.directors: dict[int, LabDirector] = {}
        self._birds = [Bird(host) for host in lab.director_hosts]
        self._router = Bird(lab.router)
        self._router.start(bird.of_router(lab.topology))

    def start(self, number: int) -> None:
        """With an empty table; the router knows it then."""
        announcing = len(self.directors)
        self.directors[number] = director = self.lab.director(self._configuration(number), number=number)
        wait_until(lambda: self._serves(director), f"the backends serve at director {number}", SOON)
        self._birds[number - 1].start(
            bird.of_director(self.lab.topology, self.lab.topology.director_nodes[number - 1])
        )
        self.await_next_hops(announcing + 1)

    def _serves(self, director: LabDirector) -> bool:
        """All that shall."""
        shown = {each["name"]: each for each in director.client.get(service_path(SERVICE))["backends"]}
        return all(shown[name]["serving"] for name, admin in self.backends.items() if admin == "enabled")

    def kill(self, number: int) -> None:
        """As a machine that loses its power."""
        self.lab.director_hosts[number - 1].link_down()
        self._birds[number - 1].kill()
        self.directors.pop(number).kill()
        self.await_next_hops(len(self.directors))

    def repair(self, number: int) -> None:
        """It is there again, with nothing of what it knew."""
        host, instance = self.lab.director_hosts[number - 1], self.lab.topology.instances[number - 1]
        host.run(sys.executable, "-m", "xdpdirector", "-i", instance.name, "unload", timeout=60)
        for vip in (VIP4, VIP6):
            host.run(
                "ip", "addr", "del", f"{vip}/{vip.max_prefixlen}", "dev", bird.VIP_INTERFACE, check=False
            )
        host.link_up()

    def await_next_hops(self, count: int) -> None:
        wait_until(lambda: knows(self.lab.router, count), f"the router knows {count} directors", SOON, 0.1)

    def await_serving(self) -> None:
        for number, director in self.directors.items():
            wait_until(
                lambda director=director: self._serves(director), f"all serve at director {number}", SOON
            )

    def each(self, act: Callable[[LabDirector], object]) -> None:
        """The same change on all; then they have told each other what it moved."""
        for director in self.directors.values():
            act(director)
        self.exchange()

    def exchange(self) -> None:
        """Until all have merged what all others had found by now: two heartbeats of each."""
        for _ in range(2):
            before = {number: self._lags(number) for number in self.directors}
            for number, lags in before.items():
                wait_until(
                    lambda number=number, lags=lags: all(
                        lag is not None and lag != lags.get(peer) for peer, lag in self._lags(number).items()
                    ),
                    f"director {number} has told its peers",
                    SOON,
                )

    def _lags(self, number: int) -> dict[str, Any]:
        """Of those peers that live."""
        living = {f"{self._address(each)}:{PORT}" for each in self.directors}
        peers = self.directors[number].client.get("/v1/fleet")["peers"]
        return {peer["address"]: peer["outgoing"]["lag"] for peer in peers if peer["address"] in living}

    def _address(self, number: int) -> str:
        return str(self.lab.topology.director_nodes[number - 1].ipv4)

    def _configuration(self, number: int) -> dict[str, Any]:
        nodes = [node for node in self.lab.topology.backend_nodes if node.name in self.backends]
        document = web_configuration(nodes, scheduler="mh")
        for name, backend in document["services"][SERVICE]["backends"].items():
            backend["admin"] = self.backends[name]
        return document | {
            "vips": {"on": "dummy", "interface": bird.VIP_INTERFACE},
            "sync": {
                "name": f"director{number}",
                "listen": f"{self._address(number)}:{PORT}",
                "peers": [f"{self._address(each)}:{PORT}" for each in range(1, ALL + 1) if each != number],
                "insecure": True,
                "patience": 2,
            },
        }

    def close(self) -> None:
        for each in (*self._birds, self._router):
            each.stop()
        for director in self.directors.values():
            director.stop()


@pytest.fixture
def fleet(lab: Lab) -> Iterator[Fleet]:
    fleet = Fleet(lab)
    try:
        for number in range(1, ACTIVE + 1):
            fleet.start(number)
        yield fleet
    finally:
        fleet.close()


class Clients:
    """Connections that are never opened a second time."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.running: list[Conversation] = []

    def open(self, count: int) -> None:
        for vip in (VIP4, VIP6):
            for _ in range(count // 2):
                self.running.append(Conversation(self._lab.client, vip, timeout=SOON))

    def owners(self) -> set[str]:
        return {each.backend for each in self.running}

    def lose(self, backend: str) -> None:
        """It is gone, and so are its connections."""
        for each in [each for each in self.running if each.backend == backend]:
            self.running.remove(each)
            each.close()

    def moved(self) -> dict[int, tuple[str, str]]:
        """Those that no longer get an answer from their backend, and what they got."""
        found = {}
        for number, each in enumerate(self.running):
            try:
                now = each.who()
            except (OSError, HTTPException) as error:
                now = repr(error)
            if now != each.backend:
                found[number] = (each.backend, now)
        return found

    def close(self) -> None:
        for each in self.running:
            with suppress(OSError):
                each.close()


@pytest.fixture
def clients(lab: Lab) -> Iterator[Clients]:
    clients = Clients(lab)
    try:
        yield clients
    finally:
        clients.close()


@pytest.mark.slow
def test_no_connection_changes_its_backend(lab: Lab, fleet: Fleet, clients: Clients) -> None:
    """While backends are added, drained, set down and removed, and a director dies, returns, and a fourth joins."""
    backend = {name: backend_path(SERVICE, name) for name in ("backend1", "backend2", "backend4")}
    clients.open(300)
    assert clients.owners() == set(fleet.backends)
    assert clients.moved() == {}

    added = lab.topology.backend_nodes[3]
    body = {"name": added.name, "address": str(added.ipv4), "weight": 1}
    fleet.each(lambda each: each.client.post(f"{service_path(SERVICE)}/backends", body))
    fleet.backends[added.name] = "enabled"
    fleet.await_serving()
    clients.open(40)
    assert clients.moved() == {}

    fleet.each(lambda each: each.client.post(f"{backend['backend1']}/drain", {"reason": "a test"}))
    fleet.backends["backend1"] = "drain"
    assert clients.moved() == {}

    fleet.kill(2)
    assert clients.moved() == {}

    fleet.each(lambda each: each.client.post(f"{backend['backend2']}/maintenance"))
    fleet.backends["backend2"] = "maintenance"
    clients.lose("backend2")
    clients.open(40)
    assert "backend2" not in {each.backend for each in clients.running}
    assert clients.moved() == {}

    fleet.repair(2)
    fleet.start(2)
    assert clients.moved() == {}

    fleet.start(4)
    clients.open(40)
    assert clients.moved() == {}

    clients.lose("backend1")
    fleet.each(lambda each: each.client.delete(f"{backend['backend1']}?force=true"))
    assert clients.moved() == {}
    assert clients.owners() == {"backend3", "backend4"}
