# SPDX-License-Identifier: Apache-2.0
"""Who forwards at the near end of the cable: an XDP program, or kernel IPVS in direct routing.

Runs in the guest. Each forwards what comes for its own port of one VIP, to as many backends behind one MAC.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Protocol

from dev.bench.baselines import BACKENDS
from dev.bench.frames import FAR_MAC
from dev.bench.wire import INTERFACE, Wire
from xdpdirector.lab.host import enter, run
from xdpdirector.lab.topology import VIP4

NEAR_ADDRESS, NETWORK = "192.0.2.1", 24
FIRST_BACKEND = IPv4Address("192.0.2.21")


class Target(Protocol):
    """`port`: where it listens on the VIP."""

    name: str
    port: int

    def forwarding(self) -> AbstractContextManager[None]:
        """Forwards inside the block; what it remembers of connections stays."""


class Xdp:
    """A pinned program in native mode, ready to forward."""

    def __init__(self, name: str, port: int, wire: Wire, program: Path) -> None:
        self.name, self.port = name, port
        self._wire, self._program = wire, program

    @contextmanager
    def forwarding(self) -> Iterator[None]:
        self._wire.attach(self._wire.near, self._program)
        yield


class Ipvs:
    """An IPVS service of the near namespace, there from the beginning: its connections stay."""

    def __init__(self, name: str, port: int, wire: Wire, scheduler: str) -> None:
        self.name, self.port = name, port
        self._wire = wire
        service = f"{VIP4}:{port}"
        lines = [f"-A -t {service} -s {scheduler}"]
        lines += [f"-a -t {service} -r {FIRST_BACKEND + number}:{port} -g" for number in range(BACKENDS)]
        run(*enter(wire.near, "ipvsadm", "--restore"), text="".join(f"{line}\n" for line in lines))

    @contextmanager
    def forwarding(self) -> Iterator[None]:
        self._wire.detach(self._wire.near)
        yield


def prepare_for_ipvs(wire: Wire) -> None:
    """The near end as a host with the VIP and with neighbours whose MACs are known."""
    addresses = [f"{NEAR_ADDRESS}/{NETWORK}", f"{VIP4}/32"]
    lines = [f"address add {address} dev {INTERFACE}" for address in addresses]
    mac = FAR_MAC.hex(":")
    lines += [
        f"neighbour add {FIRST_BACKEND + number} lladdr {mac} dev {INTERFACE} nud permanent"
        for number in range(BACKENDS)
    ]
    run(*enter(wire.near, "ip", "-batch", "-"), text="".join(f"{line}\n" for line in lines))
    # Requests come from afar, by a cable that leads nowhere else.
    settings = [f"net.ipv4.conf.{name}.rp_filter=0" for name in ("all", INTERFACE)]
    run(*enter(wire.near, "sysctl", "-qw", *settings))
    # A veth takes frames from an XDP program only when the other end polls (NAPI), which GRO makes it do.
    run(*enter(wire.near, "ethtool", "-K", INTERFACE, "gro", "on"))
