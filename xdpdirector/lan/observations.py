# SPDX-License-Identifier: Apache-2.0
"""Who was heard claiming which address, how, and when. Pure: the caller says what time it is.

What is heard is remembered for a while, since nobody announces that he gave an address up. Anybody can send claims
with made-up MACs, so there is room for a number of them only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from xdpdirector.lan.frame_parser import Claim, Manner
from xdpdirector.model import Address

AT_MOST = 64  # MACs remembered for one address
ANNOUNCED_FOR = 600.0  # seconds: ARP caches ask again every minute or so, and announce with it


@dataclass
class Sight:
    """One MAC that claims an address: where it was heard, and when last in which manner."""

    interface: str
    heard: dict[Manner, float] = field(default_factory=dict)


class Claims:
    """By address and MAC."""

    def __init__(self) -> None:
        self._sights: dict[Address, dict[bytes, Sight]] = {}

    def note(self, interface: str, claim: Claim, now: float) -> bool:
        """Whether this is new: nobody with that MAC is known to claim it in that manner."""
        sights = self._sights.setdefault(claim.address, {})
        if claim.mac not in sights and len(sights) >= AT_MOST:
            return False
        sight = sights.setdefault(claim.mac, Sight(interface))
        is_new = claim.manner not in sight.heard
        sight.interface, sight.heard[claim.manner] = interface, now
        return is_new

    def of(self, address: Address) -> dict[bytes, Sight]:
        """By MAC, those that count now."""
        return self._sights.get(address, {})

    def forget(self, address: Address) -> None:
        """All that was heard of it."""
        self._sights.pop(address, None)

    def forget_old(self, now: float, answered_since: float, wanted: Callable[[Address], bool]) -> None:
        """Answers from before `answered_since`, announcements that are old, and all that nobody wants to know."""
        since = dict.fromkeys(Manner, now - ANNOUNCED_FOR) | {Manner.ANSWER: answered_since}
        for address, sights in list(self._sights.items()):
            for mac, sight in list(sights.items()):
                sight.heard = {manner: at for manner, at in sight.heard.items() if at >= since[manner]}
                if not sight.heard:
                    del sights[mac]
            if not sights or not wanted(address):
                del self._sights[address]
