# SPDX-License-Identifier: Apache-2.0
"""BIRD on hosts of the lab: on directors with the configuration that `xdpdirector bird-config` writes, and on the
router, which sends each flow for a VIP to one of the directors that announce it (ECMP).
"""

from __future__ import annotations

from ipaddress import IPv4Address

from xdpdirector.ha.bgp import Bgp
from xdpdirector.ha.bird import render
from xdpdirector.lab.host import Host
from xdpdirector.lab.host_daemon import HostDaemon
from xdpdirector.lab.topology import VIP4, VIP6, Node, Topology
from xdpdirector.model.listener import Address

ROLE = "bird"
DIRECTORS_AS, ROUTER_AS = 65001, 65000
VIP_INTERFACE = "vips"


class Bird(HostDaemon):
    """One daemon."""

    def __init__(self, host: Host) -> None:
        super().__init__(host, ROLE)

    def start(self, configuration: str) -> None:
        file = self.write("bird.conf", configuration)
        self.run("bird", "-f", "-c", str(file), "-s", f"{self.directory}/bird.ctl")


def announced(topology: Topology, node: Node) -> Bgp:
    """What a director announces to the router: the lab's VIPs."""
    return Bgp(
        vips=(VIP4, VIP6),
        interface=VIP_INTERFACE,
        router_id=node.ipv4,
        asn=DIRECTORS_AS,
        routers=(topology.router_node.ipv4,),
        router_asn=ROUTER_AS,
    )


def of_director(topology: Topology, node: Node) -> str:
    """bird.conf of one that announces the lab's VIPs to the router."""
    return render(announced(topology, node))


def of_router(topology: Topology) -> str:
    """bird.conf of the router: routes of equal length become one with several next hops (`merge paths`)."""
    kernel = "".join(
        f"protocol kernel kernel{family} {{\n    merge paths on limit 16;\n"
        f"    ipv{family} {{ import none; export where source = RTS_BGP; }};\n}}\n"
        for family in (4, 6)
    )
    return (
        f"router id {topology.router_node.ipv4};\nprotocol device {{ scan time 1; }}\n"
        'protocol bfd { interface "*" { interval 300 ms; multiplier 3; }; }\n'
        f"{kernel}{''.join(_session(node.name, node.ipv4) for node in topology.director_nodes)}"
    )


def _session(name: str, address: IPv4Address) -> str:
    return (
        f"protocol bgp {name} {{\n    local as {ROUTER_AS};\n    neighbor {address} as {DIRECTORS_AS};\n"
        "    hold time 9;\n    connect retry time 1;\n    connect delay time 1;\n    error wait time 1, 2;\n"
        "    bfd on;\n"
        "    ipv4 { import all; export none; };\n    ipv6 { import all; export none; };\n}\n"
    )


def next_hops(router: Host, vip: Address) -> int:
    """How many directors the router sends a VIP's flows to."""
    shown = router.run("ip", f"-{vip.version}", "route", "show", f"{vip}/{vip.max_prefixlen}").stdout
    return shown.count(" via ") if "nexthop" not in shown else shown.count("nexthop")


def make_vip_interface(host: Host) -> None:
    """Where the kernel has no dummy interfaces, one end of a veth does as well."""
    if host.run("ip", "link", "show", "dev", VIP_INTERFACE, check=False).returncode == 0:
        return
    if host.run("ip", "link", "add", VIP_INTERFACE, "type", "dummy", check=False).returncode:
        host.run("ip", "link", "add", VIP_INTERFACE, "type", "veth", "peer", "name", f"{VIP_INTERFACE}-end")
        host.run("ip", "link", "set", f"{VIP_INTERFACE}-end", "up")
    host.run("ip", "link", "set", VIP_INTERFACE, "up")


def knows(router: Host, count: int) -> bool:
    """Whether the router has exactly so many next hops for each VIP."""
    return all(next_hops(router, vip) == count for vip in (VIP4, VIP6))
