# SPDX-License-Identifier: Apache-2.0
"""Fronts: a front is a service at one VIP and protocol. Conntrack records contain its number.

Stored in the map `fronts`. A front without listeners rests until a sweep has seen no record of it; otherwise
its next user would inherit its connections. A front also has a bit mask of backends, by place in the service,
that are down for its VIP ("out"), and one that the packet path keeps for lblc and lblcr ("locality"). Knows
numbers; no ports or rings.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Set
from typing import NamedTuple

import numpy as np

from xdpdirector.dataplane.maps import Array, Tables, address_of, address_words
from xdpdirector.errors import CapacityError
from xdpdirector.model.listener import Address
from xdpdirector.system.memory_order import barrier


class Front(NamedTuple):
    """`service`: service index; `protocol`: IP protocol number."""

    service: int
    address: Address
    protocol: int


_WORD = 64  # bits
_CHANGING = ("out", "some_out", "locality", "locality_changed")
"""Fields of the map that are not what `_write` wrote: each has another writer."""

Out = Mapping[Address, int]
"""By VIP: bit mask of the places of backends that are down for it."""


class Fronts:
    """Assigns front numbers, from 1. The cost of a change does not depend on the number of fronts."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        uses = tables.enums["front_use"]
        self._free, self._serving, self._resting = (
            uses[f"FRONT_{use}"] for use in ("FREE", "SERVING", "RESTING")
        )
        entries = self._tables.fronts[:]
        self._said = np.zeros(entries.shape, entries.dtype)
        """The map as written, except `_CHANGING`. Pages of it that were never written take no memory."""
        ever_used = entries.view("u1").reshape(len(entries), -1).any(axis=1)
        self._said[ever_used] = entries[ever_used]
        used = np.flatnonzero(self._said["use"] != self._free).tolist()
        self._fronts: dict[int, Front] = {number: self._read(number) for number in used}
        self._numbers = {front: number for number, front in self._fronts.items()}
        last = max(used, default=0)
        numbers = (*range(last + 1, len(entries)), *range(1, last))
        self._unused: deque[int] = deque(number for number in numbers if number not in self._fronts)
        """Free numbers, approximately the longest unused first."""
        self._at: dict[int, dict[Address, set[int]]] = {}
        for number, front in self._fronts.items():
            self._at.setdefault(front.service, {}).setdefault(front.address, set()).add(number)
        self._out: dict[int, Out] = {}

    def _entry(self, number: int) -> Array:
        """The front's entry in the map, as an array of one."""
        return self._tables.fronts[number : number + 1]

    @property
    def most(self) -> int:
        """How many fronts there can be."""
        return len(self._said) - 1

    def room(self) -> int:
        """The number of free front numbers."""
        return len(self._unused)

    def knows(self, front: Front) -> bool:
        """True if the front has a number."""
        return front in self._numbers

    def number(self, front: Front) -> int:
        """The front's number, assigned if it has none; the front is then in use. CapacityError when all are
        taken."""
        number = self._numbers.get(front)
        if number is None:
            number = self._take()
            self._write(number, front)
            self._write_out(number, self._out.get(front.service, {}).get(front.address, 0))
            self._numbers[front], self._fronts[number] = number, front
            self._at.setdefault(front.service, {}).setdefault(front.address, set()).add(number)
        self._use(number, self._serving)
        return number

    def _take(self) -> int:
        if not self._unused:
            raise CapacityError(
                f"there is room for {len(self._said) - 1} pairs of VIP and protocol, and those of listeners that "
                "were removed come free within seconds: try again, or use fewer"
            )
        return self._unused.popleft()

    def rest(self, numbers: Iterable[int]) -> None:
        """Set these fronts to resting."""
        for number in numbers:
            self._use(number, self._resting)

    def keep(self, numbers: Set[int]) -> None:
        """Set these fronts to serving and all others to resting. Repairs what another process wrote."""
        use = self._said["use"]
        use[use != self._free] = self._resting
        use[list(numbers & self._fronts.keys())] = self._serving
        for number in np.flatnonzero(self._differs()).tolist():
            self._restore(number)

    def _differs(self) -> Array:
        """By number: true if the map differs from what was written."""
        fields = [name for name in self._said.dtype.names or () if name not in _CHANGING]
        entries = self._tables.fronts[:]
        differs = [self._said[name] != entries[name] for name in fields]
        rows: Array = np.any([each.reshape(len(each), -1).any(axis=1) for each in differs], axis=0)
        return rows

    def _restore(self, number: int) -> None:
        entry, said = self._entry(number)[0], self._said[number]
        for name in said.dtype.names or ():
            if name not in (*_CHANGING, "use"):
                entry[name] = said[name]
        entry["use"] = said["use"]

    def _use(self, number: int, use: int) -> None:
        if int(self._said["use"][number]) != use:
            self._said["use"][number] = self._entry(number)["use"][0] = use

    def wanted_out(self, service: int) -> Out:
        """The `out` last requested."""
        return self._out.get(service, {})

    def add_out(self, service: int, out: Out) -> int:
        """Mark these backends as out at the service's fronts, in addition to those already out; returns the
        number of writes. Also applies to fronts created later."""
        self._out[service] = out
        writes = 0
        for address, places in out.items():
            for number in self._at.get(service, {}).get(address, ()):
                writes += self._write_out(number, places | self._read_out(number))
        return writes

    def set_out(self, service: int, out: Out) -> int:
        """Mark exactly these backends as out; returns the number of writes."""
        self._out[service] = out
        return sum(
            self._write_out(number, out.get(address, 0))
            for address, numbers in self._at.get(service, {}).items()
            for number in numbers
        )

    def is_out(self, service: int, out: Out) -> bool:
        """True if exactly these backends are out at the service's fronts."""
        return self._out.get(service) == out and all(
            self._is_written(number, out.get(address, 0))
            for address, numbers in self._at.get(service, {}).items()
            for number in numbers
        )

    def out(self, service: int) -> dict[Address, int]:
        """Backends that are out, for each VIP of the service."""
        return {
            address: self._read_out(number)
            for address, numbers in self._at.get(service, {}).items()
            for number in numbers
            if int(self._said["use"][number]) == self._serving
        }

    def leave_locality(self, service: int, places: int) -> None:
        """These backends, a bit mask of places, are no longer among those of lblc and lblcr at any VIP of the
        service: their places may become others'."""
        bits = _WORD * self._said.dtype["locality"].shape[0]
        while places >> bits:  # as bpf/locality.h
            places = places >> bits | places & (1 << bits) - 1
        for numbers in self._at.get(service, {}).values():
            for number in numbers:
                words = self._entry(number)["locality"][0]
                for word in range(len(words)):
                    left = int(words[word]) & ~(places >> _WORD * word)
                    if left != int(words[word]):
                        words[word] = left

    def forget(self, service: int) -> None:
        """Drop the state of a removed service."""
        self._out.pop(service, None)

    def resting(self) -> frozenset[int]:
        """Resting fronts, whose records the sweep deletes."""
        return frozenset(np.flatnonzero(self._said["use"] == self._resting).tolist())

    def release(self, numbers: Iterable[int]) -> None:
        """Free these fronts if they still rest: no record refers to them any more."""
        for number in set(numbers) & self.resting():
            self._use(number, self._free)
            front = self._fronts.pop(number)
            del self._numbers[front]
            self._unused.append(number)
            places = self._at[front.service]
            places[front.address].discard(number)
            if not places[front.address]:
                del places[front.address]
            if not places:
                del self._at[front.service]

    def _read_out(self, number: int) -> int:
        return int.from_bytes(self._entry(number)["out"].tobytes(), "little")

    def _is_written(self, number: int, places: int) -> bool:
        return self._read_out(number) == places and bool(self._entry(number)["some_out"][0]) == bool(places)

    def _write_out(self, number: int, places: int) -> int:
        """1 if the bit mask changed, else 0. Each word is stored atomically. `some_out` is never 0 while the mask
        has a bit."""
        if self._is_written(number, places):
            return 0
        entry = self._entry(number)
        words = entry["out"][0]
        if places:
            entry["some_out"][0] = 1
        barrier()
        for word in range(len(words)):
            words[word] = places >> _WORD * word & (1 << _WORD) - 1
        if not places:
            barrier()
            entry["some_out"][0] = 0
        return 1

    def _read(self, number: int) -> Front:
        entry = self._entry(number)[0]
        words = entry["address"] if entry["ipv6"] else entry["address"][0]
        return Front(int(entry["service"]), address_of(words), int(entry["protocol"]))

    def _write(self, number: int, front: Front) -> None:
        words = address_words(front.address)
        for entry in (self._said[number], self._entry(number)[0]):
            entry["address"] = (*words, *(0,) * (4 - len(words)))
            entry["service"], entry["protocol"] = front.service, front.protocol
            entry["ipv6"] = front.address.version == 6
            entry["locality"], entry["locality_changed"] = 0, 0
