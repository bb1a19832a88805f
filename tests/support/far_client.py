# SPDX-License-Identifier: Apache-2.0
"""A client behind a router, beside a lab's LAN, with a narrow link between the two.

far                         router                                        the LAN
eth0 203.0.113.7/24  ====  eth1 203.0.113.254/24   eth0 192.0.2.254/24  ====  switch
     2001:db8:2::7/64           2001:db8:2::254/64       2001:db8::254/64

The router sends at most NARROW octets to the client, whose own MTU is the usual one: so its TCP offers segments
that are too large for the link, and only the router's ICMP errors can tell the server.
"""

from xdpdirector.lab import Lab
from xdpdirector.lab.host import Host, run
from xdpdirector.lab.topology import FIRST_ARM, Arm, Node
from xdpdirector.model import Address

NARROW = 1400
_FAR_ARM = Arm(0, "203.0.113", "2001:db8:2")
_ROUTER, _FAR = 254, 7


def far_client(lab: Lab) -> Host:
    """Build it; it goes away with the lab, whose prefix its namespaces bear."""
    router = Node("router", f"{lab.topology.prefix}router", _ROUTER)
    far = Node("far", f"{lab.topology.prefix}far", _FAR, (_FAR_ARM,))
    for node in (router, far):
        run("ip", "netns", "add", node.namespace)
    client, way = Host(far, lab.record), Host(router, lab.record)
    _configure(
        lab.switch,
        f"link add {router.port()} type veth peer name eth0 netns {router.namespace}",
        f"link set {router.port()} master {FIRST_ARM.bridge} up",
    )
    _configure(
        way,
        f"link add eth1 mtu {NARROW} type veth peer name eth0 mtu 1500 netns {far.namespace}",
        *_addresses(router, FIRST_ARM, "eth0"),
        *_addresses(router, _FAR_ARM, "eth1"),
    )
    _configure(
        client,
        *_addresses(far, _FAR_ARM, "eth0"),
        f"route add default via {router.interface4(_FAR_ARM).ip}",
        f"-6 route add default via {router.interface6(_FAR_ARM).ip}",
    )
    way.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    for host in (lab.director_host, *lab.backends):
        _configure(
            host,
            f"route add {far.interface4(_FAR_ARM).network} via {router.ipv4}",
            f"-6 route add {far.interface6(_FAR_ARM).network} via {router.ipv6}",
        )
    return client


def far_address(far: Host, vip: Address) -> Address:
    """The far client's, of the VIP's family."""
    node = far.node
    return (node.interface4(_FAR_ARM) if vip.version == 4 else node.interface6(_FAR_ARM)).ip


def _addresses(node: Node, arm: Arm, interface: str) -> list[str]:
    return [
        f"addr add {node.interface4(arm)} dev {interface}",
        f"addr add {node.interface6(arm)} dev {interface} nodad",
        f"link set {interface} up",
    ]


def _configure(host: Host, *lines: str) -> None:
    for line in lines:
        host.run("ip", *line.split())
