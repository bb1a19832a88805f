# SPDX-License-Identifier: Apache-2.0
"""The same command lines for the real ipvsadm, over Debian's kernel, and for ours, over a director without packets:
equal status, output and errors. Each list shows what the commands before it meant.
"""

from __future__ import annotations

import io
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.api_server import ApiServer
from tests.support.fake_director import CLIENT, FakeDirector
from tests.support.ipvsadm_grammar import DIRECT, MARKS, MISTAKES, PROTOCOLS, SCHEDULERS, TUNNELS, Grammar
from xdpdirector.client import Client
from xdpdirector.lab.host import run
from xdpdirector.lvs import ipvsadm
from xdpdirector.lvs.names import SystemNames
from xdpdirector.model.lvs import LvsSpec, LvsSyncSpec
from xdpdirector.sync.ipvs import message, sockets
from xdpdirector.sync.ipvs.status import LvsIncoming, LvsOutgoing, LvsSyncView
from xdpdirector.sync.status import FleetView

NAMESPACE = "ipvsadm-test"
SEEDS = (101, 102, 103)
COMMANDS = 60
REWORDED = ("-A -6 -f 1",)
"""What Debian 13's ipvsadm refuses in other words than Debian 12's."""
SIZE = re.compile(r"\(size=\d+\)")
EXPIRES = re.compile(r"(?<=TCP )\d\d:\d\d")
BY_DESTINATION = (*SCHEDULERS, "dh", "lblc", "lblcr")
"""Without twos, of which Debian's kernel has no module."""
CONNECTIONS, WITHIN = 3, 60.0
ROLES = {"master": ["master"], "backup": ["backup"], "both": ["master", "backup"]}
DAEMON = ("--mcast-interface", "sync0", "--syncid", "5", "--mcast-port", "8849")


class NoHosts(SystemNames):
    def address(self, host: str) -> str | None:
        return None

    def host(self, address: str) -> str | None:
        return None


class Said(NamedTuple):
    status: int
    output: str
    errors: str


@pytest.fixture
def kernel() -> Iterator[None]:
    """An empty table of IPVS, in a namespace of its own."""
    run("modprobe", "ip_vs")
    run("ip", "netns", "add", NAMESPACE)
    run("ip", "-n", NAMESPACE, "link", "set", "lo", "up")
    yield
    run("ip", "netns", "delete", NAMESPACE)


@pytest.fixture
def director() -> FakeDirector:
    director = FakeDirector()
    director.lvs = LvsSpec(fwmarks=MARKS)
    return director


@pytest.fixture
def client(director: FakeDirector, tmp_path: Path) -> Iterator[Client]:
    with ApiServer(director, tmp_path / "api.sock") as server:
        yield server.client


def real(words: Sequence[str]) -> Said:
    line = ["ip", "netns", "exec", NAMESPACE, "ipvsadm", *words]
    done = subprocess.run(line, input="", capture_output=True, text=True, timeout=120, check=False)
    return Said(done.returncode, SIZE.sub("()", done.stdout), done.stderr)


def ours(words: Sequence[str], client: Client, memory: Path) -> Said:
    output, errors = io.StringIO(), io.StringIO()
    status = ipvsadm.main(
        words, client, memory, names=NoHosts(), output=output, errors=errors, source=io.StringIO()
    )
    # What a list that went well says on standard error is what its form cannot say.
    return Said(status, SIZE.sub("()", output.getvalue()), errors.getvalue() if status else "")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.usefixtures("kernel")
def test_what_the_grammar_makes(seed: int, client: Client, tmp_path: Path) -> None:
    grammar = Grammar(
        seed,
        ipv6=True,
        methods=(*DIRECT, *TUNNELS),
        schedulers=BY_DESTINATION,
        protocols=(*PROTOCOLS, "sctp"),
    )
    for words in grammar.commands(COMMANDS):
        plain = [word for word in words if word not in ("--stats", "--exact")]  # a fake counts

        assert ours(plain, client, tmp_path / "memory") == real(plain), (seed, words)


@pytest.mark.usefixtures("kernel")
def test_mistakes(client: Client, tmp_path: Path) -> None:
    for line in ("-A -t 192.0.2.11:80", *MISTAKES):
        words = line.split()
        if line in REWORDED:
            continue

        assert ours(words, client, tmp_path / "memory") == real(words), line


@pytest.fixture
def cable(kernel: None) -> Iterator[None]:
    """From this host to the namespace, `sync0` at both ends."""
    run("ip", "link", "add", "sync0", "type", "veth", "peer", "name", "sync0", "netns", NAMESPACE)
    try:
        run("ip", "address", "add", "198.18.0.1/24", "dev", "sync0")
        run("ip", "link", "set", "sync0", "up")
        run("ip", "-n", NAMESPACE, "address", "add", "198.18.0.2/24", "dev", "sync0")
        run("ip", "-n", NAMESPACE, "address", "add", "2001:db8:18::2/64", "dev", "sync0", "nodad")
        run("ip", "-n", NAMESPACE, "link", "set", "sync0", "up")
        yield
    finally:
        run("ip", "link", "delete", "sync0")


def give_connections() -> None:
    """The real table gets connections as a backup does: by datagrams of the sync protocol."""
    client, vip, server = (ip_address(each).packed for each in (CLIENT, "192.0.2.11", "192.0.2.21"))
    entries = [
        message.Entry(6, client, 40000 + number, vip, 80, server, 80, 0x83, 1, 900)
        for number in range(CONNECTIONS)
    ]
    with sockets.sending(LvsSyncSpec(role="master", interface="sync0")) as opened:
        for datagram in message.written(entries, 0):
            opened.send(datagram)


@pytest.mark.usefixtures("cable")
def test_connections_and_rates(director: FakeDirector, client: Client, tmp_path: Path) -> None:
    for line in ("-A -t 192.0.2.11:80 -s rr", "-a -t 192.0.2.11:80 -r 192.0.2.21 -g",
                 "-a -t 192.0.2.11:80 -r 10.0.0.22 -g"):  # fmt: skip
        assert ours(line.split(), client, tmp_path / "memory") == real(line.split())
    assert real(["--start-daemon", "backup", "--mcast-interface", "sync0"]).status == 0
    end = time.monotonic() + WITHIN
    while real(["-L", "-n", "-c"]).output.count("TCP") < CONNECTIONS and time.monotonic() < end:
        give_connections()
    [service] = director.services()
    [backend] = [each.name for each in service.backends if str(each.address) == "192.0.2.21"]
    director.busy[service.name, backend] = CONNECTIONS

    for line in ("-L -n -c", "-Lnc", "-l -n --connection", "-L -n -c --sort"):
        said, other = ours(line.split(), client, tmp_path / "memory"), real(line.split())
        assert said.status == other.status, line
        assert lines(said.output) == lines(other.output), line
    for line in ("-L -n --rate", "-L -n --rate --exact", "-L -n -t 192.0.2.11:80 --rate"):
        assert ours(line.split(), client, tmp_path / "memory") == real(line.split()), line


@pytest.mark.parametrize("group", ["224.0.0.81", "ff02::81"])
@pytest.mark.usefixtures("cable")
def test_sync_daemons(group: str, director: FakeDirector, client: Client, tmp_path: Path) -> None:
    for role, states in ROLES.items():
        spec = LvsSyncSpec.model_validate(
            {"role": role, "interface": "sync0", "syncid": 5, "group": group, "port": 8849}
        )
        director.lvs = LvsSpec(sync=spec)
        incoming = LvsIncoming() if spec.receives else None
        outgoing = LvsOutgoing() if spec.sends else None
        director.fleet = FleetView(
            lvs=LvsSyncView(
                role=spec.role, interface="sync0", syncid=5, group=group, incoming=incoming, outgoing=outgoing
            )
        )
        for state in states:
            assert real(["--start-daemon", state, *DAEMON, "--mcast-group", group]).status == 0

        listed = real(["-L", "--daemon"])
        assert listed.output.count("sync daemon") == len(states)
        assert ours(["-L", "--daemon"], client, tmp_path / "memory") == listed, role

        for state in states:
            real(["--stop-daemon", state])


def lines(output: str) -> list[str]:
    """Title, then connections in any order: the kernel's is that of its hash. When they expire differs."""
    head, columns, *rows = EXPIRES.sub("--:--", output).splitlines()
    return [head, columns, *sorted(rows)]
