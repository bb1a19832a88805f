# SPDX-License-Identifier: Apache-2.0
"""Lesson 1: one backend lacks the VIP, the other one answers ARP for it."""

from __future__ import annotations

from functools import partial

from xdpdirector.lab.configuration import web_configuration
from xdpdirector.lab.lab import Lab
from xdpdirector.lab.lessons.lesson import PATIENT, Check, Lesson
from xdpdirector.lab.lessons.observe import addresses, all_answered, arp_answers
from xdpdirector.lab.topology import VIP4


def build(lab: Lab) -> None:
    first, second = lab.backends
    first.run("ip", "address", "del", f"{VIP4}/32", "dev", "lo")
    second.run("sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=0", "net.ipv4.conf.all.arp_announce=0")
    lab.director(web_configuration(lab.topology.backend_nodes, check=PATIENT))


def _has_vip(lab: Lab, name: str) -> bool:
    return f"{VIP4}/32" in addresses(lab.host(name), "lo")


def _is_silent(lab: Lab) -> bool:
    settings = ("net.ipv4.conf.all.arp_ignore", "net.ipv4.conf.all.arp_announce")
    shown = [host.run("sysctl", "-n", *settings).stdout.split() for host in lab.backends]
    return shown == [["1", "2"]] * len(shown)


LESSON = Lesson(
    "direct routing and the ARP problem",
    "1-direct-routing.md",
    build,
    (
        *(
            Check(
                f"{name} has the VIP 192.0.2.10/32 on its loopback",
                f"ip address add ... dev lo, on {name}; not on eth0, where it would be announced",
                partial(_has_vip, name=name),
            )
            for name in ("backend1", "backend2")
        ),
        Check(
            "only the director answers an ARP request for the VIP",
            "sysctl net.ipv4.conf.all.arp_ignore, on each backend: which value answers for addresses of lo?",
            lambda lab: arp_answers(lab) == {"director"},
        ),
        Check(
            "both backends have arp_ignore 1 and arp_announce 2",
            "arp_ignore is about answers, arp_announce about the sender's address in a backend's own requests",
            _is_silent,
        ),
        Check(
            "both backends answer the client's requests to the VIP",
            "wait for the director's checks, and see `xdpdirector status`; a client that has the MAC address of a "
            "backend for the VIP keeps it for a while: ip neighbour flush dev eth0",
            partial(all_answered, by=("backend1", "backend2")),
        ),
    ),
    backends=2,
)
