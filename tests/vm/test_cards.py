# SPDX-License-Identifier: Apache-2.0
"""Native XDP on network cards: the lab's hosts have a virtio card each, and one Ethernet joins them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from curl import REQUESTS, answers

from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import TARGETS
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.host import Host, run
from xdpdirector.lab.vm.session import CARDS


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(CARDS.name, backends=CARDS.backends) as lab:
        cards = {card["address"]: card["ifname"] for card in json.loads(run("ip", "-json", "link").stdout)}
        for node in CARDS.hosts:
            exchange(lab.host(node.name), cards[node.mac()])
        yield lab


def exchange(host: Host, card: str) -> None:
    """Put a card of the machine in the place of the host's veth; the kernel gives it back with the namespace."""
    arm = host.arm("eth0")
    host.run("ip", "link", "delete", arm.interface)
    run("ip", "link", "set", card, "netns", host.node.namespace, "name", arm.interface)
    host.run("ip", "address", "add", str(host.node.interface4(arm)), "dev", arm.interface)
    host.link_up()


def test_the_cards_are_virtio_with_the_program_in_the_driver(lab: Lab, director: LabDirector) -> None:
    driver = director.host.run("ethtool", "-i", "eth0").stdout.splitlines()[0]
    attachments = director.client.get("/v1/stats")["attachments"]

    assert driver == "driver: virtio_net"
    assert [(each["interface"], each["mode"]) for each in attachments] == [("eth0", "native")]


def test_every_backend_serves(lab: Lab, director: LabDirector) -> None:
    seen = answers(lab)

    assert set(seen) == {"backend1", "backend2"}
    assert seen.total() == REQUESTS * len(TARGETS)
