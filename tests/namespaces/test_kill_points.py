# SPDX-License-Identifier: Apache-2.0
"""kill -9 at any instruction of an apply, under traffic.

The daemon replaces its whole configuration, and dies: at each system call by which it could change anything outside
of itself (maps, database, sockets), one after the other, in both directions; and, for the stores into mapped memory
between them, at moments spread over the apply. After each death a new daemon must bring the maps to what is wanted,
by the old configuration or the new one, and no datagram may be lost. Every call is the soak's;
otherwise it is each twelfth.
"""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.support.datagram_stream import Stream
from tests.support.forkserver import ForkServer
from xdpdirector.control.planner import BackendStatus, plan
from xdpdirector.dataplane.kernel import RealPlane
from xdpdirector.errors import UnreachableError
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import backend_address
from xdpdirector.lab.processes import Process
from xdpdirector.lab.topology import VIP4
from xdpdirector.lab.waiting import wait_until
from xdpdirector.loader import layout
from xdpdirector.model import Configuration
from xdpdirector.model.status import Operational
from xdpdirector.net.next_hop import Route
from xdpdirector.paths import InstancePaths

pytestmark = pytest.mark.root

Document = dict[str, Any]

GOLDEN = 0.618034  # multiples of it spread evenly over the unit, however many there are
RECOVERS = 5.0  # seconds: what is promised
RATE = 1000  # datagrams a second
HASHED, COUNTED = 7, 9  # ports
CHANGING = "bpf,pwrite64,write,fdatasync,fsync,ftruncate,rename,unlink,sendto,sendmsg"
SIZES = {"connections": 1 << 14, "connections6": 1024, "clients": 1024, "ring_slots": 1 << 14}


@pytest.fixture(scope="module")
def lab(lab_factory: Callable[..., Lab]) -> Lab:
    lab = lab_factory(backends=3)
    for host in lab.backends:
        for port in (HASHED, COUNTED):
            lab.echo(host.name, port)
    return lab


def document(lab: Lab, *, large: bool) -> Document:
    """The large one has a backend more, other weights, another listener, and `more` in place of `less`."""
    nodes = lab.topology.backend_nodes[: 3 if large else 2]
    backends = {
        node.name: {"address": backend_address(node), "weight": 1 + number * large}
        for number, node in enumerate(nodes)
    }
    common = {"backends": backends, "on_down": "schedule", "timeouts": {"udp": "10s"}}
    ports = [COUNTED, 8] if large else [COUNTED]
    return {
        "interfaces": ["eth0"],
        "sizes": SIZES,
        "services": {
            "hashed": {"listeners": [f"{VIP4}:{HASHED}/udp"], "scheduler": "mh", "ring_slots": 251, **common},
            "counted": {"listeners": [f"{VIP4}:{port}/udp" for port in ports], "scheduler": "wlc", **common},
            "more" if large else "less": {"listeners": [f"{VIP4}:{81 if large else 82}/tcp"], **common},
        },
    }


Weapon = Callable[[Process], AbstractContextManager[None]]


class Victims:
    """Daemons, one after the other: each is told to replace its configuration, and dies of it.

    `deaths` counts by what was wanted afterwards.
    """

    def __init__(self, lab: Lab, daemons: ForkServer, paths: InstancePaths) -> None:
        self.deaths: Counter[str] = Counter()
        self._lab, self._daemons, self._paths = lab, daemons, paths
        self._documents = {large: document(lab, large=large) for large in (True, False)}
        [link] = json.loads(lab.director_host.run("ip", "-json", "link", "show", "eth0").stdout)
        index = link["ifindex"]
        macs = {node.name: bytes.fromhex(node.mac().replace(":", "")) for node in lab.topology.hosts}
        self._standings = {
            node.name: BackendStatus(
                Operational.UP,
                "",
                Route("neighbour", macs[node.name], macs["director"], index, "eth0", wire=index),
            )
            for node in lab.topology.backend_nodes
        }
        self._process = self._live(60.0)

    def replace(self, large: bool) -> bool:
        """Whether the daemon lives to answer."""
        try:
            self._daemons.client.put("/v1/config", self._documents[large])
        except UnreachableError:
            return False
        return True

    def die(self, large: bool, weapon: Weapon) -> bool:
        """On the way to the large configuration or from it; whether the weapon was quick enough. Afterwards another
        daemon lives and is ready within what is promised, and all is as that one wants it."""
        assert self.replace(not large)
        with weapon(self._process):
            survived = self.replace(large)
        self._daemons.kill()
        self._process = self._live(RECOVERS)
        if not survived:
            is_large = "more" in self._wanted().services
            self.deaths["the new configuration" if is_large is large else "the old configuration"] += 1
        return not survived

    def drift(self) -> int:
        return int(self._daemons.client.get("/v1/stats")["drift_repaired"])

    def _live(self, within: float) -> Process:
        until = time.monotonic() + within
        process = self._daemons.start(within)
        wait_until(self._all_serve, "all backends serve", until - time.monotonic())
        assert self._missing() == 0, "places of the maps are not as wanted"
        return process

    def _all_serve(self) -> bool:
        services = self._daemons.client.get("/v1/services")["items"]
        return all(backend["serving"] for service in services for backend in service["backends"])

    def _missing(self) -> int:
        """How many places would be written by somebody who knows nothing but the maps, and wants the same. It is
        asked once: that one writes them."""
        services, loaded = self._wanted().services, layout.read(self._paths)
        assert loaded
        with RealPlane(self._paths, loaded) as plane:
            unwanted = plane.services() ^ set(services)
            return len(unwanted) + sum(
                plane.apply(plan(name, spec, {key: self._standings[key] for key in spec.backends}), 0.0)
                for name, spec in services.items()
            )

    def _wanted(self) -> Configuration:
        return Configuration.model_validate(self._daemons.client.get("/v1/config"))


@pytest.fixture
def victims(lab: Lab) -> Iterator[Victims]:
    paths = lab.topology.instance
    configuration = lab.director_host.directory("daemons") / "director.yaml"
    with configuration.open("w") as file:
        YAML().dump(document(lab, large=False), file)
    with ForkServer(lab.director_host, paths, configuration) as daemons:
        yield Victims(lab, daemons, paths)


def at_call(number: int) -> Weapon:
    """As a thread of the process begins its so-manieth system call, from now on, that changes something outside."""

    @contextmanager
    def weapon(process: Process) -> Iterator[None]:
        what = ["-e", f"trace={CHANGING}", "-e", f"inject={CHANGING}:signal=KILL:when={number}"]
        command = ["strace", "-f", "-p", str(process.pid), "-o", "/dev/null", *what]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stderr
            assert "attached" in tracer.stderr.readline()
            yield
            tracer.terminate()

    return weapon


def after(seconds: float) -> Weapon:
    @contextmanager
    def weapon(process: Process) -> Iterator[None]:
        bomb = threading.Timer(seconds, lambda: process.send(signal.SIGKILL))
        bomb.start()
        yield
        bomb.join()

    return weapon


@pytest.mark.parametrize(("deaths", "each"), [(20, 12), pytest.param(200, 1, marks=pytest.mark.soak)])
def test_no_death_loses_a_datagram_or_leaves_the_maps_half_changed(
    lab: Lab, victims: Victims, deaths: int, each: int
) -> None:
    """At least so many deaths, a fifth of them or more in time; in between at each so-manieth call."""
    program = lab.director_host.xdp_program()
    with Stream(lab.client, RATE, f"{VIP4}:{HASHED}", f"{VIP4}:{COUNTED}") as stream:
        for large in (True, False):
            calls = itertools.count(1, each)
            while victims.die(large, at_call(next(calls))):
                pass
        at_calls = victims.deaths.total()
        begun = time.perf_counter()
        victims.replace(True)
        takes = time.perf_counter() - begun
        moments = (takes * (number * GOLDEN % 1.0) for number in itertools.count())
        while victims.deaths.total() < max(at_calls + deaths // 5, deaths):
            victims.die(victims.deaths.total() % 2 == 0, after(next(moments)))
        account = stream.finish()

    assert lab.director_host.xdp_program() == program
    assert account.unanswered == []
    assert account.answered > RATE
    assert victims.deaths["the old configuration"] > deaths // 10
    assert victims.deaths["the new configuration"] > deaths // 10
    assert victims.drift() == 0
