# SPDX-License-Identifier: Apache-2.0
"""Restarts, upgrades, changes and rollbacks in turn, under a steady stream: nothing is lost or moved."""

import itertools
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.lab_director import CHECK, command, directing, view
from tests.support.numbered_datagrams import Numbered, Tally
from tests.support.releases import another_program, replace
from tests.support.running_transfers import all_running, serves
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import SERVICE, web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.host import Host
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.lab.waiting import wait_until

pytestmark = pytest.mark.root

RATE, LEAST = 1200, 1000  # datagrams a second: asked for, and needed for the promise to be proved
FLOWS = 25  # on each VIP
PORT = 5000
OTHER_SIZES = {"services": 64, "backends": 1024, "connections": 1 << 17, "connections6": 1 << 15}


@dataclass
class Operator:
    """What people do to a director. `document` is what its file says."""

    director: LabDirector
    document: dict[str, Any]
    program: Path
    """Another one, over the same maps."""

    def kill(self) -> None:
        self.director.kill()
        self.director.start()

    def stop(self) -> None:
        assert self.director.stop()
        self.director.start()

    def replace(self) -> None:
        """By another release, and back."""
        replace(self.director, self.program)
        command(self.director, "load", "--config", str(self.director.configuration))

    def reload(self) -> None:
        backend = self.document["services"][SERVICE]["backends"]["backend2"]
        backend["weight"] = weight = 3 if backend["weight"] == 1 else 1
        self.director.configure(self.document)
        assert self.director.pid
        os.kill(self.director.pid, signal.SIGHUP)
        wait_until(lambda: view(self.director, "backend2")["weight"] == weight, "the file is read again")

    def roll_back(self) -> None:
        client = self.director.client
        before, revision = client.get("/v1/config"), client.get("/readyz")["revision"]
        changed = deepcopy(before)
        changed["services"][SERVICE]["backends"]["backend3"]["weight"] = 4
        changed["services"][SERVICE]["timeouts"] = {"udp": "200s"}
        client.put("/v1/config", changed)
        command(self.director, "revisions", "rollback", str(revision))
        assert client.get("/v1/config") == before

    def lay_out_anew(self) -> None:
        """Other sizes, so other maps, or those from before."""
        assert self.director.stop()
        if not self.document.pop("sizes", None):
            self.document["sizes"] = OTHER_SIZES
        self.director.configure(self.document)
        self.director.start()


ROUND = [Operator.kill, Operator.reload, Operator.roll_back, Operator.replace, Operator.reload, Operator.roll_back,
         Operator.stop, Operator.reload, Operator.roll_back, Operator.lay_out_anew, Operator.reload,
         Operator.roll_back]  # fmt: skip


@pytest.fixture(scope="module")
def lab(lab_factory: Callable[..., Lab]) -> Lab:
    lab = lab_factory(backends=3)
    for host in lab.backends:
        lab.nginx(host.name, big_megabytes=64)
    return lab


@pytest.fixture(scope="module", params=["wlc", "mh"])
def operator(
    lab: Lab, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    document = web_configuration(lab.topology.backend_nodes, scheduler=request.param, check=CHECK)
    service = document["services"][SERVICE]
    service["listeners"] += [f"{VIP4}:{PORT}/udp", f"[{VIP6}]:{PORT}/udp"]
    service["check"]["port"] = 80
    program = another_program(tmp_path_factory.mktemp("release"))
    with directing(lab, document) as director:
        yield Operator(director, document, program)


@pytest.fixture
def stream(lab: Lab, operator: Operator) -> Iterator[Numbered]:
    with Numbered(lab.client, lab.backends, [str(VIP4), str(VIP6)], PORT, RATE, FLOWS) as stream:
        yield stream


def carrier_changes(host: Host) -> int:
    said = host.run("ip", "-json", "-statistics", "-statistics", "link", "show", "dev", "eth0").stdout
    return int(json.loads(said)[0]["stats64"]["tx"]["carrier_changes"])


def blamed(tally: Tally, begun: list[tuple[float, str]]) -> Counter[str]:
    """How many were lost after what had begun."""
    return Counter(
        next((name for since, name in reversed(begun) if since <= sent), "before all") for sent in tally.lost
    )


@pytest.mark.parametrize("cycles", [len(ROUND), pytest.param(3 * len(ROUND), marks=pytest.mark.soak)])
def test_nothing_is_lost_or_moved(lab: Lab, operator: Operator, stream: Numbered, cycles: int) -> None:
    host, director = lab.director_host, operator.director
    carrier, begun = carrier_changes(host), []

    for cycle, change in zip(range(cycles), itertools.cycle(ROUND), strict=False):
        begun.append((time.time(), f"{cycle}: {change.__name__}"))
        change(operator)
        director.wait_serving()
        assert host.xdp_program() is not None
        assert director.client.get("/v1/stats")["drift_repaired"] == 0
    tally = stream.finish()

    assert blamed(tally, begun) == {}
    assert (tally.repeated, tally.moved) == (0, [])
    assert tally.rate >= LEAST
    assert tally.used == {"backend1", "backend2", "backend3"}
    assert carrier_changes(host) == carrier


def test_transfers_survive_other_maps(lab: Lab, operator: Operator) -> None:
    before = lab.director_host.xdp_program()
    with all_running(lab) as running:
        operator.lay_out_anew()
        serves(lab, "backend1", "backend2", "backend3")

        running.assert_whole()
    assert lab.director_host.xdp_program() not in (None, before)


def test_a_program_that_is_taken_off_for_a_moment_is_noticed(
    lab: Lab, operator: Operator, stream: Numbered
) -> None:
    """What the first test would say of an upgrade that does not replace the program in place."""
    lab.director_host.run("ip", "link", "set", "dev", "eth0", "xdp", "off")
    command(operator.director, "load", "--config", str(operator.director.configuration))

    assert stream.finish().lost
