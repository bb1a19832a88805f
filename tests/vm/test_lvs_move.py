# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector lvs move` from a director with the kernel's own IPVS, with 300 downloads that run and 50 new
connections a second: to ours, back, and to ours again. No download breaks; what the new ones saw is printed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.support.slowness import CHECK, PATIENCE
from xdpdirector.errors import DirectorError
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import SERVICE, backend_address, web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.host import Host, run
from xdpdirector.lab.topology import VIP4
from xdpdirector.lab.waiting import wait_until
from xdpdirector.lvs.move import active

LISTENER = f"{VIP4}:80/tcp"
BEFORE, LATER, RATE = 300, 20, 50
SYNCED = 15.0
"""Seconds after which LVS has told of a connection with traffic: sync_refresh_period, and two for the datagram."""
STARTS = 3 * PATIENCE
"""Compiling, where the machine that emulates is busy, too."""
SERVED_FOR = 16  # megabytes of a download: at 0.8 kB/s it outlasts the test


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab("move", backends=2, directors=2) as lab:
        for host in lab.backends:
            lab.nginx(host.name, big_megabytes=SERVED_FOR)
        yield lab


@pytest.fixture
def lvs(lab: Lab) -> Host:
    """A director of LVS, which has the VIP and tells of its connections, and hears of ours."""
    run("modprobe", "ip_vs")
    host = lab.director_hosts[1]
    host.run("ip", "address", "add", f"{VIP4}/32", "dev", "eth0")
    host.run("ipvsadm", "-A", "-t", f"{VIP4}:80", "-s", "wlc")
    for node in lab.topology.backend_nodes:
        host.run("ipvsadm", "-a", "-t", f"{VIP4}:80", "-r", backend_address(node), "-g")
    host.run("sysctl", "-qw", "net.ipv4.vs.sync_refresh_period=10")
    for state in ("master", "backup"):
        host.run("ipvsadm", "--start-daemon", state, "--mcast-interface", "eth0")
    return host


class Load:
    """Clients in a process on the lab's client; what they say goes to a file."""

    def __init__(self, lab: Lab, name: str, downloads: int, rate: int = 0) -> None:
        self._log = lab.record.directory / f"clients-{name}"
        self._count, self._sums, self._since = downloads, Counter[str](), time.monotonic()
        words = [sys.executable, "-m", "tests.support.lvs_clients", str(VIP4), "80"]
        words += ["--downloads", str(downloads), "--rate", str(rate)]
        with self._log.open("w") as file:
            line = ["nice", "-n", "10", "ip", "netns", "exec", lab.client.node.namespace, *words]
            self._process = subprocess.Popen(line, stdout=file)
        wait_until(self._all_run, f"{downloads} downloads run", PATIENCE, interval=2)

    def _said(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines() if line.endswith("}")]

    def _all_run(self) -> bool:
        return sum(each["what"] == "opened" for each in self._said()) >= self._count

    def assert_whole(self) -> None:
        """No download of these was lost."""
        assert self._process.poll() is None
        said = self._said()
        assert [each for each in said if each["what"] == "broken"] == []
        assert sum(each["what"] == "opened" for each in said) == self._count

    def new_ones(self, phase: str) -> Counter[str]:
        """What became of the new connections since the last phase; printed, too."""
        last = [each for each in self._said() if each["what"] == "new"][-1]
        sums, seconds = Counter(last["sums"]), last["at"] - self._since
        since, self._sums, self._since = sums - self._sums, sums, last["at"]
        words = ", ".join(f"{count} {outcome}" for outcome, count in since.most_common())
        print(
            f"{phase}: {self._count} downloads run; in {seconds:.0f} s "
            f"{since['ok'] / seconds:.0f} new ones a second: {words}"
        )
        return since

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=PATIENCE)


class Mover:
    """The command, with the steps of docs/from-lvs.md."""

    def __init__(self, lab: Lab, lvs: Host, director: LabDirector) -> None:
        here, there = director.host.node.namespace, lvs.node.namespace
        self._line = [sys.executable, "-m", "xdpdirector", "--instance", director.paths.name, "lvs", "move"]
        self._line += ["--from", f"ip netns exec {there}", "--vip", str(VIP4), "--within", str(PATIENCE)]
        self._take = [f"ip -n {here} address add {{vip}}/32 dev eth0",
                      f"ip netns exec {here} arping -U -c 3 -I eth0 {{vip}}"]  # fmt: skip
        self._steps = {
            "--release": [f"ip -n {there} address del {{vip}}/32 dev eth0"],
            "--untake": [f"ip -n {here} address del {{vip}}/32 dev eth0"],
            "--return": [f"ip -n {there} address add {{vip}}/32 dev eth0",
                         f"ip netns exec {there} arping -U -c 3 -I eth0 {{vip}}"],
        }  # fmt: skip

    def __call__(self, *words: str, take: list[str] | None = None) -> tuple[int, str]:
        steps = self._steps | {"--take": take or self._take}
        said = [word for option, commands in steps.items() for each in commands for word in (option, each)]
        done = subprocess.run(
            [*self._line, *words, *said], capture_output=True, text=True, timeout=10 * PATIENCE, check=False
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def director(lab: Lab, lvs: Host) -> Iterator[LabDirector]:
    """Ours, without the VIP, so it is not ready; it hears and tells."""
    document = web_configuration(lab.topology.backend_nodes, check=CHECK)
    document["services"][SERVICE]["listeners"] = [LISTENER]
    document |= {"mode": "native", "vips": "external"}
    document["lvs"] = {"sync": {"role": "both", "interface": "eth0"}}
    made = LabDirector(lab.director_hosts[0], lab.topology.instances[0])
    made.configure(document)
    made.launch()

    def serve() -> bool:
        assert made.pid is not None
        with suppress(DirectorError):
            [service] = made.client.pages("/v1/services")["items"]
            return all(backend["serving"] for backend in service["backends"])
        return False

    try:
        wait_until(serve, "the backends serve", STARTS)
        yield made
    finally:
        print(made.log.read_text()[-4000:])  # shown when the test fails
        made.stop(PATIENCE)


def there(lvs: Host) -> int:
    """Active connections of LVS."""
    return active(lvs.run("ipvsadm", "-L", "-n").stdout, {}).get(LISTENER, 0)


def packets(lvs: Host) -> int:
    lines = lvs.run("ipvsadm", "-L", "-n", "--stats", "--exact").stdout.splitlines()
    return next(int(line.split()[3]) for line in lines if line.startswith("TCP"))


def here(director: LabDirector) -> int:
    return int(director.client.get(f"/v1/services/{SERVICE}")["traffic"]["packets"])


def test_downloads_outlive_the_move_and_the_way_back(lab: Lab, lvs: Host, director: LabDirector) -> None:
    move, began = Mover(lab, lvs, director), time.monotonic()
    loads = [Load(lab, "before", BEFORE, RATE)]

    def carried(counted: Callable[[], int], whose: str) -> None:
        """Each download has had a packet there, and none is lost."""
        now = counted()
        wait_until(lambda: counted() > now + 5 * BEFORE, f"{whose} has the packets", PATIENCE, interval=2)
        for each in loads:
            each.assert_whole()
        assert loads[0].new_ones(f"{whose}, at {time.monotonic() - began:.0f} s")["ok"] > 0

    def to_ours() -> None:
        time.sleep(SYNCED)
        status, said = move("--go", "--wait", str(PATIENCE))
        assert (status, f"{VIP4} is here" in said) == (0, True), said
        carried(lambda: here(director), "our director")

    try:
        wait_until(lambda: there(lvs) >= BEFORE, "LVS has the downloads", PATIENCE, interval=2)
        carried(lambda: packets(lvs), "LVS")

        status, said = move("--go", "--wait", str(PATIENCE), take=["false"])
        assert (status, "'false' ended with status 1" in said) == (1, True), said
        carried(lambda: packets(lvs), "LVS after a step that failed")

        to_ours()

        loads.append(Load(lab, "later", LATER))
        wait_until(
            lambda: there(lvs) >= BEFORE + LATER, "LVS has heard of the later ones", PATIENCE, interval=2
        )
        status, said = move("--back")
        assert (status, f"{VIP4} is LVS's again" in said) == (0, True), said
        carried(lambda: packets(lvs), "LVS after the way back")

        to_ours()
    finally:
        for each in loads:
            each.end()
