# SPDX-License-Identifier: Apache-2.0
"""What a chaos run is made of: its services, their ports and addresses, and how large it is. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xdpdirector.lab.topology import VIP4, VIP6, Topology

BACKENDS = 4
SPARE = "backend4"
"""The one that operations add and remove."""
OTHER_VIP = "192.0.2.11"
"""The director has it once an operation asks for it; no backend ever has."""
FIRST_PORT = 7001
SCHEDULERS = ("rr", "wlc", "mh", "sh")
CHANGING = ("any", "any-persistent")
"""Services whose scheduler and persistence operations change; all others keep theirs."""
PERSISTENCE: dict[str, Any] = {"timeout": "60s"}
CHECK: dict[str, Any] = {"type": "tcp", "interval": "2s", "timeout": "2s", "rise": 2, "fall": 3}
SOURCES = 16
"""Addresses of each family that new connections come from; running ones come from the host's own."""


@dataclass(frozen=True)
class Served:
    """One service of echo servers."""

    name: str
    scheduler: str
    persistent: bool
    port: int

    @property
    def listeners(self) -> tuple[str, ...]:
        """Those that connections go to. They are never removed."""
        return f"{VIP4}:{self.port}/tcp", f"[{VIP6}]:{self.port}/tcp"

    @property
    def others(self) -> tuple[str, ...]:
        """Those that come and go: ports on which no server listens, and a VIP that no backend has."""
        return (
            f"{VIP4}:{self.port + 100}/tcp",
            f"[{VIP6}]:{self.port + 200}/tcp",
            f"{OTHER_VIP}:{self.port}/tcp",
        )


def _services() -> tuple[Served, ...]:
    kinds = [
        (f"{scheduler}-persistent" if persistent else scheduler, scheduler, persistent)
        for scheduler in SCHEDULERS
        for persistent in (False, True)
    ]
    kinds += [(name, "wlc", name.endswith("persistent")) for name in CHANGING]
    return tuple(Served(*kind, FIRST_PORT + number) for number, kind in enumerate(kinds))


SERVICES = _services()


@dataclass(frozen=True)
class Size:
    """How much there is of everything. `running`: connections that are kept, a third of them idle to the end, a
    third with a line now and then, a third downloads. `rate`: new connections a second. `flood`: packets a second
    of a flood; `ports`: from how many ports clients connect, which is what a spray has to try."""

    running: int = 300
    rate: float = 100.0
    flood: int = 20_000
    ports: int = 28_232


SMALL = Size(running=30, rate=10.0, flood=2_000, ports=2_048)


@dataclass(frozen=True)
class Options:
    """`only`: kinds of disturbances, operations and floods; all when it is empty."""

    seed: int
    minutes: float = 5.0
    size: Size = Size()
    name: str = "chaos"
    numbered: bool = False
    only: tuple[str, ...] = ()
    log: Path | None = None
    """Where the director's log goes in the end."""

    @property
    def seconds(self) -> float:
        return self.minutes * 60


def configuration(topology: Topology, user: str | None) -> dict[str, Any]:
    """The director's: every service on all backends but the spare one."""
    backends = {
        node.name: {"address": str(node.ipv4), "weight": 1}
        for node in topology.backend_nodes
        if node.name != SPARE
    }
    services = {
        each.name: {
            "listeners": list(each.listeners),
            "scheduler": each.scheduler,
            "check": CHECK,
            **({"persistence": PERSISTENCE} if each.persistent else {}),
            "backends": backends,
        }
        for each in SERVICES
    }
    return {"interfaces": ["eth0"], **({"user": user} if user else {}), "services": services}
