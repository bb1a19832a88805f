# SPDX-License-Identifier: Apache-2.0
"""Real QUIC connections whose client moves: with connection IDs that name backends it keeps its backend."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Certified, certify
from tests.support.lab_client import await_each
from tests.support.lab_director import CHECK, becomes, directing
from xdpdirector.client import backend_path, service_path
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import SERVICE, web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.lab.waiting import wait_until
from xdpdirector.model import Address

pytestmark = pytest.mark.root

PORT = 4433
NEW_ADDRESSES = {4: "192.0.2.101", 6: "2001:db8::101"}
CHECKOUT = Path(__file__).parents[2]
LB: dict[str, Any] = {"cids": "quic-lb", "length": 2, "encodes_length": True, "config_id": 2}
AT_3: dict[str, Any] = {"cids": "offset", "length": 2, "offset": 3}
IDS = {"backend1": "00a1", "backend2": "00b2"}
PREFIXES = {"quic-lb": "48{}", "offset": "616263{}"}  # 0x48: codepoint 2, and 8 octets behind it
VIPS = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
MOVES = 6


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    return certify(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def lab(lab_factory: Callable[..., Lab]) -> Lab:
    lab = lab_factory(backends=2)
    for host in lab.backends:
        lab.nginx(host.name)  # for the health check
    for version, address in NEW_ADDRESSES.items():
        prefix = "24" if version == 4 else "64"
        flags = () if version == 4 else ("nodad",)
        lab.client.run("ip", "address", "add", f"{address}/{prefix}", "dev", "eth0", *flags)
    return lab


@contextmanager
def serving(lab: Lab, certified: Certified, scheme: str) -> Iterator[None]:
    """A QUIC server on each backend and VIP, whose connection IDs have its ID as the scheme says."""
    with ExitStack() as stack:
        for host in lab.backends:
            prefix = PREFIXES[scheme].format(IDS[host.name])
            for vip in (VIP4, VIP6):
                bound = host.directory("quic") / f"bound-{scheme}-{vip.version}"
                bound.unlink(missing_ok=True)
                files = (str(certified.certificate), str(certified.key))
                server = host.popen(
                    *peers("serve", host.name, str(vip), str(PORT), *files, prefix, str(bound)),
                    role=f"quic-{vip.version}",
                    environment={"PYTHONPATH": str(CHECKOUT)},
                )
                stack.callback(server.wait)
                stack.callback(server.kill)
                wait_until(bound.exists, f"{host.name} serves QUIC at {vip}")
        yield


def peers(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tests.support.quic_peers", *arguments]


def document(lab: Lab, scheduler: str, quic: dict[str, Any] | None) -> dict[str, Any]:
    configuration = web_configuration(lab.topology.backend_nodes, scheduler=scheduler, check=CHECK)
    service = configuration["services"][SERVICE]
    service["listeners"] = [f"{VIP4}:{PORT}/udp", f"[{VIP6}]:{PORT}/udp"]
    service["check"]["port"] = 80
    if quic:
        service["quic"] = quic
        for name, backend in service["backends"].items():
            backend["quic_id"] = IDS[name]
    return configuration


class Connection:
    """A client's connection. Each request returns who has answered, and how many were answered on it, or None."""

    def __init__(self, lab: Lab, vip: Address) -> None:
        self._new_address = NEW_ADDRESSES[vip.version]
        self._log = lab.client.log("quic-client")
        self._client = lab.client.popen(
            *peers("ask", str(vip), str(PORT)),
            role="quic-client",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            environment={"PYTHONPATH": str(CHECKOUT)},
        )

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.kill()
        self._client.wait()

    def ask(self) -> tuple[str, int] | None:
        return self._say("ask")

    def rebind(self) -> tuple[str, int] | None:
        """From another port."""
        return self._say("rebind")

    def move(self) -> tuple[str, int] | None:
        """From another address."""
        return self._say(f"move {self._new_address}")

    def _say(self, line: str) -> tuple[str, int] | None:
        assert self._client.stdin
        assert self._client.stdout
        self._client.stdin.write(f"{line}\n")
        self._client.stdin.flush()
        name, _, count = self._client.stdout.readline().strip().partition(" ")
        assert name, self._log.read_text()[-2000:]
        return (name, int(count)) if count else None


@pytest.fixture(
    scope="module",
    params=[("wlc", LB), ("mh", LB), ("wlc", AT_3), ("mh", AT_3)],
    ids=lambda p: f"{p[0]}-{p[1]['cids']}",
)
def director(lab: Lab, certified: Certified, request: pytest.FixtureRequest) -> Iterator[LabDirector]:
    scheduler, quic = request.param
    with (
        serving(lab, certified, quic["cids"] if quic else "quic-lb"),
        directing(lab, document(lab, scheduler, quic)) as director,
    ):
        yield director


@VIPS
def test_a_connection_survives_its_clients_moves(lab: Lab, director: LabDirector, vip: Address) -> None:
    before = named(director)

    with Connection(lab, vip) as connection:
        first = connection.ask()
        others = [connection.rebind() if move % 2 else connection.move() for move in range(MOVES)]

    assert first is not None
    assert others == [(first[0], count) for count in range(2, MOVES + 2)]
    assert named(director) > before


def named(director: LabDirector) -> int:
    return int(director.client.get(service_path(SERVICE))["cid_packets"]["named"])


def test_a_client_that_moves_stays_with_a_backend_that_drains(lab: Lab, director: LabDirector) -> None:
    with Connection(lab, VIP4) as connection:
        first = connection.ask()
        assert first is not None
        path = backend_path(SERVICE, first[0])
        director.client.post(f"{path}/drain")
        try:
            moved = [connection.move(), connection.rebind(), connection.ask()]
            counts = director.client.get(path)["connections"]
        finally:
            director.client.post(f"{path}/enable")
            becomes(director, first[0], "up")

    assert moved == [(first[0], count) for count in (2, 3, 4)]
    assert counts["active"] > 0


def test_new_connections_go_to_all_backends(lab: Lab, director: LabDirector) -> None:
    def answered() -> str | None:
        with Connection(lab, VIP4) as connection:
            answer = connection.ask()
        return answer[0] if answer else None

    await_each(IDS, answered, 30.0)


@pytest.mark.parametrize("director", [("wlc", None)], ids=["wlc"], indirect=True)
@pytest.mark.usefixtures("director")
def test_without_ids_a_connection_is_lost_when_its_client_moves(lab: Lab) -> None:
    """With `wlc` the moved flow goes to the backend that has no connection."""
    with Connection(lab, VIP4) as connection:
        answers = [connection.ask(), connection.ask(), connection.rebind()]

    name = answers[0] and answers[0][0]
    assert answers == [(name, 1), (name, 2), None]
