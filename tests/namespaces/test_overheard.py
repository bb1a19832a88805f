# SPDX-License-Identifier: Apache-2.0
"""What the switch floods: a director takes frames for its own MACs, and for no other machine's.

Whatever has no MAC that the switch knows goes to everybody, as after a backend was silent for some minutes.
"""

from __future__ import annotations

import pytest
from directing import verdict
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from xdpdirector.lab import Lab
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.topology import VIP4
from xdpdirector.lab.waiting import wait_until

pytestmark = [pytest.mark.root, pytest.mark.backends(2)]

NOBODYS, VRRP = "02:00:00:00:00:ee", "00:00:5e:00:01:07"
NEW, ANOTHER = "02:00:00:00:00:ef", "02:00:00:00:00:ed"
OTHER_HOST, UNKNOWN = "pass_other_host", "reject_unknown"
SEND = """
import socket, sys
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
    sender.bind(("eth0", 0))
    for _ in range(10):
        sender.send(bytes.fromhex(sys.argv[1]))
"""


def flood(lab: Lab, destination: str) -> None:
    """Ten segments of no connection, for the VIP and for this MAC."""
    client = lab.topology.client.interface4(lab.topology.client.arms[0]).ip
    # Without a source scapy takes one by the routes of the test's own host.
    ethernet = Ether(src=lab.topology.client.mac(), dst=destination)
    frame = ethernet / IP(src=str(client), dst=str(VIP4)) / TCP(sport=7, dport=80, flags="A")
    lab.client.python(SEND, bytes(frame).hex())


def test_a_frame_for_nobody_here_is_left_alone(lab: Lab, director: LabDirector) -> None:
    passed, answered = verdict(director, OTHER_HOST), verdict(director, UNKNOWN)

    flood(lab, NOBODYS)

    wait_until(lambda: verdict(director, OTHER_HOST) >= passed + 10, "the frames are counted")
    assert verdict(director, UNKNOWN) == answered


def test_a_frame_for_an_interface_that_came_later_is_directed(lab: Lab, director: LabDirector) -> None:
    """As keepalived makes one for the virtual router's MAC."""
    answered = verdict(director, UNKNOWN)

    def is_answered() -> bool:
        flood(lab, VRRP)
        return verdict(director, UNKNOWN) > answered

    lab.director_host.run("ip", "link", "add", "vrrp.7", "link", "eth0", "address", VRRP, "type", "macvlan")
    try:
        wait_until(is_answered, "the director takes frames for the new interface")
    finally:
        lab.director_host.run("ip", "link", "del", "vrrp.7")

    passed = verdict(director, OTHER_HOST)

    def is_left_alone() -> bool:
        flood(lab, VRRP)
        return verdict(director, OTHER_HOST) > passed

    wait_until(is_left_alone, "the director leaves frames for the interface that is gone")


def test_a_frame_for_another_mac_of_the_interface_is_directed(lab: Lab, director: LabDirector) -> None:
    host, answered = lab.director_host, verdict(director, UNKNOWN)
    before = host.run("ip", "-brief", "link", "show", "eth0").stdout.split()[2]

    def is_answered() -> bool:
        flood(lab, ANOTHER)
        return verdict(director, UNKNOWN) > answered

    host.run("ip", "link", "set", "eth0", "address", ANOTHER)
    try:
        wait_until(is_answered, "the director takes frames for the interface's new MAC")
    finally:
        host.run("ip", "link", "set", "eth0", "address", before)


def test_frames_for_the_mac_that_an_interface_had_are_directed(lab: Lab, director: LabDirector) -> None:
    """Neighbours know no other one yet, and when it comes back, the kernel would answer them itself."""
    own = lab.director_host.node.mac()

    def knows_the_other() -> bool:
        return NEW in director.client.get("/v1/dataplane")["own_macs"]

    lab.director_host.run("ip", "link", "set", "eth0", "address", NEW)
    try:
        wait_until(knows_the_other, "the director takes frames for the other MAC")
        passed, answered = verdict(director, OTHER_HOST), verdict(director, UNKNOWN)

        flood(lab, own)

        wait_until(lambda: verdict(director, UNKNOWN) >= answered + 10, "the frames are directed")
        assert verdict(director, OTHER_HOST) == passed
    finally:
        lab.director_host.run("ip", "link", "set", "eth0", "address", own)
