# SPDX-License-Identifier: Apache-2.0
"""Which MAC each backend's address had last, and how often that changed; each change is told. Sends nothing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from xdpdirector import reporting
from xdpdirector.lan.ledger import Publisher
from xdpdirector.lan.scene import Target
from xdpdirector.model import Address


@dataclass(frozen=True)
class Known:
    """The last MAC, and how often there was another one; `at` is of the latest change."""

    mac: bytes
    changes: int = 0
    at: datetime | None = None


class Macs:
    """Event `lan.mac-changed`; an address that was without one for a while and comes back with another counts."""

    def __init__(self, events: Publisher) -> None:
        self._events = events
        self._known: dict[Address, Known] = {}

    def of(self, address: Address) -> Known | None:
        return self._known.get(address)

    def note(self, target: Target) -> bool:
        """Whether its MAC is another one than it was."""
        mac, known = target.route.mac, self._known.get(target.address)
        if mac is None or (known and known.mac == mac):
            return False
        if known is None:
            self._known[target.address] = Known(mac)
            return False
        self._known[target.address] = Known(mac, known.changes + 1, reporting.now())
        self._events.publish(
            "lan.mac-changed",
            target.names[0],
            f"{target} has the MAC {mac.hex(':')} now, before {known.mac.hex(':')}",
            backends=list(target.names),
            mac=mac.hex(":"),
            before=known.mac.hex(":"),
            interface=target.route.interface,
        )
        return True

    def keep(self, wanted: Collection[Address]) -> None:
        """Forget all others."""
        self._known = {address: known for address, known in self._known.items() if address in wanted}
