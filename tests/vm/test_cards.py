# SPDX-License-Identifier: Apache-2.0
"""Native XDP on network cards: the lab's hosts have a virtio card each, and one Ethernet joins them.

The first backend is on the untagged network. The second one's address is in VLAN 5, which the director reaches over
a VLAN device (Debian's kernel has 8021q); it answers untagged, on the network that it shares with the client. The
director's file is that of examples/designs/vlans.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from dev.vm.session import CARDS
from tests.support.curl import REQUESTS, answers
from tests.support.designs import document
from tests.support.slowness import CHECK
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import SERVICE, TARGETS
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.host import Host, run

TAGGED, TAG = "eth0.5", 5
DIRECTOR, BACKEND2 = "198.51.100.1", "198.51.100.22"
SEGMENTS = ("SYN", "ACK", "request", "FIN")  # of a request, at the least


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    run("modprobe", "8021q")
    with Lab(CARDS.name, backends=CARDS.backends) as lab:
        cards = {card["address"]: card["ifname"] for card in json.loads(run("ip", "-json", "link").stdout)}
        for node in CARDS.hosts:
            exchange(lab.host(node.name), cards[node.mac()])
        join(lab.director_host, DIRECTOR)
        join(lab.host("backend2"), BACKEND2)
        yield lab


def exchange(host: Host, card: str) -> None:
    """Put a card of the machine in the place of the host's veth; the kernel gives it back with the namespace."""
    arm = host.arm("eth0")
    host.run("ip", "link", "delete", arm.interface)
    run("ip", "link", "set", card, "netns", host.node.namespace, "name", arm.interface)
    host.run("ip", "address", "add", str(host.node.interface4(arm)), "dev", arm.interface)
    host.link_up()


def join(host: Host, address: str) -> None:
    """The VLAN."""
    lines = (
        f"link add link eth0 name {TAGGED} type vlan id {TAG}",
        f"address add {address}/24 dev {TAGGED}",
        f"link set {TAGGED} up",
    )
    host.run("ip", "-batch", "-", text="".join(f"{line}\n" for line in lines))


@pytest.fixture(scope="module")
def configuration() -> dict[str, object]:
    """With the patience that an emulated machine needs."""
    whole = document("vlans/director.yaml")
    whole["services"][SERVICE]["check"] = CHECK.document()
    return whole


def received(host: Host) -> int:
    """Frames that came with the VLAN's tag."""
    links = json.loads(host.run("ip", "-json", "-stats", "link", "show", TAGGED).stdout)
    return int(links[0]["stats64"]["rx"]["packets"])


def test_the_cards_are_virtio_with_the_program_in_the_driver(director: LabDirector) -> None:
    driver = director.host.run("ethtool", "-i", "eth0").stdout.splitlines()[0]
    attachments = director.client.get("/v1/stats")["attachments"]

    assert driver == "driver: virtio_net"
    assert [(each["interface"], each["mode"]) for each in attachments] == [("eth0", "native")]


def test_both_serve_the_one_in_the_vlan_with_its_tag(lab: Lab, director: LabDirector) -> None:
    before = received(lab.host("backend2"))

    seen = answers(lab)

    assert set(seen) == {"backend1", "backend2"}
    assert seen.total() == REQUESTS * len(TARGETS)
    assert received(lab.host("backend2")) - before >= seen["backend2"] * len(SEGMENTS)
