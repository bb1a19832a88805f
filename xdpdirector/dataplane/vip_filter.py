# SPDX-License-Identifier: Apache-2.0
"""The map `vips` and the VIP filter: both contain an address as long as any listener entry has it.

Counts entries by address, so the cost of a change does not depend on their number. Knows addresses; no ports
or services.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Set

import numpy as np

from xdpdirector.dataplane.maps import Entry, Tables, filter_place, vip_key
from xdpdirector.model import Address


class VipFilter:
    """Starts from these entries and their addresses; writes nothing before `repair` is called."""

    def __init__(self, tables: Tables, entries: Iterable[tuple[Entry, Address]]) -> None:
        self._tables = tables
        self._entries: Counter[Address] = Counter()
        self._marked: Counter[tuple[str, int]] = Counter()
        """By mark and position in the filter: how many entries need it."""
        self._words = np.zeros(len(tables.filter), np.uint64)
        self._keys: set[bytes] = set()
        for entry, address in entries:
            self._entries[address] += 1
            self._keys.add(vip_key(address))
            for mark in _marks(entry):
                self._marked[mark, filter_place(address)] += 1
        for (mark, place), _ in self._marked.items():
            self._words[place >> 5] |= self._bit(mark, place)

    def __len__(self) -> int:
        return len(self._entries)

    def count(self, address: Address) -> int:
        """The number of entries with this address."""
        return self._entries[address]

    def hold(self, entry: Entry, address: Address) -> None:
        """Add an entry. The filter is written before the map: it must never miss an address of the map."""
        for mark in _marks(entry):
            self._marked[mark, filter_place(address)] += 1
            self._write(mark, filter_place(address))
        self._entries[address] += 1
        if self._entries[address] == 1:
            self._keys.add(vip_key(address))
            self._tables.put_vip(address)

    def let_go(self, entry: Entry, address: Address) -> None:
        self._entries[address] -= 1
        if not self._entries[address]:
            del self._entries[address]
            self._keys.remove(vip_key(address))
            self._tables.delete_vip(vip_key(address))
        for mark in _marks(entry):
            self._marked[mark, filter_place(address)] -= 1
            self._write(mark, filter_place(address))

    def repair(self, present: Set[bytes]) -> None:
        """Repair differences from the expected contents. `present`: the keys in the map `vips`."""
        wrong = np.flatnonzero(self._tables.filter != self._words)
        if not len(wrong) and present == self._keys:
            return
        self._tables.filter[wrong] |= self._words[wrong]
        if present != self._keys:
            for address in self._entries:
                if vip_key(address) not in present:
                    self._tables.put_vip(address)
            for key in present - self._keys:
                self._tables.delete_vip(key)
        self._tables.filter[wrong] = self._words[wrong]

    def _write(self, mark: str, place: int) -> None:
        bit = self._bit(mark, place)
        word = self._words[place >> 5] & ~bit | (bit if self._marked[mark, place] else np.uint64(0))
        self._words[place >> 5] = self._tables.filter[place >> 5] = word

    def _bit(self, mark: str, place: int) -> np.uint64:
        return np.uint64(self._tables.enums["mark"][mark] << (place & 31) * 2)


def _marks(entry: Entry) -> tuple[str, ...]:
    return ("MARK_VIP", "MARK_RANGES") if entry.map.startswith("ranges") else ("MARK_VIP",)
