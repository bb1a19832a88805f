# SPDX-License-Identifier: Apache-2.0
"""A lab whose backends have addresses in another network, too, that only its router has routes to."""

from __future__ import annotations

from typing import Any

from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import SERVICE, HealthCheck, web_configuration

FAR4, FAR6 = "203.0.113.{}", "2001:db8:f::{}"
NETWORKS = ("203.0.113.0/24", "2001:db8:f::/64")


def move_away(lab: Lab) -> None:
    """Backend number N gets the addresses of that number. The lab has a router."""
    arm = lab.topology.arms[0]
    for number, host in enumerate(lab.backends, 1):
        node = host.node
        for far, bits, via in ((FAR4, 32, node.interface4(arm).ip), (FAR6, 128, node.interface6(arm).ip)):
            address = f"{far.format(number)}/{bits}"
            host.run("ip", "address", "add", address, "dev", "lo", *(["nodad"] if bits == 128 else []))
            lab.router.run("ip", "route", "add", address, "via", str(via))
    for network, via in zip(NETWORKS, (lab.router.node.ipv4, lab.router.node.ipv6), strict=True):
        lab.director_host.run("ip", "route", "add", network, "via", str(via))


def tunnelled(lab: Lab, forward: str, far: str, check: HealthCheck) -> dict[str, Any]:
    """The lab's service, with each backend at its far address."""
    document = web_configuration(lab.topology.backend_nodes, check=check)
    service = document["services"][SERVICE]
    service["forward"] = forward
    for number, backend in enumerate(service["backends"].values(), 1):
        backend["address"] = far.format(number)
    return document
