# SPDX-License-Identifier: Apache-2.0
"""Which listeners lead to which service, and the resulting VIPs.

Where port ranges overlap, the narrower one wins. Its prefixes are inside those of the wider range or equal to
them, so the longest match finds it; only equal prefixes need a decision. Caches the contents of the maps,
because reading them is slow; `check` reads them again. Knows listeners and service indices, not services.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Set
from typing import NamedTuple

from xdpdirector.dataplane.listener_cache import ListenerCache
from xdpdirector.dataplane.maps import Entry, Tables
from xdpdirector.dataplane.vip_filter import VipFilter
from xdpdirector.dataplane.vip_ids import Front, Fronts
from xdpdirector.errors import CapacityError
from xdpdirector.model import Address, Listener

Target = tuple[int, int]
"""Service index and front id."""


class Found(NamedTuple):
    """Contents of the maps: (service, front) by listener entry, and the keys of the map `vips`."""

    listeners: dict[Entry, Target]
    vips: set[bytes]


class Listening:
    """`writes` is incremented with each entry set or deleted: a reading of the maps is valid for one value of
    it.

    The cost of a change grows with the listeners of its service, not with those of all services.
    """

    def __init__(self, tables: Tables) -> None:
        self.writes = 0
        self.fronts = Fronts(tables)
        self._tables = tables
        self._shortcuts = ListenerCache(tables)
        self._claims: dict[Entry, dict[int, int]] = {}
        """By entry: the services that claim it, each with the width of its narrowest listener there."""
        self._wanted: dict[int, Collection[Entry]] = {}
        """By service: the entries that it claims."""
        self._brought: dict[int, tuple[Listener, ...]] = {}
        self._place: dict[Entry, tuple[Address, int]] = {}
        self._adopt(self.read())

    @property
    def entries(self) -> int:
        """Entries in the fullest of the maps. A port range takes several."""
        return max(self._count.values(), default=0)

    @property
    def vips(self) -> int:
        """The number of VIPs."""
        return len(self._vips)

    def has(self, service: int) -> bool:
        """True if any listener leads to this service."""
        return bool(self._owned.get(service))

    def is_brought(self, service: int, listeners: Collection[Listener]) -> bool:
        """True if exactly these listeners, in this order, led to the service at the last `check`."""
        return self._brought.get(service) == tuple(listeners) if listeners else not self.has(service)

    def require_room(
        self, wanted: Iterable[tuple[int | None, Collection[Listener]]], gone: Collection[int] = ()
    ) -> None:
        """Raise CapacityError unless the wanted listeners fit after the present listeners of the same
        services, and those of the services in `gone`, are removed. Service None: a service without an index
        yet."""
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

    def bring(self, service: int, listeners: Collection[Listener]) -> None:
        """Make exactly these listeners lead to the service, whichever service had them before."""
        if listeners and self.is_brought(service, listeners):
            return
        wanted: dict[Entry, int] = {}
        for listener in listeners:
            width = listener.ports.last - listener.ports.first
            for entry in self._tables.listener_entries(listener):
                wanted[entry] = min(width, wanted.get(entry, width))
        changed = {*self._wanted.get(service, ()), *self._owned.get(service, ()), *wanted}
        fronts = {self._present[entry][1] for entry in changed if entry in self._present}
        for entry, width in wanted.items():
            self._claim(entry, service, width)
        for entry in changed - wanted.keys():
            self._unclaim(entry, service)
            self._give(entry)
        for entry in wanted:
            self._give(entry)
        self.fronts.rest(front for front in fronts if front not in self._fronts)
        self._wanted[service], self._brought[service] = tuple(wanted), tuple(listeners)
        if not listeners:
            del self._wanted[service], self._brought[service]

    def read(self) -> Found:
        """Read the maps. Thread-safe."""
        return Found(self._tables.listeners(), self._tables.vips())

    def check(self, found: Found) -> None:
        """Repair changes by others: listeners with the next `bring`, everything else now. Nothing may have
        been written since `found` was read."""
        if found.listeners != self._present:
            self._brought.clear()
            self._adopt(found)
        self._shortcuts.repair()
        self.fronts.keep(self._fronts.keys())
        self._vips.repair(found.vips)

    def _adopt(self, found: Found) -> None:
        """Start from the contents of the maps, taken as the claims."""
        self._present: dict[Entry, Target] = {}
        self._owned: dict[int, set[Entry]] = {}
        self._count: Counter[str] = Counter()
        self._fronts: Counter[int] = Counter()
        for entry, target in found.listeners.items():
            self._note(entry, target)
        entries = self._claims.keys() | found.listeners.keys()
        self._vips = VipFilter(self._tables, ((entry, self._place_of(entry)[0]) for entry in entries))
        self._vips.repair(found.vips)
        self._shortcuts.fill(self._present)

    def _claim(self, entry: Entry, service: int, width: int) -> None:
        """Record that the service claims the entry, and make its address a VIP."""
        if entry not in self._claims and entry not in self._present:
            self._vips.hold(entry, self._place_of(entry)[0])
        self._claims.setdefault(entry, {})[service] = width

    def _unclaim(self, entry: Entry, service: int) -> None:
        claims = self._claims.get(entry, {})
        claims.pop(service, None)
        if not claims:
            self._claims.pop(entry, None)

    def _give(self, entry: Entry) -> None:
        """Write the entry for the service with the narrowest claim, or delete it if no service claims it."""
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
        """The number of VIPs after the change."""
        change = Counter(self._place_of(entry)[0] for entry in gains)
        change.subtract(self._place_of(entry)[0] for entry in losses)
        known = {address: self._vips.count(address) for address in change}
        new = sum(1 for address, count in known.items() if not count and change[address] > 0)
        gone = sum(1 for address, count in known.items() if count and count + change[address] <= 0)
        return len(self._vips) + new - gone

    def _front(self, service: int, entry: Entry) -> Front:
        """`service` is negative for a service without an index, which has no front."""
        return Front(service, *self._place_of(entry))

    def _place_of(self, entry: Entry) -> tuple[Address, int]:
        if entry not in self._place:
            self._place[entry] = self._tables.place_of(entry)
        return self._place[entry]
