# SPDX-License-Identifier: Apache-2.0
"""The lab: what it builds works, and says what is wrong."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from xdpdirector.errors import InvalidRequestError, TimedOutError
from xdpdirector.lab import Lab
from xdpdirector.lab.clients import Clients
from xdpdirector.lab.errors import LabError
from xdpdirector.lab.processes import inside
from xdpdirector.lab.topology import VIP4, VIP6, Topology, draw
from xdpdirector.lab.waiting import wait_until

pytestmark = pytest.mark.root


def url(address: object, path: str = "/who") -> str:
    return f"http://[{address}]{path}" if ":" in str(address) else f"http://{address}{path}"


def who(lab: Lab, address: object, patience: float = 5.0) -> str:
    return lab.client.run("curl", "--silent", "--max-time", f"{patience:g}", url(address)).stdout.strip()


@pytest.mark.parametrize("backend", ["backend1", "backend2", "backend3"])
def test_client_reaches_each_backend_over_both_families(lab: Lab, backend: str) -> None:
    node = lab.topology.node(backend)

    answers = [who(lab, node.ipv4), who(lab, node.ipv6)]

    assert answers == [backend, backend]


@pytest.mark.parametrize("address", [VIP4, VIP6], ids=["ipv4", "ipv6"])
def test_backend_has_the_vip_and_does_not_say_so(lab: Lab, address: object) -> None:
    here = lab.backends[0].run("curl", "--silent", url(address)).stdout
    with pytest.raises(LabError):
        who(lab, address, 0.5)
    neighbours = json.loads(lab.client.run("ip", "-json", "neigh", "show", str(address)).stdout)

    assert here.strip() == "backend1"
    assert neighbours
    assert all("lladdr" not in neighbour for neighbour in neighbours)


def test_switch_port_of_the_director_is_fit_for_native_xdp(lab: Lab) -> None:
    port = lab.topology.director.port()

    features = lab.switch.run("ethtool", "-k", port).stdout

    assert lab.switch.xdp_program(port) is not None
    assert "tx-checksumming: off" in features


def test_upload_arrives_whole(lab: Lab, tmp_path: Path) -> None:
    content = os.urandom(1 << 20)
    (tmp_path / "file").write_bytes(content)
    address = lab.topology.node("backend2").ipv4

    lab.client.run("curl", "--silent", "--fail", "-T", str(tmp_path / "file"), f"http://{address}/sink-test")

    assert lab.nginx("backend2").received("sink-test") == content


def test_download_is_the_same_from_every_backend(lab: Lab) -> None:
    sums = {
        lab.client.run("sh", "-c", f"curl --silent http://{host.node.ipv4}/big | sha256sum").stdout
        for host in lab.backends
    }

    assert len(sums) == 1


def test_echo_answers_from_the_address_that_was_asked(lab: Lab) -> None:
    lab.echo("backend1", 5353)
    ask = (
        "import socket, sys; s = socket.socket(int(sys.argv[1]), socket.SOCK_DGRAM); s.settimeout(5);"
        "s.connect((sys.argv[2], 5353)); s.send(b'hello'); print(s.recv(99).decode())"
    )
    node = lab.topology.node("backend1")

    answers = [lab.client.python(ask, "2", str(node.ipv4)), lab.client.python(ask, "10", str(node.ipv6))]

    assert answers == ["backend1 hello\n"] * 2


def test_killed_server_comes_back(lab: Lab) -> None:
    server, address = lab.nginx("backend3"), lab.topology.node("backend3").ipv4
    before = {process.pid for process in inside([server.host.node.namespace_path])}

    server.kill()
    left = inside([server.host.node.namespace_path])
    server.start()

    assert len(before) >= 2  # master and worker
    assert left == []
    assert who(lab, address) == "backend3"


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_pulled_cable_can_be_put_back(lab: Lab, family: str) -> None:
    host = lab.host("backend3")
    address = getattr(host.node, family)

    host.link_down()
    with pytest.raises(LabError):
        who(lab, address, 0.5)
    host.link_up()

    assert wait_until(lambda: who(lab, address) == "backend3", "backend3 is back", 5.0)


def test_clients_keep_their_rate_and_tell_what_they_saw(lab: Lab) -> None:
    node = lab.topology.node("backend1")
    targets = [f"{node.ipv4}:80", f"[{node.ipv6}]:80"]

    with Clients(lab.client, targets, rate=100, kept=2) as clients:
        wait_until(lambda: len(clients.requests()) > 100, "a hundred requests", 10.0)
    requests = clients.requests()

    assert {request.backend for request in requests} == {"backend1"}
    assert {request.outcome for request in requests} == {"ok"}
    assert {(request.kind, request.family) for request in requests} == {
        ("fresh", 4),
        ("fresh", 6),
        ("kept", 4),
        ("kept", 6),
    }


def test_clients_see_a_server_die(lab: Lab) -> None:
    server, node = lab.nginx("backend2"), lab.topology.node("backend2")

    with Clients(lab.client, [f"{node.ipv4}:80"], rate=50, kept=1, timeout=1.0) as clients:
        server.kill()
        wait_until(lambda: any(one.failed for one in clients.requests()), "a failure", 10.0)
    server.start()

    failed = [request for request in clients.requests() if request.failed]
    assert {request.outcome for request in failed} <= {"refused", "reset", "closed"}


def test_two_arms_meet_on_a_second_network(lab_factory: Callable[..., Lab]) -> None:
    lab = lab_factory(backends=1, two_arm=True)
    arm = lab.topology.arms[1]
    node = lab.topology.node("backend1")
    lab.nginx("backend1")

    for address in (node.interface4(arm).ip, node.interface6(arm).ip):
        answer = lab.director_host.run("curl", "--silent", "--interface", "eth1", url(address)).stdout
        assert answer.strip() == "backend1"
    assert lab.switch.xdp_program(lab.topology.director.port(arm)) is not None


@pytest.mark.parametrize("name", ["", "a-b", "A", "a" * 25, "../x", "a b"])
def test_name_that_could_not_be_told_apart_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequestError):
        Lab(name)


@pytest.mark.parametrize("backends", [0, 65])
def test_number_of_backends_is_bounded(backends: int) -> None:
    with pytest.raises(InvalidRequestError, match=str(backends)):
        Lab("trial", backends=backends)


def test_unknown_host_is_named_with_those_there_are() -> None:
    with pytest.raises(InvalidRequestError, match=r"'backend9'.*backend1, backend2"):
        Lab("trial", backends=2).host("backend9")


def test_failing_command_speaks(lab: Lab) -> None:
    with pytest.raises(LabError, match=r"status 3: no such luck"):
        lab.client.run("sh", "-c", "echo no such luck >&2; exit 3")


def test_waiting_ends_at_its_deadline() -> None:
    begin = time.monotonic()

    with pytest.raises(TimedOutError, match="pigs fly"):
        wait_until(lambda: False, "pigs fly", 0.1)

    assert time.monotonic() - begin >= 0.1


def test_drawing_names_every_host_and_address() -> None:
    topology = Topology("trial", 5)

    text = draw(topology)

    for node in topology.hosts:
        assert f"{node.name}" in text
        assert str(node.ipv4) in text
        assert str(node.ipv6) in text
    assert str(VIP4) in text
    assert str(VIP6) in text
