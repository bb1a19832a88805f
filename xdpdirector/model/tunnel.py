# SPDX-License-Identifier: Apache-2.0
"""How packets reach a backend: by its MAC address, or through a tunnel to its own address."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from xdpdirector.model.fields import NUMBER, Frozen, key
from xdpdirector.model.guard import PrefixField

Forward = Literal["direct", "ipip", "gue"]

GUE_PORT = 6080  # IANA's for gue
_OVERHEAD = {("ipip", 4): 20, ("ipip", 6): 40, ("gue", 4): 28, ("gue", 6): 48}


class TunnelSpec(Frozen):
    """What the tunnels of a service have in common. `source`, `source6`: the hash of a flow fills the bits behind
    the prefix, 32 at most, so that backends spread flows over their receive queues."""

    port: Annotated[int, Field(ge=1, le=65535), NUMBER] = key(
        GUE_PORT, "UDP port that the backends receive GUE on.", "port"
    )
    source: PrefixField | None = key(
        None,
        "IPv4 prefix of outer source addresses, one for each flow; by default all have the director's own address.",
    )
    source6: PrefixField | None = key(None, "The same for IPv6.")

    @model_validator(mode="after")
    def _versions_fit(self) -> Self:
        if self.source is not None and not isinstance(self.source, IPv4Network):
            raise ValueError(f"source {self.source} is no IPv4 prefix: write it as source6")
        if self.source6 is not None and not isinstance(self.source6, IPv6Network):
            raise ValueError(f"source6 {self.source6} is no IPv6 prefix: write it as source")
        return self


@dataclass(frozen=True)
class Encapsulation:
    """How packets to a backend are encapsulated. `source`, `source6`, `port`: see `TunnelSpec`."""

    kind: Literal["ipip", "gue"]
    port: int = GUE_PORT
    source: IPv4Network | IPv6Network | None = None
    source6: IPv4Network | IPv6Network | None = None

    def sources(self, version: int) -> IPv4Network | IPv6Network | None:
        """The prefix of outer source addresses of this IP version."""
        return self.source if version == 4 else self.source6


def encapsulation(forward: Forward, tunnel: TunnelSpec) -> Encapsulation | None:
    """None for direct routing."""
    if forward == "direct":
        return None
    return Encapsulation(forward, tunnel.port, tunnel.source, tunnel.source6)


def overhead(forward: Forward, version: int) -> int:
    """Bytes that a tunnel adds to each packet; `version`: of the backend's address. 0 for direct routing."""
    return _OVERHEAD.get((forward, version), 0)


def segment_size(mtu: int, forward: Forward, version: int, inner: int) -> int:
    """The MSS of TCP for which packets fit (RFC 9293, 3.7.1; RFC 6691). `mtu`: of the way to the backend; `inner`:
    IP version of the VIP."""
    return mtu - overhead(forward, version) - (40 if inner == 4 else 60)
