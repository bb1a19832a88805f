# SPDX-License-Identifier: Apache-2.0
"""What the switch floods: a director takes frames for its own MACs, and for no other machine's.

Whatever has no MAC that the switch knows goes to everybody, as after a backend was silent for some minutes.
"""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from tests.support.lab_director import verdict
from xdpdirector.lab import Lab
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.host import Host
from xdpdirector.lab.topology import VIP4
from xdpdirector.lab.waiting import wait_until

pytestmark = [pytest.mark.root, pytest.mark.backends(2)]

NOBODYS, VRRP = "02:00:00:00:00:ee", "00:00:5e:00:01:07"
NEW, ANOTHER, UNSEEN = "02:00:00:00:00:ef", "02:00:00:00:00:ed", "02:00:00:00:00:eb"
OTHER_HOST, WITHIN, UNKNOWN = "drop_other_host", "pass_other_host", "reject_unknown"
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


def resets(host: Host) -> int:
    """How many RSTs the host's own kernel sent."""
    names, values = (
        line.split()
        for line in host.run("cat", "/proc/net/snmp").stdout.splitlines()
        if line.startswith("Tcp:")
    )
    return int(values[names.index("OutRsts")])


def test_no_kernel_answers_for_a_mac_that_the_interface_got_while_no_daemon_ran(
    lab: Lab, director: LabDirector
) -> None:
    host, own = lab.director_host, lab.director_host.node.mac()
    dropped, sent = verdict(director, OTHER_HOST), resets(host)
    director.kill()
    host.run("ip", "link", "set", "eth0", "address", UNSEEN)
    try:
        flood(lab, UNSEEN)
    finally:
        host.run("ip", "link", "set", "eth0", "address", own)
        director.start()

    assert verdict(director, OTHER_HOST) == dropped + 10
    assert resets(host) == sent


def test_a_container_on_the_interface_gets_its_frames(lab: Lab, director: LabDirector) -> None:
    """A server of which another director sends it clients."""
    elsewhere = lab.backends[1].node.namespace
    add = ["ip", "link", "add", "container0", "link", "eth0", "address", UNSEEN, "netns", elsewhere]
    lab.director_host.run(*add, "type", "macvlan")
    try:
        lab.backends[1].run("ip", "link", "set", "container0", "up")
        passed = verdict(director, WITHIN)

        def gets_them() -> bool:
            flood(lab, UNSEEN)
            return verdict(director, WITHIN) > passed

        wait_until(gets_them, "the container's frames are left to it", 20.0)
    finally:
        lab.backends[1].run("ip", "link", "del", "container0")
    dropped = verdict(director, OTHER_HOST)

    def are_nobodys() -> bool:
        flood(lab, UNSEEN)
        return verdict(director, OTHER_HOST) > dropped

    wait_until(are_nobodys, "the frames are nobody's again", 20.0)


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
