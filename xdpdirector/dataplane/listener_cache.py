# SPDX-License-Identifier: Apache-2.0
"""The listener cache in the map `entrance`: the program finds the listener of most packets with one array
access.

The cache is derived from the exact maps, and is only faster: see bpf/fastpath.h, whose hash is repeated here.
One word holds one listener, or says that the exact maps must be looked up, so each change is a single store.
Knows listener keys, not what they lead to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import reduce
from operator import xor
from typing import NamedTuple

import numpy as np

from xdpdirector.dataplane.maps import Entry, Tables
from xdpdirector.model.listener import PROTOCOLS
from xdpdirector.system.memory_order import barrier

_FACTOR = 0x9E3779B97F4A7C15  # LISTENER_CACHE_FACTOR
_KINDS = {PROTOCOLS["tcp"]: 0, PROTOCOLS["udp"]: 1}


class Place(NamedTuple):
    """Where a listener's word is, and the part of its key that is stored there."""

    word: int
    rest: int


class ListenerCache:
    """Keeps the words in step with the listeners. The caller reports each change, or passes all listeners to
    `fill`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._bits = tables.enums["shortcut_bits"]
        self._alone, self._taken = (1 << self._bits[f"SHORTCUT_{name}"] for name in ("ALONE", "TAKEN"))
        self._found: dict[int, dict[Entry, int]] = defaultdict(dict)
        """By word: the listeners that hash to it, each with its word."""
        self._words = tables.shortcuts.copy()
        """The expected contents of the map."""
        self._places: dict[Entry, Place | None] = {}
        """Cache: the place of a key never changes and is slow to compute."""

    def put(self, entry: Entry, service: int, front: int) -> None:
        """Add or change a listener. Call it after the exact map was written."""
        place = self.place_of(entry)
        if place:
            self._found[place.word][entry] = self._word_of(place, service, front)
            self._write(place.word)

    def remove(self, entry: Entry) -> None:
        """Remove a listener. Call it before it is removed from the exact map."""
        place = self.place_of(entry)
        if place:
            self._found[place.word].pop(entry, None)
            self._write(place.word)
        self._places.pop(entry, None)

    def fill(self, listeners: Mapping[Entry, tuple[int, int]]) -> int:
        """Set exactly these listeners, each with (service, front); returns how many words were wrong."""
        self._found.clear()
        self._places = {entry: place for entry, place in self._places.items() if entry in listeners}
        words = np.full(len(self._tables.shortcuts), self._alone, np.uint64)
        for entry, (service, front) in listeners.items():
            place = self.place_of(entry)
            if place:
                self._found[place.word][entry] = self._word_of(place, service, front)
                words[place.word] = self._word_at(place.word)
        self._words = words
        return self.repair()

    def repair(self) -> int:
        """Restore words that another process changed; returns how many."""
        wrong = np.flatnonzero(self._tables.shortcuts != self._words)
        self._tables.shortcuts[wrong] = self._words[wrong]
        return len(wrong)

    def _write(self, word: int) -> None:
        barrier()  # service and front, which were stored before, are seen before
        self._words[word] = self._tables.shortcuts[word] = self._word_at(word)

    def place_of(self, entry: Entry) -> Place | None:
        """None if the listener cannot be cached."""
        if entry not in self._places:
            self._places[entry] = self._worked_out(entry)
        return self._places[entry]

    def _worked_out(self, entry: Entry) -> Place | None:
        if not entry.map.startswith("listeners"):
            return None
        key = self._tables.key_of(entry)
        kind = _KINDS.get(int(key["protocol"]))
        if kind is None:
            return None
        address = reduce(xor, np.atleast_1d(key["address"]).tolist())
        is_ipv6 = entry.map == "listeners6"
        number = address << 18 | int(key["port"]) << 2 | kind << 1 | is_ipv6
        product = number * _FACTOR & (1 << self._bits["SHORTCUT_KEY"]) - 1
        below = self._bits["SHORTCUT_KEY"] - self._bits["SHORTCUT_PLACE"]
        return Place(product >> below, product & (1 << below) - 1)

    def _word_of(self, place: Place, service: int, front: int) -> int:
        value = front << self._bits["SHORTCUT_SERVICE"] | service
        return place.rest << self._bits["SHORTCUT_TAKEN"] + 1 | self._taken | value

    def _word_at(self, index: int) -> int:
        """The listener that was added first."""
        found = self._found[index].values()
        return next(iter(found), 0) | (self._alone if len(found) < 2 else 0)
