# SPDX-License-Identifier: Apache-2.0
"""The tunnel to a backend in another network: what its outer headers have. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from xdpdirector.model import Address
from xdpdirector.model.tunnel import Encapsulation
from xdpdirector.net.next_hop import Route


@dataclass(frozen=True)
class Tunnel:
    """`struct tunnel` in bpf/types.h. `kind`: IP in IP, or GUE to the UDP port `port`. `mtu`: the longest outer
    packet, in bytes. `spread`: how many of the last bits of `source` are the flow's hash, 32 at most."""

    kind: Literal["ipip", "gue"]
    source: Address
    destination: Address
    mtu: int
    port: int = 0
    spread: int = 0


def tunnel_over(route: Route, how: Encapsulation, destination: Address) -> Tunnel | None:
    """`route`: to the destination, with source and MTU. None without a source address, and for this machine."""
    prefix = how.sources(destination.version)
    source = prefix.network_address if prefix else route.source
    if source is None or route.kind == "local":
        return None
    spread = min(prefix.max_prefixlen - prefix.prefixlen, 32) if prefix else 0
    return Tunnel(how.kind, source, destination, route.mtu, how.port if how.kind == "gue" else 0, spread)
