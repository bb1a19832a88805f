# SPDX-License-Identifier: Apache-2.0
"""The guard's maps: denied prefixes, limits of new connections per service, and counters of refusals.

Caches the contents of the maps, because reading them is slow. `check` reads them again, so that the next
`deny` and `limit` repair differences. A denied prefix keeps its number, and so its counter, while it is
denied. Knows prefixes, limits and service indices; not who requested them, or why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from ipaddress import ip_network
from typing import Any, NamedTuple

import numpy as np

from xdpdirector.dataplane.jiffies import Clock
from xdpdirector.dataplane.maps import (
    Array,
    Entry,
    Tables,
    address_of,
    address_words,
    dtype_of,
)
from xdpdirector.dataplane.masks import mask_words
from xdpdirector.errors import CapacityError
from xdpdirector.model.guard import Prefix, ServiceLimit

AT_ONCE = 16384  # denied prefixes that one call of `survey` compares

_TRIES = {4: "denied4", 6: "denied6"}


class _Limited(NamedTuple):
    """A limit as it was applied, and the resulting map entry."""

    limit: ServiceLimit | None
    entry: bytes


class GuardMaps:
    """The only writer of the guard's maps."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables, self._clock = tables, clock
        self._shift = int(tables.enums["fixed_point"]["JIFFY_SHIFT"])
        self._entries: dict[Prefix, Entry] = {}
        self._limited: dict[int, _Limited] = {}
        self.writes = 0
        """Incremented with each change of denied prefixes."""
        self.check()

    def check(self) -> None:
        """Read the maps again, in case another process changed them."""
        self._take(self._read_denied())
        self.check_limits()

    def check_limits(self) -> None:
        """As `check`, for limits only; there are few."""
        self._limits: Array = np.concatenate([values.copy() for _, values in self._tables.read("limits")])
        self._limited = {
            service: limited
            for service, limited in self._limited.items()
            if limited.entry == self._limits[service].tobytes()
        }

    def _read_denied(self) -> dict[Entry, int]:
        return {
            Entry(name, key): number
            for name in _TRIES.values()
            for keys, values in self._tables.read(name)
            for key, number in zip(_octets(keys), values.tolist(), strict=True)
        }

    def _take(self, denied: dict[Entry, int]) -> None:
        self._denied = denied
        taken = set(denied.values())
        self._fresh = max(taken, default=-1) + 1
        """The lowest number never assigned; free numbers below it are in `_returned`."""
        self._returned = [number for number in range(self._fresh) if number not in taken]
        self._shared = Counter[int]()
        """Numbers that another writer gave to several entries: how many entries beyond the first have them.
        """
        if len(taken) < len(denied):
            self._shared.update({number: count - 1 for number, count in Counter(denied.values()).items()})
        self._survey = self._pieces()

    # Detecting changes by others

    def survey(self) -> bool:
        """Compare a few thousand denied prefixes with the maps, continuing where the last call stopped. True
        if they match. Thread-safe."""
        writes = self.writes
        try:
            sound = next(self._survey)
        except StopIteration:
            self._survey = self._pieces()
            sound = next(self._survey)
        return sound or writes != self.writes

    def _pieces(self) -> Iterator[bool]:
        """Batches of expected prefixes to look up. A surplus shows at the end, as a difference in the number
        of entries."""
        writes, found = self.writes, 0
        for name in _TRIES.values():
            for keys, values in self._tables.read(name, AT_ONCE):
                found += len(keys)
                pairs = zip(_octets(keys), values.tolist(), strict=True)
                yield all(self._denied.get(Entry(name, key)) == number for key, number in pairs)
        yield found == len(self._denied) or writes != self.writes

    # Denied prefixes

    @property
    def places(self) -> int:
        """Number of denied prefixes."""
        return len(self._denied)

    @property
    def denies(self) -> bool:
        """True if any prefix is denied."""
        return bool(self._denied)

    def deny(self, prefixes: Collection[Prefix]) -> int:
        """Deny exactly these prefixes; returns the number of entries written. CapacityError is raised before
        any write.

        Additions come before deletions, so that a client that is denied before and after is denied
        throughout.
        """
        room = self._tables.entries("denials")
        self._entries = {prefix: self._entries.get(prefix) or self._entry(prefix) for prefix in prefixes}
        wanted = set(self._entries.values())
        if len(wanted) > room:
            raise _full(room, len(wanted))
        new, lost = wanted - self._denied.keys(), self._denied.keys() - wanted
        return self._exchange(new, lost)

    def deny_some(self, new: Collection[Prefix], gone: Collection[Prefix]) -> int:
        """Deny `new` as well, and no longer deny `gone`; otherwise as `deny`. The cost does not depend on how
        many are denied."""
        room = self._tables.entries("denials")
        for prefix in new:
            self._entries[prefix] = self._entries.get(prefix) or self._entry(prefix)
        lost = {self._entries.get(prefix) or self._entry(prefix) for prefix in gone} & self._denied.keys()
        for prefix in gone:
            self._entries.pop(prefix, None)
        added = {self._entries[prefix] for prefix in new} - self._denied.keys()
        if len(self._denied) + len(added) - len(lost) > room:
            raise _full(room, len(self._denied) + len(added) - len(lost))
        return self._exchange(added, lost)

    def _exchange(self, new: Collection[Entry], lost: Collection[Entry]) -> int:
        self.writes += 1
        if len(self._denied) + len(new) > self._tables.entries("denials"):
            self._allow(lost)
            self._deny(new)
        else:
            self._deny(new)
            self._allow(lost)
        return len(new) + len(lost)

    def _deny(self, entries: Collection[Entry]) -> None:
        for entry in entries:
            number = self._returned.pop() if self._returned else self._fresh
            self._fresh = max(self._fresh, number + 1)
            self._tables.per_cpu_zero("denials", number)
            self._tables.write(entry.map, _array(entry), np.array([number], np.uint32))
            self._denied[entry] = number

    def _allow(self, entries: Collection[Entry]) -> None:
        for entry in entries:
            self._tables.delete(entry.map, _array(entry))
            number = self._denied.pop(entry)
            if self._shared[number]:
                self._shared[number] -= 1
            else:
                self._returned.append(number)

    def denied(self) -> set[Prefix]:
        """Denied prefixes, as the maps have them."""
        return {self._prefix(entry) for entry in self._denied}

    def denied_packets(self, prefix: Prefix) -> int:
        """Packets dropped since the prefix was denied; 0 if it is not denied. A packet counts for the longest
        matching prefix."""
        number = self._denied.get(self._entries.get(prefix) or self._entry(prefix))
        return 0 if number is None else int(self._tables.per_cpu_sum("denials", number)[0])

    def _prefix(self, entry: Entry) -> Prefix:
        key = np.frombuffer(entry.key, dtype_of(self._tables.loaded.maps[entry.map]["key"]))
        return ip_network((address_of(key["address"][0]), int(key["prefix"][0])))

    def _entry(self, prefix: Prefix) -> Entry:
        name = _TRIES[prefix.version]
        key = np.zeros(1, dtype_of(self._tables.loaded.maps[name]["key"]))
        words = address_words(prefix.network_address)
        key["prefix"], key["address"] = prefix.prefixlen, words[0] if len(words) == 1 else words
        return Entry(name, key.tobytes())

    # Limits

    def limit(self, service: int, limit: ServiceLimit | None) -> int:
        """Set or remove a service's limit; returns the number of entries written. A new or changed limit
        starts with full bursts."""
        if self.is_limited(service, limit):
            return 0
        present = self._limits[service]
        wanted = present.copy()
        for name, value in self._in_jiffies(limit).items():
            wanted[name] = value
        differs = wanted.tobytes() != present.tobytes()
        if differs:
            self._begin_anew(service, wanted)
        self._limited[service] = _Limited(limit, self._limits[service].tobytes())
        return int(differs)

    def is_limited(self, service: int, limit: ServiceLimit | None) -> bool:
        """True if the limit was applied and was still in the map at the last `check`."""
        return service in self._limited and self._limited[service].limit == limit

    def _begin_anew(self, service: int, limit: Any) -> None:
        self._limited.pop(service, None)
        entry, index = self._limits[service : service + 1], np.array([service], np.uint32)
        entry[0] = limit
        entry["generation"] = (int(entry["generation"][0]) + 1) & 0xFFFF
        self._tables.write("limits", index, entry)
        self._tables.write("paid", index, np.zeros(1, np.uint64))

    def _in_jiffies(self, limit: ServiceLimit | None) -> dict[str, Any]:
        """Fields of `struct limit`. Bursts allow at least what one jiffy earns: time has no finer resolution."""
        source = limit.per_source if limit else None
        cost, tolerance = self._price(limit.rate, limit.in_burst) if limit else (0, 0)
        source_cost, source_tolerance = self._price(source.rate, source.in_burst) if source else (0, 0)
        return {
            "cost": cost,
            "tolerance": tolerance,
            "source_cost": source_cost,
            "source_tolerance": source_tolerance,
            "source_mask": mask_words(source.prefix, 1)[0] if source else 0,
            "source_mask6": mask_words(source.prefix6, 4) if source else [0] * 4,
        }

    def _price(self, rate: float | None, burst: int) -> tuple[int, int]:
        if not rate:
            return 0, 0
        jiffy = 1 << self._shift
        cost = max(1, round(self._clock.hz * jiffy / rate))
        return cost, max(jiffy, (burst - 1) * cost)

    def refused(self, services: Sequence[int]) -> Array:
        """For each of these indices: connections refused by the service's limit and by the one for each source,
        since the service got the index."""
        return self._tables.per_cpu_sums("refusals", services)

    def begin(self, service: int) -> None:
        """The index now belongs to another service: reset its counters and its state of payments."""
        self._tables.per_cpu_zero("refusals", service)
        self._begin_anew(service, self._limits[service])


def _full(room: int, wanted: int) -> CapacityError:
    return CapacityError(
        f"there is room for {room} denied prefixes, and {wanted} are wanted: raise sizes.denied"
    )


def _array(entry: Entry) -> Array:
    return np.frombuffer(entry.key, f"V{len(entry.key)}")


def _octets(keys: Array) -> list[bytes]:
    found: list[bytes] = np.ascontiguousarray(keys).view(f"V{keys.itemsize}").tolist()
    return found
