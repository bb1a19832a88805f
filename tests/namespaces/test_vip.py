# SPDX-License-Identifier: Apache-2.0
"""The virtual address on the LAN: one host has it, says so and answers for it, although all have it."""

import socket
import time
from collections.abc import Callable
from ipaddress import IPv6Address

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from tests.support.lab_client import socket_on
from tests.support.lab_director import command
from xdpdirector.client import service_path
from xdpdirector.lab import Lab
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.lab.waiting import wait_until

pytestmark = [pytest.mark.root, pytest.mark.smoke, pytest.mark.backends(2)]

LISTENING = 0.5  # seconds in which everybody who wants to answer has answered
ETH_P_ALL = 3


def answers(lab: Lab, question: Packet, is_answer: Callable[[Packet], object]) -> list[str]:
    """The MACs that answer a frame from the client, within LISTENING seconds."""
    with socket_on(lab.client, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as opened:
        opened.bind(("eth0", ETH_P_ALL))
        opened.send(bytes(question))
        found, until = [], time.monotonic() + LISTENING
        while (left := until - time.monotonic()) > 0:
            opened.settimeout(left)
            try:
                frame = Ether(opened.recv(65535))
            except TimeoutError:
                break
            if is_answer(frame):
                found.append(str(frame.src))
        return found


def arp(lab: Lab) -> Packet:
    client = lab.topology.client
    mac = client.mac()
    return Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / ARP(hwsrc=mac, psrc=str(client.ipv4), pdst=str(VIP4))


def solicitation(lab: Lab) -> Packet:
    client = lab.topology.client
    group = IPv6Address(bytes.fromhex("ff0200000000000000000001ff") + VIP6.packed[-3:])  # RFC 4291, 2.7.1
    return (
        Ether(src=client.mac(), dst=f"33:33:{group.packed[-4:].hex(':')}")
        / IPv6(src=str(client.ipv6), dst=str(group), hlim=255)
        / ICMPv6ND_NS(tgt=str(VIP6))
        / ICMPv6NDOptSrcLLAddr(lladdr=client.mac())
    )


def is_arp_reply(frame: Packet) -> bool:
    return ARP in frame and frame[ARP].op == 2 and frame[ARP].psrc == str(VIP4)


def is_advertisement(frame: Packet) -> bool:
    return ICMPv6ND_NA in frame and frame[ICMPv6ND_NA].tgt == str(VIP6)


@pytest.mark.parametrize(
    ("question", "is_answer"),
    [(arp, is_arp_reply), (solicitation, is_advertisement)],
    ids=["arp", "neighbour-discovery"],
)
def test_only_the_director_says_that_it_has_the_vip(
    lab: Lab,
    director: LabDirector,
    question: Callable[[Lab], Packet],
    is_answer: Callable[[Packet], bool],
) -> None:
    said_by = answers(lab, question(lab), is_answer)  # an announcement may come beside the answer

    assert set(said_by) == {lab.topology.director.mac()}


def test_the_director_answers_ping(lab: Lab, director: LabDirector) -> None:
    client, mac = lab.topology.client, lab.topology.director.mac()
    frame = Ether(src=client.mac(), dst=mac)
    ping4 = frame / IP(src=str(client.ipv4), dst=str(VIP4)) / ICMP(id=7) / b"hello"
    ping6 = frame / IPv6(src=str(client.ipv6), dst=str(VIP6)) / ICMPv6EchoRequest(id=7, data=b"hello")

    by4 = answers(lab, ping4, lambda got: ICMP in got and got[ICMP].type == 0 and got[IP].src == str(VIP4))
    by6 = answers(lab, ping6, lambda got: ICMPv6EchoReply in got and got[IPv6].src == str(VIP6))

    assert (by4, by6) == ([mac], [mac])


def addresses(lab: Lab) -> str:
    return lab.director_host.run("ip", "-brief", "address", "show", "eth0").stdout


def test_a_vip_that_somebody_removes_comes_back(lab: Lab, director: LabDirector) -> None:
    lab.director_host.run("ip", "address", "del", f"{VIP4}/32", "dev", "eth0")

    wait_until(lambda: f" {VIP4}/32 " in addresses(lab), "the VIP is back")


def test_vips_come_and_go_with_their_listeners(lab: Lab, director: LabDirector) -> None:
    other = "192.0.2.77"
    assert other not in addresses(lab)

    command(director, "service", "add", "other", "--listen", f"{other}:80/tcp")
    with_it = addresses(lab)
    command(director, "service", "remove", "other")

    assert f" {other}/32 " in with_it
    assert other not in addresses(lab)
    assert str(VIP4) in addresses(lab)
    assert [one["name"] for one in director.client.get("/v1/services")["items"]] == ["web"]
    assert director.client.get(service_path("web"))["operational"] == "up"
