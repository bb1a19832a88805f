# SPDX-License-Identifier: Apache-2.0
"""Which listeners lead to which service, and the VIPs that follow from them.

Where ranges meet, the narrower one counts: its prefixes are inside the wider one's or the same as they, so the
longest match finds it, and only who has a shared prefix is to be decided. Remembers what stands in the maps, as
reading them takes long; `check` looks again. Knows listeners and indices of services, nothing of what a service is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Set
from typing import NamedTuple

from xdpdirector.dataplane.listener_cache import Shortcuts
from xdpdirector.dataplane.maps import Entry, Tables
from xdpdirector.dataplane.vip_filter import VipMarks
from xdpdirector.dataplane.vip_ids import Front, Fronts
from xdpdirector.errors import CapacityError
from xdpdirector.model import Address, Listener

Target = tuple[int, int]
"""The numbers of a service and a front."""


class Found(NamedTuple):
    """What a reading of the maps found: service and front by listener entry, and the keys of the VIPs."""

    listeners: dict[Entry, Target]
    vips: set[bytes]


class Listening:
    """`writes` grows with each entry that was set or deleted: what was read of the maps is true for one number.

    The cost of a change grows with the service's own listeners, not with those of all services.
    """

    def __init__(self, tables: Tables) -> None:
        self.writes = 0
        self.fronts = Fronts(tables)
        self._tables = tables
        self._shortcuts = Shortcuts(tables)
        self._claims: dict[Entry, dict[int, int]] = {}
        """Which services want an entry, and how wide the narrowest of their listeners is there."""
        self._wanted: dict[int, Set[Entry]] = {}
        """By service: its entries."""
        self._brought: dict[int, Set[Listener]] = {}
        self._place: dict[Entry, tuple[Address, int]] = {}
        self._adopt(self.read())

    @property
    def entries(self) -> int:
        """In the fullest of the maps; a range of ports takes several."""
        return max(self._count.values(), default=0)

    def has(self, service: int) -> bool:
        """Whether some listener leads to this service."""
        return bool(self._owned.get(service))

    def is_brought(self, service: int, listeners: Set[Listener]) -> bool:
        """Whether exactly these lead to the service, as far as the last `check` saw."""
        return self._brought.get(service) == listeners if listeners else not self.has(service)

    def require_room(
        self, wanted: Iterable[tuple[int | None, Set[Listener]]], gone: Collection[int] = ()
    ) -> None:
        """CapacityError when the listeners that these services want, None for one that has no number yet, would not
        fit once those that they have, and those of the services that are `gone`, have left."""
        new, entries, losses = 0, set(), {entry for each in gone for entry in self._owned.get(each, ())}
        for service, listeners in wanted:
            if service is not None and listeners and self.is_brought(service, listeners):
                continue
            own = {entry for listener in listeners for entry in self._tables.listener_entries(listener)}
            mine = {self._front(-1 if service is None else service, entry) for entry in own}
            new += sum(1 for front in mine if not self.fronts.knows(front))
            entries |= own
            losses |= set() if service is None else self._owned.get(service, set())
        if not entries:
            return
        if new > self.fronts.room():
            raise CapacityError(
                f"{new} more pairs of VIP and protocol are wanted, and there is room for "
                f"{self.fronts.room()}: those of listeners that were removed come free within seconds"
            )
        gains = {entry for entry in entries if entry not in self._present}
        losses -= entries
        counts = self._count.copy()
        counts.update(entry.map for entry in gains)
        counts.subtract(entry.map for entry in losses)
        for name, count in counts.items():
            if count > self._tables.entries(name):
                raise CapacityError(
                    f"there is room for {self._tables.entries(name)} entries in {name}, and {count} are wanted: "
                    "raise sizes.listeners"
                )
        if self._vips_with(gains, losses) > self._tables.entries("vips"):
            raise CapacityError(
                f"there is room for {self._tables.entries('vips')} VIPs: raise sizes.listeners"
            )

    def bring(self, service: int, listeners: Set[Listener]) -> None:
        """Exactly these listeners lead to the service, whoever had them before."""
        if listeners and self.is_brought(service, listeners):
            return
        wanted: dict[Entry, int] = {}
        for listener in listeners:
            width = listener.ports.last - listener.ports.first
            for entry in self._tables.listener_entries(listener):
                wanted[entry] = min(width, wanted.get(entry, width))
        changed = self._wanted.get(service, set()) | self._owned.get(service, set()) | wanted.keys()
        fronts = {self._present[entry][1] for entry in changed if entry in self._present}
        for entry, width in wanted.items():
            self._claim(entry, service, width)
        for entry in changed - wanted.keys():
            self._unclaim(entry, service)
            self._give(entry)
        for entry in wanted:
            self._give(entry)
        self.fronts.rest(front for front in fronts if front not in self._fronts)
        self._wanted[service], self._brought[service] = frozenset(wanted), frozenset(listeners)
        if not listeners:
            del self._wanted[service], self._brought[service]

    def read(self) -> Found:
        """What stands in the maps. May be called in another thread."""
        return Found(self._tables.listeners(), self._tables.vips())

    def check(self, found: Found) -> None:
        """Repair what somebody else changed: listeners by the next `bring`, all else now. Nothing was written since
        `found` was read."""
        if found.listeners != self._present:
            self._brought.clear()
            self._adopt(found)
        self._shortcuts.repair()
        self.fronts.keep(self._fronts.keys())
        self._vips.repair(found.vips)

    def _adopt(self, found: Found) -> None:
        """Begin with what stands in the maps, and what is wanted of it."""
        self._present: dict[Entry, Target] = {}
        self._owned: dict[int, set[Entry]] = {}
        self._count: Counter[str] = Counter()
        self._fronts: Counter[int] = Counter()
        for entry, target in found.listeners.items():
            self._note(entry, target)
        entries = self._claims.keys() | found.listeners.keys()
        self._vips = VipMarks(self._tables, ((entry, self._place_of(entry)[0]) for entry in entries))
        self._vips.repair(found.vips)
        self._shortcuts.fill(self._present)

    def _claim(self, entry: Entry, service: int, width: int) -> None:
        """From now on the service wants the entry, whose address is a VIP."""
        if entry not in self._claims and entry not in self._present:
            self._vips.hold(entry, self._place_of(entry)[0])
        self._claims.setdefault(entry, {})[service] = width

    def _unclaim(self, entry: Entry, service: int) -> None:
        claims = self._claims.get(entry, {})
        claims.pop(service, None)
        if not claims:
            self._claims.pop(entry, None)

    def _give(self, entry: Entry) -> None:
        """The entry to whoever wants it most narrowly, or to nobody."""
        claims = [(width, service) for service, width in self._claims.get(entry, {}).items()]
        if not claims:
            if entry in self._present:
                self._shortcuts.remove(entry)
                self._tables.delete_listener(entry)
                self._forget(entry)
                self._vips.let_go(entry, self._place_of(entry)[0])
                self.writes += 1
            self._place.pop(entry, None)
            return
        service = min(claims)[1]
        target = service, self.fronts.number(self._front(service, entry))
        if self._present.get(entry) != target:
            self._tables.set_listener(entry, *target)
            self._shortcuts.put(entry, *target)
            self._forget(entry)
            self._note(entry, target)
            self.writes += 1

    def _note(self, entry: Entry, target: Target) -> None:
        service, front = target
        self._present[entry] = target
        self._owned.setdefault(service, set()).add(entry)
        self._count[entry.map] += 1
        self._fronts[front] += 1

    def _forget(self, entry: Entry) -> None:
        if entry not in self._present:
            return
        service, front = self._present.pop(entry)
        self._owned[service].remove(entry)
        if not self._owned[service]:
            del self._owned[service]
        self._count[entry.map] -= 1
        self._fronts[front] -= 1
        if not self._fronts[front]:
            del self._fronts[front]

    def _vips_with(self, gains: Set[Entry], losses: Set[Entry]) -> int:
        """How many VIPs there would be."""
        change = Counter(self._place_of(entry)[0] for entry in gains)
        change.subtract(self._place_of(entry)[0] for entry in losses)
        known = {address: self._vips.count(address) for address in change}
        new = sum(1 for address, count in known.items() if not count and change[address] > 0)
        gone = sum(1 for address, count in known.items() if count and count + change[address] <= 0)
        return len(self._vips) + new - gone

    def _front(self, service: int, entry: Entry) -> Front:
        """`service` is negative for one that has no number yet, and so no front."""
        return Front(service, *self._place_of(entry))

    def _place_of(self, entry: Entry) -> tuple[Address, int]:
        if entry not in self._place:
            self._place[entry] = self._tables.place_of(entry)
        return self._place[entry]
