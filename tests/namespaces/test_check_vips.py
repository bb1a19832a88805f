# SPDX-License-Identifier: Apache-2.0
"""Checks of the VIP on each backend: the server that lost it while its own address answers, and all else that goes
over the checks' own network."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from directing import CHECK, MARGIN, becomes, command, directing, view

from xdpdirector.client import service_path
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.host import Host
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.lab.waiting import wait_until
from xdpdirector.model import Address

pytestmark = [pytest.mark.root, pytest.mark.smoke]

VICTIM = "backend2"
ECHO = 7007
WINDOW = CHECK.window + 0.25 + MARGIN  # the look at the backend's own address takes a moment, too
TIMING = {"interval": "300ms", "timeout": "200ms", "rise": 2, "fall": 2}
VIPS = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])


@pytest.fixture(scope="module")
def lab(lab_factory: Callable[..., Lab]) -> Lab:
    lab = lab_factory(backends=2)
    for host in lab.backends:
        lab.nginx(host.name)
        lab.echo(host.name, ECHO)
    return lab


def configuration(lab: Lab) -> dict[str, Any]:
    """The lab's web service, and services over the same backends whose checks ask otherwise."""
    document = web_configuration(lab.topology.backend_nodes, check=CHECK)
    web = document["services"]["web"]

    def also(listener: str, **check: Any) -> dict[str, Any]:
        listeners = [f"{VIP4}:{listener}", f"[{VIP6}]:{listener}"]
        return web | {"listeners": listeners, "check": TIMING | check}

    document["services"] |= {
        "plain": also("81/tcp", type="tcp", port=80, via="address"),
        "ping": also("82/tcp", type="icmp"),
        "echo": also(f"{ECHO}/udp", type="udp", send="hello", expect="hello"),
    }
    return document


@pytest.fixture(scope="module")
def director(lab: Lab) -> Iterator[LabDirector]:
    with directing(lab, configuration(lab)) as director:
        yield director


@pytest.fixture
def victim(lab: Lab, director: LabDirector) -> Iterator[Host]:
    """Whole again afterwards."""
    host = lab.host(VICTIM)
    yield host
    host.run("sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0")
    for vip in (VIP4, VIP6):
        host.run("ip", "address", "replace", f"{vip}/{vip.max_prefixlen}", "dev", "lo")
    lab.nginx(VICTIM).start()
    for service in ("web", "ping", "echo"):
        becomes(director, VICTIM, "up", service=service)


def lose(host: Host, vip: Address) -> None:
    host.run("ip", "address", "del", f"{vip}/{vip.max_prefixlen}", "dev", "lo")


def ways(lab: Lab) -> list[str]:
    """What the checks' network has on the director's interfaces: cables, and filters at eth0."""
    host = lab.director_host
    links = host.run("ip", "-brief", "link", "show", "type", "veth").stdout.splitlines()
    cables = [line.split("@")[0] for line in links if line.startswith("xck")]
    filters = host.run("tc", "filter", "show", "dev", "eth0", "ingress", check=False).stdout
    return [*cables, *(line for line in filters.splitlines() if "mirred" in line)]


def test_nothing_is_unseen(lab: Lab, director: LabDirector) -> None:
    assert director.client.get("/readyz")["problems"] == []
    assert [way for way in ways(lab) if "Redirect" not in way] == [ways(lab)[0]]
    assert director.client.get(service_path("web"))["operational"] == "up"


@pytest.mark.parametrize("forwarding", [False, True], ids=["end host", "router"])
@VIPS
def test_a_server_that_lost_its_vip(
    director: LabDirector, victim: Host, vip: Address, forwarding: bool
) -> None:
    """Also one that sends what it does not have back to the director, which would give it to another one."""
    if forwarding:
        victim.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")

    lose(victim, vip)

    becomes(director, VICTIM, "down", WINDOW)
    reason = view(director, VICTIM)["reason"]
    assert f"port 80 of the VIP {vip} on {victim.node.ipv4}" in reason
    assert f"while port 80 of {victim.node.ipv4} answers: the server has lost the VIP" in reason
    assert view(director, VICTIM, service="plain")["operational"] == "up"
    becomes(director, VICTIM, "down", WINDOW, service="echo")
    becomes(director, VICTIM, "down", WINDOW, service="ping")
    assert view(director, "backend1")["operational"] == "up"


def test_a_server_that_does_not_listen(lab: Lab, director: LabDirector, victim: Host) -> None:
    lab.nginx(VICTIM).stop()

    becomes(director, VICTIM, "down", WINDOW)
    reason = view(director, VICTIM)["reason"]
    assert reason in {
        f"nothing listens on port 80 of the VIP {vip} on {victim.node.ipv4} (connection refused)"
        for vip in (VIP4, VIP6)
    }


@VIPS
def test_a_closed_port_answers_with_icmp(lab: Lab, director: LabDirector, vip: Address) -> None:
    backend = {"name": "web1", "address": str(lab.host("backend1").node.ipv4)}
    target = f"[{vip}]" if vip.version == 6 else vip
    service = {
        "name": "closed",
        "listeners": [f"{target}:{ECHO + 2}/udp"],
        "check": TIMING | {"type": "udp", "send": "hello"},
        "backends": {"web1": {"address": backend["address"]}},
    }
    director.client.post("/v1/services", service)
    try:
        becomes(director, "web1", "down", service="closed")
        reason = view(director, "web1", service="closed")["reason"]
    finally:
        director.client.delete(service_path("closed"))

    place = f"port {ECHO + 2} of the VIP {vip} on {backend['address']}"
    assert reason == f"nothing listens on {place} (connection refused)"


def test_the_directors_own_talk_is_left_alone(lab: Lab, director: LabDirector) -> None:
    address = lab.host("backend1").node.ipv4
    ask = ("curl", "-sS", "--max-time", "3", f"http://{address}/who")

    assert [lab.director_host.run(*ask).stdout for _ in range(5)] == ["backend1\n"] * 5


def test_a_vip_that_comes_and_goes(lab: Lab, director: LabDirector) -> None:
    other = "192.0.2.78"
    before = ways(lab)
    for host in lab.backends:
        host.run("ip", "address", "add", f"{other}/32", "dev", "lo")
    service = {
        "name": "other",
        "listeners": [f"{other}:80/tcp"],
        "check": TIMING | {"type": "http", "path": "/healthz"},
        "backends": {host.name: {"address": str(host.node.ipv4)} for host in lab.backends},
    }
    try:
        director.client.post("/v1/services", service)
        for host in lab.backends:
            becomes(director, host.name, "up", service="other")
        with_it = ways(lab)
    finally:
        director.client.delete(service_path("other"))
        for host in lab.backends:
            host.run("ip", "address", "del", f"{other}/32", "dev", "lo")

    assert len(with_it) > len(before)
    wait_until(lambda: ways(lab) == before, "the VIP's filters are gone")


def test_after_a_kill_everything_is_made_anew(lab: Lab, director: LabDirector) -> None:
    """Last but one: the process is another one afterwards."""
    before = ways(lab)
    director.kill()
    director.start()
    for service in ("web", "ping", "echo"):
        for host in lab.backends:
            becomes(director, host.name, "up", service=service)

    wait_until(lambda: len(ways(lab)) == len(before), "what the killed one left is gone")
    lose(victim := lab.host(VICTIM), VIP4)
    becomes(director, VICTIM, "down", WINDOW)
    victim.run("ip", "address", "add", f"{VIP4}/32", "dev", "lo")
    becomes(director, VICTIM, "up")


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed, and unloaded"])
def test_nothing_is_left_at_the_end(lab: Lab, director: LabDirector, killed: bool) -> None:
    if killed:
        director.kill()
        command(director, "unload")
    else:
        director.stop()

    wait_until(lambda: not ways(lab), "the cables and filters are gone")
    assert "clsact" not in lab.director_host.run("tc", "qdisc", "show", "dev", "eth0").stdout
    director.start()
    becomes(director, VICTIM, "up")
