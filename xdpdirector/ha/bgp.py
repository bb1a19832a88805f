# SPDX-License-Identifier: Apache-2.0
"""What a routing daemon is told about this director: its VIPs, and the routers that it announces them to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdpdirector.errors import InvalidRequestError
from xdpdirector.ha.words import require_plain
from xdpdirector.model.listener import Address


@dataclass(frozen=True)
class Bgp:
    """`interface`: the one that carries the VIPs; `router_id`: an IPv4 address of this director; `asn`,
    `router_asn`: numbers of this director's system and the routers'; `routers`: addresses of these."""

    vips: Sequence[Address]
    interface: str
    router_id: Address
    asn: int
    routers: Sequence[Address]
    router_asn: int
    bfd: bool = True

    @property
    def families(self) -> list[int]:
        """IP versions of the VIPs."""
        return [family for family in (4, 6) if any(vip.version == family for vip in self.vips)]

    def prefixes(self, family: int) -> list[str]:
        """The VIPs of that IP version, as routes."""
        return [f"{vip}/{vip.max_prefixlen}" for vip in self.vips if vip.version == family]

    def require_complete(self, daemon: str) -> None:
        """InvalidRequestError when there is nothing to announce, or nobody to tell, or a name that a file of root's
        must not have."""
        require_plain(self.interface, (*self.vips, self.router_id, *self.routers))
        if not self.vips:
            raise InvalidRequestError(
                f"no service has a listener, so there is no VIP that {daemon} could announce"
            )
        if not self.routers:
            raise InvalidRequestError("no router is named that the VIPs could be announced to")
