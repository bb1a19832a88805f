# SPDX-License-Identifier: Apache-2.0
"""Checks of the VIP on each backend: the server that lost it while its own address answers, and all else that goes
over the checks' own network."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from tests.support.lab_client import Conversation, answering
from tests.support.lab_director import (
    CHECK,
    MARGIN,
    becomes,
    command,
    directing,
    view,
)
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
ECHO, DIAMETER = 7007, 3868
WINDOW = CHECK.window + 0.25 + MARGIN  # the look at the backend's own address takes a moment, too
TIMING = {"interval": "300ms", "timeout": "200ms", "rise": 2, "fall": 2}
VIPS = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])


@pytest.fixture(scope="module")
def lab(lab_factory: Callable[..., Lab]) -> Lab:
    lab = lab_factory(backends=2)
    for host in lab.backends:
        lab.nginx(host.name)
        lab.echo(host.name, ECHO)
        responder = [sys.executable, "-m", "tests.support.sctp_responder", str(DIAMETER)]
        host.popen(*responder, role="sctp", stdin=subprocess.PIPE)
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
        "diameter": also(f"{DIAMETER}/sctp", type="sctp"),
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
    for service in ("web", "ping", "echo", "diameter"):
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
    lab: Lab, director: LabDirector, victim: Host, vip: Address, forwarding: bool
) -> None:
    """Also one that sends what it does not have back to the director, which would give it to another one."""
    if forwarding:
        victim.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")

    lose(victim, vip)

    becomes(director, VICTIM, "partial", WINDOW)
    shown = view(director, VICTIM)
    assert f"port 80 of the VIP {vip} on {victim.node.ipv4}" in shown["reason"]
    assert f"while port 80 of {victim.node.ipv4} answers: the server has lost the VIP" in shown["reason"]
    (other,) = {VIP4, VIP6} - {vip}
    assert {each["vip"]: each["operational"] for each in shown["vips"]} == {
        str(vip): "down",
        str(other): "up",
    }
    assert view(director, VICTIM, service="plain")["operational"] == "up"
    becomes(director, VICTIM, "partial", WINDOW, service="echo")
    becomes(director, VICTIM, "partial", WINDOW, service="ping")
    becomes(director, VICTIM, "partial", WINDOW, service="diameter")
    assert f"while port {DIAMETER} of" in view(director, VICTIM, service="diameter")["reason"]
    assert view(director, "backend1")["operational"] == "up"
    assert {answering(lab.client, vip) for _ in range(6)} == {"backend1"}
    # `wlc` evens out what the tests before have left in the table.
    wait_until(lambda: answering(lab.client, other) == VICTIM, "the victim answers at the other VIP", 30.0)


def test_a_server_that_does_not_listen(lab: Lab, director: LabDirector, victim: Host) -> None:
    lab.nginx(VICTIM).stop()

    becomes(director, VICTIM, "down", WINDOW)
    assert {each["reason"] for each in view(director, VICTIM)["vips"]} == {
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


NEW_VIP = ip_address("192.0.2.79")
RUNNING = 20


class Newcomers(Thread):
    """Opens connections to these, one after the other, until it is stopped. `failures` says what became of those
    that did not go well."""

    def __init__(self, host: Host, *vips: Address) -> None:
        super().__init__(daemon=True)
        self._host, self._vips, self._over = host, vips, Event()
        self.failures: list[str] = []
        self.opened = 0

    def run(self) -> None:
        while not self._over.is_set():
            for vip in self._vips:
                try:
                    answering(self._host, vip)
                except OSError as error:
                    self.failures.append(f"{vip}: {error!r}")
                self.opened += 1

    def stop(self) -> None:
        self._over.set()
        self.join()


@contextmanager
def newcomers(host: Host, *vips: Address) -> Iterator[Newcomers]:
    made = Newcomers(host, *vips)
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture(params=["wlc", "mh"])
def web(director: LabDirector, request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """The web service with this scheduler; its listeners, to which it returns."""
    before = director.client.get(service_path("web"))
    director.client.patch(service_path("web"), {"scheduler": request.param})
    yield before["listeners"]
    director.client.patch(service_path("web"), {name: before[name] for name in ("listeners", "scheduler")})


def test_a_vip_that_no_server_has_yet_is_added_under_traffic(
    lab: Lab, director: LabDirector, web: list[str]
) -> None:
    """Nothing of the others is lost; and each server serves the new one as soon as it has it."""
    wanted = [*web, f"{NEW_VIP}:80/tcp"]
    listen = [word for listener in wanted for word in ("--listen", listener)]
    with ExitStack() as stack:
        running = [
            stack.enter_context(Conversation(lab.client, vip)) for vip in (VIP4, VIP6) for _ in range(RUNNING)
        ]
        came = stack.enter_context(newcomers(lab.client, VIP4, VIP6))

        said = command(director, "service", "set", "web", *listen).stdout

        assert f"at {NEW_VIP}" in said
        for host in lab.backends:
            becomes(director, host.name, "partial")
            wait_until(lambda: f"VIP {NEW_VIP}" in view(director, host.name)["reason"], "it is asked")  # noqa: B023
        with pytest.raises(ConnectionRefusedError):
            answering(lab.client, NEW_VIP)
        opened = came.opened
        wait_until(lambda: came.opened >= opened + 20, "more connections are opened")
        backend1 = lab.host("backend1")
        backend1.run("ip", "address", "add", f"{NEW_VIP}/32", "dev", "lo")
        stack.callback(backend1.run, "ip", "address", "del", f"{NEW_VIP}/32", "dev", "lo")
        becomes(director, "backend1", "up")
        assert {answering(lab.client, NEW_VIP) for _ in range(10)} == {"backend1"}

        assert [each.who() for each in running] == [each.backend for each in running]
    assert came.failures == []


def test_a_plan_says_which_servers_do_not_have_the_vip_yet(
    lab: Lab, director: LabDirector, tmp_path: Path
) -> None:
    document = director.client.get("/v1/config")
    document["services"]["web"]["listeners"].append(f"{NEW_VIP}:80/tcp")
    (tmp_path / "wanted.json").write_text(json.dumps(document))
    backend1 = lab.host("backend1")
    backend1.run("ip", "address", "add", f"{NEW_VIP}/32", "dev", "lo")

    try:
        said = command(director, "config", "plan", str(tmp_path / "wanted.json"), check=False).stdout
    finally:
        backend1.run("ip", "address", "del", f"{NEW_VIP}/32", "dev", "lo")

    lacking = [line for line in said.splitlines() if str(NEW_VIP) in line and line.startswith("web/")]
    assert [line.split()[:2] for line in lacking] == [[f"web/{VICTIM}", str(NEW_VIP)]]
    assert "has lost the VIP" in said


@VIPS
def test_one_family_that_fails_loses_nothing_of_the_other(
    lab: Lab, director: LabDirector, web: list[str], vip: Address
) -> None:
    """On all servers at once, and it comes back."""
    (other,) = {VIP4, VIP6} - {vip}
    hosts = lab.backends
    with ExitStack() as stack:
        running = [stack.enter_context(Conversation(lab.client, other)) for _ in range(RUNNING)]
        came = stack.enter_context(newcomers(lab.client, other))
        for host in hosts:
            lose(host, vip)
        for host in hosts:
            becomes(director, host.name, "partial")
        with pytest.raises(ConnectionRefusedError):
            answering(lab.client, vip)
        for host in hosts:
            host.run("ip", "address", "replace", f"{vip}/{vip.max_prefixlen}", "dev", "lo")
        for host in hosts:
            becomes(director, host.name, "up")

        assert [each.who() for each in running] == [each.backend for each in running]
        assert answering(lab.client, vip)
    assert came.failures == []


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
    becomes(director, VICTIM, "partial", WINDOW)
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
