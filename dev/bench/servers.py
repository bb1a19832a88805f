# SPDX-License-Identifier: Apache-2.0
"""What real clients get from real servers through the lab's director, and from a server without any."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from dev.bench.director_target import MH, WLC
from dev.bench.figure import Figure, Key
from dev.bench.samples import Series, interleaved
from dev.bench.workload import Pace, Workload
from xdpdirector.client import service_path
from xdpdirector.lab.configuration import SERVICE, backend_address, web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.errors import LabError
from xdpdirector.lab.lab import Lab
from xdpdirector.lab.topology import VIP4

DIRECT = "no director"
CONNECTIONS_PER_SECOND, GIGABITS = "connections/s", "Gbit/s"
IPERF, IPERF_PORT, HTTP_PORT = "iperf", 5201, 80
_UNITS = {
    Workload.CONNECTIONS: CONNECTIONS_PER_SECOND,
    Workload.UPLOAD: GIGABITS,
    Workload.DOWNLOAD: GIGABITS,
}
_HOW = {
    Workload.CONNECTIONS: "One client process opens a connection, sends an HTTP request to nginx, reads the answer "
    "and goes on with the next one; all of client, switch, director and servers share this machine's CPUs, and the "
    "client is the slowest of them.",
    Workload.UPLOAD: "iperf3, one stream from the client, which passes the director; all on this machine's CPUs.",
    Workload.DOWNLOAD: "iperf3, one stream to the client, which bypasses the director (its acknowledgements pass "
    "it); all on this machine's CPUs.",
}


class Servers:
    """In a lab that is up and has two backends."""

    def __init__(self, lab: Lab, pace: Pace) -> None:
        if not shutil.which("iperf3"):
            raise LabError("the command 'iperf3' is missing: apt-get install iperf3")
        self._lab, self._pace = lab, pace
        self._near = str(lab.backends[0].node.ipv4)

    def run(self) -> Iterator[Figure]:
        for host in self._lab.backends:
            self._lab.nginx(host.name)
        self._lab.backends[0].popen("iperf3", "--server", role=IPERF)
        director = self._lab.director(self._configuration())
        director.wait_serving()
        values: dict[Key, list[float]] = {}
        for scheduler in (MH, WLC):
            self._use(director, scheduler)
            for key, series in interleaved(self._cases(scheduler), self._pace.server_rounds).items():
                values.setdefault(key, []).extend(series.values)
        director.stop()
        for key, found in values.items():
            workload = Workload(key.workload)
            yield Figure(key, Series.of(found), _HOW[workload], unit=_UNITS[workload])

    def _configuration(self) -> dict[str, Any]:
        """The web service, and one for iperf3 with a single backend: its two connections belong together."""
        nodes = self._lab.topology.backend_nodes
        document = web_configuration(nodes, scheduler=MH)
        document["services"][IPERF] = {
            "listeners": [f"{VIP4}:{IPERF_PORT}/tcp"],
            "scheduler": MH,
            "backends": {nodes[0].name: {"address": backend_address(nodes[0])}},
        }
        return document

    def _use(self, director: LabDirector, scheduler: str) -> None:
        for service in (SERVICE, IPERF):
            director.client.patch(service_path(service), {"scheduler": scheduler})

    def _cases(self, scheduler: str) -> dict[Key, Callable[[], float]]:
        cases: dict[Key, Callable[[], float]] = {}
        for program, address in ((DIRECT, self._near), (scheduler, str(VIP4))):
            cases[Key(Workload.CONNECTIONS, program)] = partial(self._connections, address)
            cases[Key(Workload.UPLOAD, program)] = partial(self._gigabits, address)
            cases[Key(Workload.DOWNLOAD, program)] = partial(self._gigabits, address, "--reverse")
        return cases

    def _connections(self, address: str) -> float:
        seconds = self._pace.server_seconds
        module = [sys.executable, "-m", "dev.bench.connector"]
        text = self._lab.client.run(
            *module, address, str(HTTP_PORT), f"{seconds:g}", timeout=seconds + 10
        ).stdout
        result = json.loads(text)
        if result["failed"]:
            raise LabError(
                f"{result['failed']:.0f} connections to {address} failed, {result['served']:.0f} did not"
            )
        return float(result["served"] / result["seconds"])

    def _gigabits(self, address: str, *options: str) -> float:
        seconds = self._pace.server_seconds
        command = ["iperf3", "--client", address, "--time", f"{max(1, round(seconds))}", "--json", *options]
        result = json.loads(self._lab.client.run(*command, timeout=seconds + 15).stdout)
        return float(result["end"]["sum_received"]["bits_per_second"]) / 1e9
