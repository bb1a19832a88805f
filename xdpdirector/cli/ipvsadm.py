# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector ipvsadm ...`: its arguments are ipvsadm's, and are left to it. It is understood without the command
line's library: scripts and ldirectord call it again and again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from xdpdirector.paths import DEFAULT_INSTANCE, InstancePaths

NAME = "ipvsadm"
_INSTANCE, _SOCKET = ("--instance", "-i"), ("--socket",)


class Order(NamedTuple):
    """Which daemon is meant, and ipvsadm's own arguments."""

    instance: str
    socket: Path | None
    words: Sequence[str]


def plain_order(arguments: Sequence[str], environment: Mapping[str, str]) -> Order | None:
    """`[-i NAME] [--socket PATH] ipvsadm ...`; None for everything else."""
    said = {
        "instance": environment.get("XDPDIRECTOR_INSTANCE"),
        "socket": environment.get("XDPDIRECTOR_SOCKET"),
    }
    rest = list(arguments)
    while rest and rest[0] != NAME:
        name, sign, value = rest.pop(0).partition("=")
        kind = "instance" if name in _INSTANCE else "socket" if name in _SOCKET else ""
        if not kind or (not sign and not rest):
            return None
        said[kind] = value if sign else rest.pop(0)
    if not rest:
        return None
    socket = Path(said["socket"]) if said["socket"] else None
    return Order(said["instance"] or DEFAULT_INSTANCE, socket, rest[1:])


def run(order: Order) -> int:
    """The exit status."""
    from xdpdirector.client import Client
    from xdpdirector.lvs import ipvsadm, memory

    client = Client(order.socket or InstancePaths(order.instance).socket, instance=order.instance)
    return ipvsadm.main(order.words, client, memory.usual_place(order.instance, os.environ))
