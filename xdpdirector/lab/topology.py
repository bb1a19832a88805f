# SPDX-License-Identifier: Apache-2.0
"""What a lab looks like: its hosts, their names and their addresses.

Values only: nothing here makes, enters or reads a namespace. Addresses are documentation prefixes (RFC 5737,
RFC 3849); MAC addresses are locally administered and end with the host's number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from pathlib import Path

from xdpdirector.errors import InvalidRequestError
from xdpdirector.paths import InstancePaths

PREFIX = "xdplab"
NAMESPACES = Path("/run/netns")
VIP4 = IPv4Address("192.0.2.10")
VIP6 = IPv6Address("2001:db8::10")
MAX_BACKENDS = 64
MAX_DIRECTORS = 5
SWITCH, CLIENT, DIRECTOR, ROUTER = "switch", "client", "director", "router"
_CLIENT_NUMBER, _DIRECTOR_NUMBER, _FIRST_BACKEND_NUMBER, _ROUTER_NUMBER = 100, 1, 21, 254
_NAME = re.compile(r"[a-z0-9_]{1,24}")


@dataclass(frozen=True)
class Arm:
    """One network: interface `eth<index>` of a host, bridge `br<index>` of the switch."""

    index: int
    net4: str
    net6: str

    @property
    def interface(self) -> str:
        return f"eth{self.index}"

    @property
    def bridge(self) -> str:
        return f"br{self.index}"


FIRST_ARM = Arm(0, "192.0.2", "2001:db8")
SECOND_ARM = Arm(1, "198.51.100", "2001:db8:1")


@dataclass(frozen=True)
class Node:
    """One host: `number` ends its addresses on each of its arms."""

    name: str
    namespace: str
    number: int
    arms: tuple[Arm, ...] = (FIRST_ARM,)

    @property
    def namespace_path(self) -> Path:
        return NAMESPACES / self.namespace

    @property
    def ipv4(self) -> IPv4Address:
        return self.interface4().ip

    @property
    def ipv6(self) -> IPv6Address:
        return self.interface6().ip

    def interface4(self, arm: Arm = FIRST_ARM) -> IPv4Interface:
        return IPv4Interface(f"{arm.net4}.{self.number}/24")

    def interface6(self, arm: Arm = FIRST_ARM) -> IPv6Interface:
        return IPv6Interface(f"{arm.net6}::{self.number}/64")

    def mac(self, arm: Arm = FIRST_ARM) -> str:
        return f"02:00:00:00:{arm.index:02x}:{self.number:02x}"

    def port(self, arm: Arm = FIRST_ARM) -> str:
        """The switch's end of this host's cable."""
        return f"p{arm.index}-{self.name}"


@dataclass(frozen=True)
class Topology:
    """A lab's shape. With `two_arm` directors and backends share a second network for the forwarded requests.
    The first director is called `director`, the others `director2` and so on. With `router` the client's packets
    for the VIPs go through one, which has no route to them until somebody announces one.

    `name` is 1 to 24 lower-case letters, digits and `_`; no `-`, so that no lab's prefix begins another's.
    """

    name: str
    backends: int = 3
    two_arm: bool = False
    directors: int = 1
    router: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidRequestError(
                f"'{self.name}' cannot be a lab's name: use 1 to 24 lower-case letters, digits and '_'"
            )
        if not 1 <= self.backends <= MAX_BACKENDS:
            raise InvalidRequestError(
                f"a lab of {self.backends} backends cannot be built: ask for 1 to {MAX_BACKENDS}"
            )

        if not 1 <= self.directors <= MAX_DIRECTORS:
            raise InvalidRequestError(
                f"a lab of {self.directors} directors cannot be built: ask for 1 to {MAX_DIRECTORS}"
            )

    @property
    def prefix(self) -> str:
        return f"{PREFIX}-{self.name}-"

    @property
    def instance(self) -> InstancePaths:
        """Where the lab's first director keeps its things."""
        return self.instances[0]

    @property
    def instances(self) -> tuple[InstancePaths, ...]:
        """Of all directors."""
        names = [f"lab-{self.name}", *(f"lab-{self.name}-{n}" for n in range(2, self.directors + 1))]
        return tuple(map(InstancePaths, names))

    @property
    def switch(self) -> Node:
        return Node(SWITCH, self.prefix + SWITCH, 0, ())

    @property
    def arms(self) -> tuple[Arm, ...]:
        return (FIRST_ARM, SECOND_ARM) if self.two_arm else (FIRST_ARM,)

    @property
    def client(self) -> Node:
        return Node(CLIENT, self.prefix + CLIENT, _CLIENT_NUMBER)

    @property
    def router_node(self) -> Node:
        return Node(ROUTER, self.prefix + ROUTER, _ROUTER_NUMBER)

    @property
    def director(self) -> Node:
        """The first one."""
        return self.director_nodes[0]

    @property
    def director_nodes(self) -> tuple[Node, ...]:
        names = [DIRECTOR, *(f"{DIRECTOR}{n}" for n in range(2, self.directors + 1))]
        return tuple(
            Node(name, self.prefix + name, _DIRECTOR_NUMBER + place, self.arms)
            for place, name in enumerate(names)
        )

    @property
    def backend_nodes(self) -> tuple[Node, ...]:
        return tuple(
            Node(f"backend{n}", f"{self.prefix}backend{n}", _FIRST_BACKEND_NUMBER + n - 1, self.arms)
            for n in range(1, self.backends + 1)
        )

    @property
    def hosts(self) -> tuple[Node, ...]:
        """Everything with an address."""
        routers = (self.router_node,) if self.router else ()
        return (self.client, *routers, *self.director_nodes, *self.backend_nodes)

    @property
    def nodes(self) -> tuple[Node, ...]:
        return (self.switch, *self.hosts)

    def node(self, name: str) -> Node:
        """By short name; InvalidRequestError lists the names there are."""
        for node in self.nodes:
            if name in (node.name, node.namespace):
                return node
        names = ", ".join(node.name for node in self.nodes)
        raise InvalidRequestError(f"lab '{self.name}' has no host '{name}': it has {names}")


def draw(topology: Topology) -> str:
    """The LAN as a drawing of plain text, a line for each host."""
    directors = [_label(node) for node in topology.director_nodes]
    routers = [_label(topology.router_node)] if topology.router else []
    left = [_label(topology.client), *routers, *directors, _vip_label()]
    right = [_label(node) for node in topology.backend_nodes]
    height = max(len(left), len(right))
    width = max(map(len, left))
    lines = [" " * (width + 4) + "switch"]
    for row in range(height):
        text = left[row] if row < len(left) else ""
        cable_left = "──" if row < len(left) - 1 else "  "
        cable_right = "──" if row < len(right) else "  "
        backend = right[row] if row < len(right) else ""
        lines.append(f"{text:<{width}} {cable_left}│ br0 │{cable_right} {backend}".rstrip())
    if topology.two_arm:
        lines.append(f"br1 (eth1 of director and backends): {SECOND_ARM.net4}.0/24, {SECOND_ARM.net6}::/64")
    return "\n".join(lines)


def _label(node: Node) -> str:
    return f"{node.name:<9} {node.ipv4!s:<12} {node.ipv6}"


def _vip_label() -> str:
    return f"{'  VIP':<9} {VIP4!s:<12} {VIP6}"
