# SPDX-License-Identifier: Apache-2.0
"""Which MAC claimed which address, how and when. Pure: the caller passes the time.

Claims are kept for a while, because no machine announces that it gave up an address. Their number is limited,
because anybody can send claims with spoofed MACs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from xdpdirector.lan.frame_parser import Claim, Manner
from xdpdirector.model import Address

AT_MOST = 64  # MACs remembered for one address
ANNOUNCED_FOR = 600.0  # seconds: ARP caches ask again about every minute, which announces them


@dataclass
class Sight:
    """A MAC that claims an address: interface, and time of the last claim by manner."""

    interface: str
    heard: dict[Manner, float] = field(default_factory=dict)


class Claims:
    """By address and MAC."""

    def __init__(self) -> None:
        self._sights: dict[Address, dict[bytes, Sight]] = {}

    def note(self, interface: str, claim: Claim, now: float) -> bool:
        """True if no claim of that MAC in that manner was known."""
        sights = self._sights.setdefault(claim.address, {})
        if claim.mac not in sights and len(sights) >= AT_MOST:
            return False
        sight = sights.setdefault(claim.mac, Sight(interface))
        is_new = claim.manner not in sight.heard
        sight.interface, sight.heard[claim.manner] = interface, now
        return is_new

    def of(self, address: Address) -> dict[bytes, Sight]:
        """Present claims by MAC."""
        return self._sights.get(address, {})

    def forget(self, address: Address) -> None:
        """Drop all claims to the address."""
        self._sights.pop(address, None)

    def forget_old(self, now: float, answered_since: float, wanted: Callable[[Address], bool]) -> None:
        """Drop answers from before `answered_since`, old announcements, and claims to addresses that are not
        wanted."""
        since = dict.fromkeys(Manner, now - ANNOUNCED_FOR) | {Manner.ANSWER: answered_since}
        for address, sights in list(self._sights.items()):
            for mac, sight in list(sights.items()):
                sight.heard = {manner: at for manner, at in sight.heard.items() if at >= since[manner]}
                if not sight.heard:
                    del sights[mac]
            if not sights or not wanted(address):
                del self._sights[address]
