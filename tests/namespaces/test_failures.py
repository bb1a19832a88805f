# SPDX-License-Identifier: Apache-2.0
"""Backends that die and come back, change their MAC, or are gone all together: who notices, and how soon."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.support.lab_client import Conversation, answering
from tests.support.lab_director import (
    CHECK,
    MARGIN,
    becomes,
    directing,
    view,
)
from tests.support.transfers import Upload, random_octets
from xdpdirector.client import service_path
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import SERVICE, web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.host import Host
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.lab.waiting import wait_until
from xdpdirector.model import Address

pytestmark = pytest.mark.root

VICTIM = "backend2"
SOON = 1.0  # seconds in which a verdict, or a change of the neighbour table, reaches the packets
VIPS = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])


@pytest.fixture(scope="module", params=["wlc", "mh"])
def director(lab: Lab, request: pytest.FixtureRequest) -> Iterator[LabDirector]:
    nodes = lab.topology.backend_nodes
    with directing(lab, web_configuration(nodes, scheduler=request.param, check=CHECK)) as director:
        yield director


@pytest.fixture
def victim(lab: Lab, director: LabDirector) -> Iterator[Host]:
    """Whole again afterwards."""
    host = lab.host(VICTIM)
    yield host
    lab.nginx(VICTIM).start()
    host.link_up()
    for backend in lab.backends:
        becomes(director, backend.name, "up", 15.0)


def serves(lab: Lab, backend: str, vip: Address = VIP4) -> Conversation:
    """A new connection to that backend, opened while others stay open: the least busy one takes the next."""
    with ExitStack() as stack:
        found: list[Conversation] = []

        def leads_there() -> bool:
            found.append(Conversation(lab.client, vip))
            if found[-1].backend != backend:
                stack.enter_context(found[-1])
            return found[-1].backend == backend

        wait_until(leads_there, f"{backend} takes new connections")
        return found[-1]


def stop_server(lab: Lab) -> None:
    lab.nginx(VICTIM).stop()


def kill_server(lab: Lab) -> None:
    lab.nginx(VICTIM).kill()


def pull_cable(lab: Lab) -> None:
    lab.host(VICTIM).link_down()


@pytest.mark.parametrize("break_it", [stop_server, kill_server, pull_cable], ids=lambda way: way.__name__)
def test_a_dead_backend_leaves_and_comes_back(
    lab: Lab, director: LabDirector, victim: Host, break_it: Callable[[Lab], None]
) -> None:
    break_it(lab)

    becomes(director, VICTIM, "down", CHECK.window + MARGIN)
    shown = view(director, VICTIM)
    assert not shown["serving"]
    assert str(victim.node.ipv4) in shown["reason"]
    assert VICTIM not in {answering(lab.client, vip) for vip in (VIP4, VIP6) for _ in range(15)}

    lab.nginx(VICTIM).start()
    victim.link_up()
    becomes(director, VICTIM, "up", 15.0)
    serves(lab, VICTIM).close()


@VIPS
def test_the_client_of_a_dead_backend_is_told_within_a_second(
    lab: Lab, director: LabDirector, victim: Host, vip: Address
) -> None:
    with (
        serves(lab, VICTIM, vip) as idle,
        serves(lab, VICTIM, vip) as busy,
        Upload(busy, "sink-dead", random_octets(32)) as upload,
    ):
        victim.link_down()
        becomes(director, VICTIM, "down", CHECK.window + MARGIN)
        decided = time.monotonic()

        with pytest.raises(ConnectionResetError):
            idle.who()
        asked = time.monotonic() - decided
        broken = upload.error(SOON + MARGIN)

    assert asked < SOON
    assert isinstance(broken, ConnectionResetError | BrokenPipeError)


def test_a_backend_with_another_mac_is_followed(lab: Lab, director: LabDirector, victim: Host) -> None:
    """With `arp_notify` a Linux host tells the LAN its new address, as one that takes over another's does."""
    old, new = victim.node.mac(), "02:00:00:00:00:ee"
    victim.run("sysctl", "-qw", "net.ipv4.conf.eth0.arp_notify=1")

    with serves(lab, VICTIM) as conversation:
        for mac in (new, old):
            victim.run("ip", "link", "set", "eth0", "address", mac)
            begun = time.monotonic()
            assert conversation.who() == VICTIM
            serves(lab, VICTIM, VIP6).close()
            took = time.monotonic() - begun

            assert view(director, VICTIM)["mac"] == mac
            assert took < SOON


@VIPS
def test_without_any_backend_connections_are_refused(lab: Lab, director: LabDirector, vip: Address) -> None:
    for host in lab.backends:
        lab.nginx(host.name).kill()
    try:
        for host in lab.backends:
            becomes(director, host.name, "down", CHECK.window + MARGIN)
        begun = time.monotonic()
        with pytest.raises(ConnectionRefusedError):
            answering(lab.client, vip)
        took = time.monotonic() - begun
        shown = director.client.get(service_path(SERVICE))
    finally:
        for host in lab.backends:
            lab.nginx(host.name).start()

    for host in lab.backends:
        becomes(director, host.name, "up")
    assert took < SOON
    assert shown["operational"] == "down"
    assert answering(lab.client, vip)
