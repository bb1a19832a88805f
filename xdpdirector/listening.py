# SPDX-License-Identifier: Apache-2.0
"""Which listeners lead to which service, and the VIPs that follow from them.

Where ranges meet, the narrower one counts: its prefixes are inside the wider one's or the same as they, so the
longest match finds it, and only who has a shared prefix is to be decided. Remembers what stands in the maps, as
reading them takes long; `check` looks again. Knows listeners and indices of services, nothing of what a service is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Set

from xdpdirector.errors import CapacityError
from xdpdirector.fronts import Front, Fronts
from xdpdirector.model import Address, Listener
from xdpdirector.shortcuts import Shortcuts
from xdpdirector.tables import Entry, Tables


class Listening:
    """`writes` grows with each entry that was set or deleted."""

    def __init__(self, tables: Tables) -> None:
        self.writes = 0
        self.fronts = Fronts(tables)
        self._tables = tables
        self._present = tables.listeners()
        self._shortcuts = Shortcuts(tables)
        self._shortcuts.fill(self._present)
        self._wanted: dict[int, dict[Entry, int]] = {}
        """By service: its entries, and how wide the narrowest of its listeners is there."""
        self._brought: dict[int, Set[Listener]] = {}
        self._place: dict[Entry, tuple[Address, int]] = {}

    @property
    def entries(self) -> int:
        """In the fullest of the maps; a range of ports takes several."""
        return max(Counter(entry.map for entry in self._present).values(), default=0)

    def has(self, service: int) -> bool:
        """Whether some listener leads to this service."""
        return any(owner == service for owner, _ in self._present.values())

    def require_room(self, service: int | None, wanted: Set[Listener]) -> None:
        """CapacityError when these would not fit."""
        if service is not None and self._brought.get(service) == wanted:
            return
        entries = {entry for listener in wanted for entry in self._tables.listener_entries(listener)}
        mine = {self._front(service, entry) for entry in entries}
        new = sum(1 for front in mine if not self.fronts.knows(front))
        if new > self.fronts.room():
            raise CapacityError(
                f"{new} more pairs of VIP and protocol are wanted, and there is room for {self.fronts.room()}: "
                "those of listeners that were removed come free within seconds"
            )
        entries |= {entry for entry, (owner, _) in self._present.items() if owner != service}
        for name, count in Counter(entry.map for entry in entries).items():
            if count > self._tables.entries(name):
                raise CapacityError(
                    f"there is room for {self._tables.entries(name)} entries in {name}, and {count} are wanted: "
                    "raise sizes.listeners"
                )
        if len(self._addresses(entries)) > self._tables.entries("vips"):
            raise CapacityError(
                f"there is room for {self._tables.entries('vips')} VIPs: raise sizes.listeners"
            )

    def bring(self, service: int, listeners: Set[Listener]) -> None:
        """Exactly these listeners lead to the service, whoever had them before."""
        if self._brought.get(service) == listeners:
            return
        wanted: dict[Entry, int] = {}
        for listener in listeners:
            width = listener.ports.last - listener.ports.first
            for entry in self._tables.listener_entries(listener):
                wanted[entry] = min(width, wanted.get(entry, width))
        self._wanted[service] = wanted
        lost = [
            entry for entry, (owner, _) in self._present.items() if owner == service and entry not in wanted
        ]
        before = self.writes
        for entry in lost:
            self._give(entry)
        if lost or not wanted.keys() <= self._present.keys():
            self._set_vips({*self._present, *wanted})
        for entry in wanted:
            self._give(entry)
        if self.writes != before:
            self.fronts.keep({front for _, front in self._present.values()})
        self._brought[service] = frozenset(listeners)
        if not listeners:
            del self._wanted[service], self._brought[service]

    def check(self) -> None:
        """Read again what stands in the maps, where somebody else may have changed it; the next `bring` repairs
        listeners. Shortcuts and VIPs are repaired here."""
        wanted = {entry for entries in self._wanted.values() for entry in entries}
        before, self._present = self._present, self._tables.listeners()
        if self._present != before:
            self._brought.clear()
        self._shortcuts.fill(self._present)
        entries = wanted | self._present.keys()
        self._place = {entry: place for entry, place in self._place.items() if entry in entries}
        self.fronts.keep({front for _, front in self._present.values()})
        self._set_vips(entries)

    def _give(self, entry: Entry) -> None:
        """The entry to whoever wants it most narrowly, or to nobody."""
        claims = [(wanted[entry], service) for service, wanted in self._wanted.items() if entry in wanted]
        if not claims:
            if entry in self._present:
                self._shortcuts.remove(entry)
                self._tables.delete_listener(entry)
                del self._present[entry]
                self.writes += 1
            return
        service = min(claims)[1]
        target = service, self.fronts.number(self._front(service, entry))
        if self._present.get(entry) != target:
            self._tables.set_listener(entry, *target)
            self._shortcuts.put(entry, *target)
            self._present[entry] = target
            self.writes += 1

    def _front(self, service: int | None, entry: Entry) -> Front:
        """`service` is None for one that has no number yet, and so no front."""
        return Front(-1 if service is None else service, *self._place_of(entry))

    def _place_of(self, entry: Entry) -> tuple[Address, int]:
        if entry not in self._place:
            self._place[entry] = self._tables.place_of(entry)
        return self._place[entry]

    def _set_vips(self, entries: Set[Entry]) -> None:
        ranged = {entry for entry in entries if entry.map.startswith("ranges")}
        self._tables.set_vips(self._addresses(entries), self._addresses(ranged))

    def _addresses(self, entries: Set[Entry]) -> set[Address]:
        return {self._place_of(entry)[0] for entry in entries}
