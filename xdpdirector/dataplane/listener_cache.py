# SPDX-License-Identifier: Apache-2.0
"""The shortcuts in the map `entrance`, by which the program tells at a glance which listener a packet is for.

They follow from the exact maps, and are no more than a faster way: see bpf/fastpath.h, whose arithmetic is repeated
here. One word is one listener, or says that the exact maps are to be asked, so that each change is a single store.
Knows the keys of listeners, and nothing of what they lead to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import reduce
from operator import xor
from typing import NamedTuple

import numpy as np

from xdpdirector.dataplane.maps import PROTOCOLS, Entry, Tables

_FACTOR = 0x9E3779B97F4A7C15  # LISTENER_CACHE_FACTOR
_KINDS = {PROTOCOLS["tcp"]: 0, PROTOCOLS["udp"]: 1}


class Place(NamedTuple):
    """Where a listener's word is, and what of its key stands there."""

    word: int
    rest: int


class Shortcuts:
    """Keeps the words as the listeners are: who changes those says so, or lets `fill` look at all of them."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._bits = tables.enums["shortcut_bits"]
        self._alone, self._taken = (1 << self._bits[f"SHORTCUT_{name}"] for name in ("ALONE", "TAKEN"))
        self._found: dict[int, dict[Entry, int]] = defaultdict(dict)
        """The listeners that have their place there, with the words that stand for them."""
        self._words = tables.shortcuts.copy()
        """What shall stand in the map."""
        self._places: dict[Entry, Place | None] = {}
        """Of all of them: where a key leads never changes, and working it out takes long."""

    def put(self, entry: Entry, service: int, front: int) -> None:
        """A listener leads there from now on. Once the exact map says so, too."""
        place = self.place_of(entry)
        if place:
            self._found[place.word][entry] = self._word_of(place, service, front)
            self._write(place.word)

    def remove(self, entry: Entry) -> None:
        """There is no such listener any more. While the exact map still has it."""
        place = self.place_of(entry)
        if place:
            self._found[place.word].pop(entry, None)
            self._write(place.word)
        self._places.pop(entry, None)

    def fill(self, listeners: Mapping[Entry, tuple[int, int]]) -> int:
        """There are these listeners, leading to service and front, and no others; how many words said otherwise."""
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
        """Put right what somebody else wrote; how many words."""
        wrong = np.flatnonzero(self._tables.shortcuts != self._words)
        self._tables.shortcuts[wrong] = self._words[wrong]
        return len(wrong)

    def _write(self, word: int) -> None:
        self._words[word] = self._tables.shortcuts[word] = self._word_at(word)

    def place_of(self, entry: Entry) -> Place | None:
        """None: it has no shortcut."""
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
        """The first one's, as it has been there for longest."""
        found = self._found[index].values()
        return next(iter(found), 0) | (self._alone if len(found) < 2 else 0)
