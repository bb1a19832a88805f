# SPDX-License-Identifier: Apache-2.0
"""Each backend address's last MAC and number of MAC changes; publishes each change. Sends nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from xdpdirector.lan.expected import Target
from xdpdirector.lan.findings import Publisher
from xdpdirector.model import Address
from xdpdirector.model.status import utc_now


@dataclass(frozen=True)
class Known:
    """The last MAC, and the number of changes. `at`: time of the last change."""

    mac: bytes
    changes: int = 0
    at: datetime | None = None


class Macs:
    """Publishes `lan.mac-changed`. An address that loses its MAC and returns with another one counts as
    changed."""

    def __init__(self, events: Publisher) -> None:
        self._events = events
        self._known: dict[Address, Known] = {}

    @property
    def changes(self) -> Mapping[Address, int]:
        return {address: known.changes for address, known in self._known.items()}

    def of(self, address: Address) -> Known | None:
        return self._known.get(address)

    def note(self, address: Address, mac: bytes | None, whose: Callable[[Address], Target | None]) -> bool:
        """Record the MAC; True if it changed. `whose` is only called then."""
        known = self._known.get(address)
        if mac is None or (known and known.mac == mac):
            return False
        if known is None:
            self._known[address] = Known(mac)
            return False
        self._known[address] = Known(mac, known.changes + 1, utc_now())
        if target := whose(address):
            self._tell(target, mac, known.mac)
        return True

    def _tell(self, target: Target, mac: bytes, before: bytes) -> None:
        self._events.publish(
            "lan.mac-changed",
            target.names[0],
            f"{target} has the MAC {mac.hex(':')} now, before {before.hex(':')}",
            backends=list(target.names),
            mac=mac.hex(":"),
            before=before.hex(":"),
            interface=target.route.interface,
        )

    def keep(self, wanted: Collection[Address]) -> None:
        """Drop all other addresses."""
        self._known = {address: known for address, known in self._known.items() if address in wanted}
