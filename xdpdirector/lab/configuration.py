# SPDX-License-Identifier: Apache-2.0
"""The director's configuration for a lab: one web service on the VIPs, and the backends. A document only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xdpdirector.lab.topology import VIP4, VIP6, Arm, Node

SERVICE = "web"
TARGETS = (f"{VIP4}:80", f"[{VIP6}]:80")


@dataclass(frozen=True)
class HealthCheck:
    """The HTTP check of the lab's service; seconds."""

    interval: float = 0.5
    timeout: float = 0.3
    rise: int = 2
    fall: int = 2

    @property
    def window(self) -> float:
        """A dead backend is known to be down after so many seconds at the latest."""
        return self.fall * self.interval + self.timeout

    def document(self) -> dict[str, Any]:
        return {
            "type": "http",
            "path": "/healthz",
            "interval": _milliseconds(self.interval),
            "timeout": _milliseconds(self.timeout),
            "rise": self.rise,
            "fall": self.fall,
        }


def _milliseconds(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"


def backend_address(node: Node) -> str:
    """On the network by which the director reaches its backends: the last one they share."""
    arm: Arm = node.arms[-1]
    return str(node.interface4(arm).ip)


def web_configuration(
    backends: Sequence[Node],
    *,
    scheduler: str = "wlc",
    check: HealthCheck | None = None,
    timeouts: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Port 80 of both VIPs, all interfaces that the backends and the director share, weight 1 each."""
    arms = backends[0].arms if backends else ()
    service: dict[str, Any] = {
        "listeners": [f"{target}/tcp" for target in TARGETS],
        "scheduler": scheduler,
        "check": (check or HealthCheck()).document(),
        "backends": {node.name: {"address": backend_address(node), "weight": 1} for node in backends},
    }
    if timeouts:
        service["timeouts"] = dict(timeouts)
    return {"interfaces": [arm.interface for arm in arms] or ["eth0"], "services": {SERVICE: service}}
