# SPDX-License-Identifier: Apache-2.0
"""What goes wrong on a network of real kernels is found while the director runs, named, and forgotten when mended.

The director asks every LOOKS seconds here; a finding comes with the next look, or at once when it is heard.
"""

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.lab_client import answering, socket_on
from tests.support.lab_director import CHECK, becomes, directing, view
from xdpdirector.errors import TimedOutError
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import SERVICE, web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.host import Host
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.lab.waiting import wait_until
from xdpdirector.model import Address
from xdpdirector.net.garp import announcement

pytestmark = [pytest.mark.root, pytest.mark.backends(2)]

LOOKS = 0.3
VICTIM = "backend2"
SIX = "six"  # the same machines by their IPv6 addresses, for a VIP that they have
NOTICED = 3.0  # seconds until a silent change of the MAC has reached the director
VIPS = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])


@pytest.fixture(scope="module")
def director(lab: Lab) -> Iterator[LabDirector]:
    configuration = web_configuration(lab.topology.backend_nodes, check=CHECK)
    configuration["lan"] = {"interval": f"{LOOKS * 1000:.0f}ms", "arp_ignore": False}
    configuration["services"][SIX] = {
        "listeners": [f"[{VIP6}]:81/tcp"],
        "check": {**CHECK.document(), "type": "http", "port": 80, "via": "address"},
        "backends": {node.name: {"address": str(node.ipv6)} for node in lab.topology.backend_nodes},
    }
    with directing(lab, configuration) as director:
        yield director


@pytest.fixture
def victim(lab: Lab, director: LabDirector) -> Iterator[Host]:
    """Nothing is wrong with it before, and nothing afterwards."""
    host = lab.host(VICTIM)
    finds(director)
    yield host
    host.run("sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1", "net.ipv4.ip_forward=0")
    for vip in (VIP4, VIP6):
        place(host, vip, "lo")
        host.run("ip", "address", "del", own_prefix(vip), "dev", "eth0", check=False)
    finds(director)


def findings(director: LabDirector) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = director.client.get("/v1/lan")["findings"]
    return found


def finds(director: LabDirector, *wanted: tuple[str, str]) -> list[dict[str, Any]]:
    """Exactly these kinds, about these subjects, within a few looks."""

    found: list[dict[str, Any]] = []

    def as_wanted() -> bool:
        found[:] = findings(director)
        return sorted((each["kind"], each["subject"]) for each in found) == sorted(wanted)

    try:
        wait_until(as_wanted, f"the findings are {wanted or 'none'}", 15.0)
    except TimedOutError as error:
        error.add_note(f"the findings were: {found}")
        raise
    return found


def own_prefix(address: Address) -> str:
    return f"{address}/{address.max_prefixlen}"


def place(host: Host, address: Address, interface: str) -> None:
    nodad = ["nodad"] if address.version == 6 else []
    host.run("ip", "address", "replace", own_prefix(address), "dev", interface, *nodad)


def test_a_backend_that_answers_arp_is_named_with_the_remedy(director: LabDirector, victim: Host) -> None:
    victim.run("sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=0")

    [finding] = finds(director, ("vip-answered-by-backend", f"web/{VICTIM}"))

    assert str(victim.node.ipv4) in finding["text"]
    assert finding["mac"] == victim.node.mac()
    assert "arp_ignore=1" in finding["remedy"]
    ready = director.client.get("/readyz")
    assert ready["ready"]
    assert finding["text"] in ready["warnings"]


def test_a_backend_that_answers_neighbour_discovery_is_named(director: LabDirector, victim: Host) -> None:
    place(victim, VIP6, "eth0")

    [finding] = finds(director, ("vip-answered-by-backend", f"web/{VICTIM}"))

    assert finding["vip"] == str(VIP6)
    assert f"{VIP6}/128 dev lo" in finding["remedy"]


@pytest.fixture
def second_card(lab: Lab) -> Iterator[None]:
    """Of the director, in the same LAN, without the packet program."""
    lab.switch.run(
        *("ip", "link", "add", "p1-director", "type", "veth", "peer", "name", "eth1"),
        *("netns", lab.topology.director.namespace),
    )
    lab.switch.run("ip", "link", "set", "p1-director", "master", "br0", "up")
    lab.director_host.run("ip", "link", "set", "eth1", "up")
    yield
    lab.director_host.run("ip", "link", "delete", "eth1")


def test_an_interface_of_the_directors_own_that_answers_is_named(
    lab: Lab, director: LabDirector, victim: Host, second_card: None
) -> None:
    [finding] = finds(director, ("vip-answered-by-own-interface", str(VIP4)))

    assert "with the MAC of eth1, which does not carry the packet program" in finding["text"]
    assert "net.ipv4.conf.eth1.arp_ignore=1" in finding["remedy"]

    lab.director_host.run("sysctl", "-qw", "net.ipv4.conf.eth1.arp_ignore=1")
    finds(director)


@pytest.fixture
def gateway(lab: Lab, director: LabDirector) -> Iterator[Host]:
    """The director is the way from its backends to the client."""
    host, way = lab.director_host, (f"{lab.client.node.ipv4}/32", "via", str(lab.director_host.node.ipv4))
    host.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.eth0.send_redirects=0")
    for backend in lab.backends:
        backend.run("ip", "route", "add", *way)
    yield host
    for backend in lab.backends:
        backend.run("ip", "route", "del", *way)
    settings = (
        "ip_forward=0",
        "conf.eth0.send_redirects=1",
        "conf.eth0.accept_local=0",
        "conf.eth0.rp_filter=0",
    )
    host.run("sysctl", "-qw", *(f"net.ipv4.{each}" for each in settings))
    finds(director)


def test_a_gateway_that_drops_replies_is_named_and_its_remedy_helps(
    lab: Lab, director: LabDirector, gateway: Host
) -> None:
    [finding] = finds(director, ("replies-dropped-here", "eth0"))

    assert "martian" in finding["text"]
    with pytest.raises(TimeoutError):
        answering(lab.client, VIP4, timeout=0.5)
    settings = ("net.ipv4.conf.eth0.accept_local=1", "net.ipv4.conf.eth0.rp_filter=2")
    assert all(each in finding["remedy"] for each in settings)
    gateway.run("sysctl", "-qw", *settings)
    finds(director)
    assert answering(lab.client, VIP4)


@VIPS
def test_a_stranger_with_the_vip_is_named_by_its_mac(
    lab: Lab, director: LabDirector, victim: Host, vip: Address
) -> None:
    place(lab.client, vip, "eth0")
    try:
        [finding] = finds(director, ("duplicate-vip", str(vip)))
    finally:
        lab.client.run("ip", "address", "del", own_prefix(vip), "dev", "eth0")

    assert finding["mac"] == lab.client.node.mac()


@VIPS
def test_a_backend_without_the_vip_is_named(director: LabDirector, victim: Host, vip: Address) -> None:
    victim.run("ip", "address", "del", own_prefix(vip), "dev", "lo")

    [finding] = finds(director, ("vip-missing-on-backend", f"web/{VICTIM}"))

    assert finding["vip"] == str(vip)
    assert f"ip address add {own_prefix(vip)} dev lo" in finding["remedy"]


def test_a_backend_that_sends_on_what_is_for_the_vip_is_named(director: LabDirector, victim: Host) -> None:
    victim.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    victim.run("ip", "address", "del", own_prefix(VIP4), "dev", "lo")

    [finding] = finds(director, ("vip-missing-on-backend", f"web/{VICTIM}"))

    assert "as if it were a router" in finding["evidence"]


@pytest.mark.parametrize("service", [SERVICE, SIX])
def test_a_silent_change_of_the_mac_is_noticed(director: LabDirector, victim: Host, service: str) -> None:
    """Nobody announces it; a check that fails is what begins the search."""
    old, new = victim.node.mac(), "02:00:00:00:00:ee"
    for mac in (new, old):
        begun = time.monotonic()
        victim.run("ip", "link", "set", "eth0", "address", mac)
        wait_until(lambda mac=mac: view(director, VICTIM, service=service)["mac"] == mac, f"{mac} is known")
        took = time.monotonic() - begun

        assert took < NOTICED
    becomes(director, VICTIM, "up", service=service)


def test_every_backend_has_both_vips(lab: Lab, director: LabDirector, victim: Host) -> None:
    wanted = {
        (f"{service}/{host.name}", str(vip)): "present"
        for host in lab.backends
        for service, vip in ((SERVICE, VIP4), (SERVICE, VIP6), (SIX, VIP6))
    }

    def present() -> bool:
        shown = director.client.get("/v1/lan")["presence"]
        return {(one["backends"][0], one["vip"]): one["presence"] for one in shown} == wanted

    wait_until(present, "every backend has its VIPs", 10.0)
    assert view(director, VICTIM)["mac"] == victim.node.mac()


@pytest.fixture
def forgetful(director: LabDirector) -> Iterator[LabDirector]:
    """What was announced once is believed, and so remembered, for minutes, as long as the daemon lives."""
    yield director
    assert director.stop()
    director.start()
    finds(director)


def test_a_backend_that_announces_the_vip_is_heard(lab: Lab, forgetful: LabDirector) -> None:
    host, director = lab.host(VICTIM), forgetful
    for vip in (VIP4, VIP6):
        with socket_on(host, socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
            sender.sendto(announcement(vip, bytes.fromhex(host.node.mac().replace(":", ""))), ("eth0", 0))

    found = finds(director, *[("vip-announced-by-backend", f"web/{VICTIM}")] * 2)

    assert {finding["vip"] for finding in found} == {str(VIP4), str(VIP6)}
