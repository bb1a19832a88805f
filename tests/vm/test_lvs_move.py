# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector lvs move` from a director with the kernel's own IPVS, with downloads that run: to ours, back, and to
ours again. None breaks.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

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
BEFORE, LATER = 30, 10
STARTS = 3 * PATIENCE
"""Compiling, where the machine that emulates is busy, too."""
SERVED_FOR = 64  # megabytes of a download: at 80 kB/s it outlasts the test


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


class Downloads:
    """Some of them, as processes of the client; what they say goes to a file."""

    def __init__(self, lab: Lab, name: str, count: int) -> None:
        self._log = lab.record.directory / f"downloads-{name}"
        self._count = count
        words = [sys.executable, "-m", "xdpdirector.lab.pair.downloads", f"{VIP4}:80", "--count", str(count)]
        with self._log.open("w") as file:
            line = ["ip", "netns", "exec", lab.client.node.namespace, *words]
            self._process = subprocess.Popen(line, stdout=file)
        wait_until(self._all_run, f"{count} downloads run", PATIENCE)

    def _said(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self._log.read_text().splitlines() if line.endswith("}")]

    def _all_run(self) -> bool:
        return sum(each["what"] == "opened" for each in self._said()) >= self._count

    def assert_whole(self) -> None:
        assert self._process.poll() is None
        said = self._said()
        assert [each for each in said if each["what"] == "broken"] == []
        assert sum(each["what"] == "opened" for each in said) == self._count  # none began anew

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=PATIENCE)


class Mover:
    """The command, with the steps of docs/from-lvs.md."""

    def __init__(self, lab: Lab, lvs: Host, director: LabDirector) -> None:
        here, there = director.host.node.namespace, lvs.node.namespace
        self._line = [sys.executable, "-m", "xdpdirector", "--instance", director.paths.name, "lvs", "move"]
        self._line += ["--from", f"ip netns exec {there}", "--vip", str(VIP4)]
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
    move, downloads = Mover(lab, lvs, director), [Downloads(lab, "before", BEFORE)]
    try:
        wait_until(lambda: there(lvs) >= BEFORE, "LVS has the downloads", PATIENCE)

        status, said = move("--go", "--wait", str(PATIENCE), take=["false"])
        assert (status, "'false' ended with status 1" in said) == (1, True), said
        before = packets(lvs)
        wait_until(lambda: packets(lvs) > before + BEFORE, "LVS has the packets again", PATIENCE)
        downloads[0].assert_whole()

        status, said = move("--go", "--wait", str(PATIENCE))
        assert (status, f"{VIP4} is here" in said) == (0, True), said
        now = here(director)
        wait_until(lambda: here(director) > now + BEFORE, "our director has the packets", PATIENCE)
        downloads[0].assert_whole()

        downloads.append(Downloads(lab, "later", LATER))
        wait_until(lambda: there(lvs) >= BEFORE + LATER, "LVS has heard of the later ones", PATIENCE)
        status, said = move("--back")
        assert (status, f"{VIP4} is LVS's again" in said) == (0, True), said
        before = packets(lvs)
        wait_until(lambda: packets(lvs) > before + BEFORE, "LVS has the packets after the way back", PATIENCE)
        for each in downloads:
            each.assert_whole()

        status, said = move("--go", "--wait", str(PATIENCE))
        assert (status, f"{VIP4} is here" in said) == (0, True), said
        now = here(director)
        wait_until(lambda: here(director) > now + BEFORE, "our director has the packets again", PATIENCE)
        for each in downloads:
            each.assert_whole()
    finally:
        for each in downloads:
            each.end()
