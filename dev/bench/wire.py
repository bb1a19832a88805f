# SPDX-License-Identifier: Apache-2.0
"""Two network namespaces and a cable between them: the shortest way there is for live frames.

The names begin like those of the lab that they belong to, so that clearing it clears them too.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from dev.bench.frames import FAR_MAC, NEAR_MAC
from xdpdirector.lab.host import enter, run
from xdpdirector.lab.topology import FIRST_ARM, Node, Topology

INTERFACE = FIRST_ARM.interface


class Wire:
    """`near` is the side of the program under test, `far` sends and counts. Up inside the block."""

    def __init__(self, lab: str) -> None:
        prefix = Topology(lab).prefix
        self.near, self.far = Node("near", f"{prefix}near", 1), Node("far", f"{prefix}far", 2)

    def __enter__(self) -> Self:
        near, far = self.near.namespace, self.far.namespace
        cable = f"{INTERFACE} address {_text(NEAR_MAC)}"
        other = f"{INTERFACE} netns {far} address {_text(FAR_MAC)}"
        try:
            run("ip", "-batch", "-", text=f"netns add {near}\nnetns add {far}\n")
            # From inside: Linux 6.1 refuses a name that is taken where the command runs.
            run(
                *enter(self.near, "ip", "-batch", "-"), text=f"link add {cable} type veth peer name {other}\n"
            )
            for node in (self.near, self.far):
                # A silent cable: no neighbour discovery, no router solicitation.
                run(*enter(node, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1"))
                run(*enter(node, "ip", "link", "set", INTERFACE, "up"))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in (self.near, self.far):
            run("ip", "netns", "del", node.namespace, check=False)

    def attach(self, node: Node, program: Path) -> None:
        """A pinned program at this end of the cable, in place of what is there."""
        self._attach(node, INTERFACE, "xdpdrv", program)

    def detach(self, node: Node) -> None:
        """No program at this end of the cable."""
        run(*enter(node, "ip", "link", "set", "dev", INTERFACE, "xdpdrv", "off"))

    def keep(self, *programs: Path) -> None:
        """Attach one or two programs where no packet comes by. The kernel then has them in its table of XDP
        programs (net/core/filter.c, BPF_DISPATCHER) and need not change the table, and wait for all CPUs, in each
        test-run: calls follow each other within microseconds, with warm caches."""
        for node, program in zip((self.near, self.far), programs, strict=False):
            self._attach(node, "lo", "xdpgeneric", program)

    def _attach(self, node: Node, interface: str, mode: str, program: Path) -> None:
        run(*enter(node, "ip", "-force", "link", "set", "dev", interface, mode, "pinned", str(program)))

    def python(self, node: Node, module: str, *arguments: str) -> list[str]:
        """The command line of a module of ours that runs in that namespace."""
        return enter(node, sys.executable, "-m", module, *arguments)


def _text(mac: bytes) -> str:
    return mac.hex(":")
