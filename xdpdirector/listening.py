# SPDX-License-Identifier: Apache-2.0
"""Which listeners lead to which service, and the VIPs that follow from it.

Where ranges meet, the narrower one counts: its prefixes are inside the wider one's or the same as they, so the
longest match finds it, and only who has a shared prefix is to be decided. Knows listeners and indices of services.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from xdpdirector.errors import CapacityError
from xdpdirector.model import Listener
from xdpdirector.tables import Entry, Tables


class Listening:
    """Goes on from what the maps hold; each call says how much it wrote."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._present = tables.listeners()
        self._wanted: dict[int, dict[Entry, int]] = {}
        """By service: its entries, and how wide the narrowest of its listeners is there."""

    def read_again(self) -> None:
        self._present = self._tables.listeners()

    def require_room(self, service: int | None, listeners: Iterable[Listener]) -> None:
        """CapacityError when these, for that service, and those of all others do not fit into a map."""
        entries = {entry for listener in listeners for entry in self._tables.listener_entries(listener)}
        entries |= {entry for entry, owner in self._present.items() if owner != service}
        for name, count in Counter(entry.map for entry in entries).items():
            if count > self._tables.entries(name):
                raise CapacityError(
                    f"there is room for {self._tables.entries(name)} listeners in {name}, and {count} are wanted: "
                    "raise sizes.listeners"
                )

    def leads_to(self, service: int) -> bool:
        return service in self._present.values()

    def lead(self, service: int, listeners: Iterable[Listener]) -> int:
        """Exactly these listeners lead to the service."""
        wanted: dict[Entry, int] = {}
        self._wanted[service] = wanted
        for listener in listeners:
            width = listener.ports.last - listener.ports.first
            for entry in self._tables.listener_entries(listener):
                wanted[entry] = min(width, wanted.get(entry, width))
        lost = [entry for entry, owner in self._present.items() if owner == service and entry not in wanted]
        writes = sum(self._give(entry) for entry in lost)
        self._tables.set_vips({self._tables.address_in(entry) for entry in (*self._present, *wanted)})
        return writes + sum(self._give(entry) for entry in wanted)

    def forget(self, service: int) -> None:
        """Nothing leads there any more."""
        self.lead(service, ())
        del self._wanted[service]

    def _give(self, entry: Entry) -> int:
        """The entry to whoever wants it most narrowly, or to nobody."""
        claims = [(wanted[entry], service) for service, wanted in self._wanted.items() if entry in wanted]
        owner = min(claims)[1] if claims else None
        if self._present.get(entry) == owner:
            return 0
        if owner is None:
            self._tables.delete_listener(entry)
            del self._present[entry]
        else:
            self._tables.set_listener(entry, owner)
            self._present[entry] = owner
        return 1
