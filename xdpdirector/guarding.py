# SPDX-License-Identifier: Apache-2.0
"""The guard in the maps: which prefixes are denied, how many new connections a service takes, and what was refused.

Remembers what stands in the maps, as reading them takes long; `check` looks again, so that the next `deny` and
`limit` repair it. Each denied prefix keeps its number, and so its count, as long as it is denied. Knows prefixes,
limits and indices of services; nothing of who wants them, or why.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_network
from typing import Any, NamedTuple

import numpy as np

from xdpdirector.clock import Clock
from xdpdirector.errors import CapacityError
from xdpdirector.guardspec import Prefix, ServiceLimit
from xdpdirector.masks import mask_words
from xdpdirector.tables import Array, Entry, Tables, address_of, address_words, dtype_of
from xdpdirector.views import Refused

_TRIES = {4: "denied4", 6: "denied6"}


class _Limited(NamedTuple):
    """A limit that was brought into the map, and the entry that came of it."""

    limit: ServiceLimit | None
    entry: bytes


class Guarding:
    """The one writer of the guard's maps."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables, self._clock = tables, clock
        self._shift = int(tables.enums["fixed_point"]["JIFFY_SHIFT"])
        self._entries: dict[Prefix, Entry] = {}
        self._limited: dict[int, _Limited] = {}
        self.check()

    def check(self) -> None:
        """Read again what stands in the maps, where somebody else may have changed it."""
        self._denied = {
            Entry(name, key): number
            for name in _TRIES.values()
            for keys, values in self._tables.read(name)
            for key, number in zip(_octets(keys), values.tolist(), strict=True)
        }
        self._limits: Array = np.concatenate([values.copy() for _, values in self._tables.read("limits")])
        self._limited = {
            service: limited
            for service, limited in self._limited.items()
            if limited.entry == self._limits[service].tobytes()
        }

    # Denied prefixes

    @property
    def places(self) -> int:
        """How many prefixes are denied."""
        return len(self._denied)

    @property
    def denies(self) -> bool:
        """Whether any prefix is denied."""
        return bool(self._denied)

    def deny(self, prefixes: Collection[Prefix]) -> int:
        """Exactly these are denied from now on; how many entries were written. CapacityError before anything is.

        What is new comes before the rest goes, so that nobody slips through who is denied before and after.
        """
        room = self._tables.entries("denials")
        self._entries = {prefix: self._entries.get(prefix) or self._entry(prefix) for prefix in prefixes}
        wanted = set(self._entries.values())
        if len(wanted) > room:
            raise CapacityError(
                f"there is room for {room} denied prefixes, and {len(wanted)} are wanted: raise sizes.denied"
            )
        new, lost = wanted - self._denied.keys(), self._denied.keys() - wanted
        if len(self._denied) + len(new) > room:
            self._allow(lost)
            self._deny(new)
        else:
            self._deny(new)
            self._allow(lost)
        return len(new) + len(lost)

    def _deny(self, entries: Collection[Entry]) -> None:
        taken = set(self._denied.values())
        free = (number for number in range(self._tables.entries("denials")) if number not in taken)
        for entry, number in zip(entries, free, strict=False):
            self._tables.per_cpu_zero("denials", number)
            self._tables.write(entry.map, _array(entry), np.array([number], np.uint32))
            self._denied[entry] = number

    def _allow(self, entries: Collection[Entry]) -> None:
        for entry in entries:
            self._tables.delete(entry.map, _array(entry))
            del self._denied[entry]

    def denied(self) -> set[Prefix]:
        """Who is denied, as the maps have it."""
        return {self._prefix(entry) for entry in self._denied}

    def denied_packets(self, prefix: Prefix) -> int:
        """Packets dropped since it was denied; 0 when it is not. The longest prefix counts a packet."""
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
        """A service's limit, or none; how many entries were written. Another limit than before begins with full
        bursts, and so does one that was away."""
        if self.is_limited(service, limit):
            return 0
        wanted, present = self._in_jiffies(limit), self._limits[service]
        differs = not all(np.array_equal(present[name], value) for name, value in wanted.items())
        if differs:
            self._begin_anew(service, wanted)
        self._limited[service] = _Limited(limit, self._limits[service].tobytes())
        return int(differs)

    def is_limited(self, service: int, limit: ServiceLimit | None) -> bool:
        """Whether the limit was brought into the map, and stood there still at the last `check`."""
        return service in self._limited and self._limited[service].limit == limit

    def _begin_anew(self, service: int, fields: dict[str, Any]) -> None:
        self._limited.pop(service, None)
        entry, index = self._limits[service : service + 1], np.array([service], np.uint32)
        for name, value in fields.items():
            entry[name] = value
        entry["generation"] = (int(entry["generation"][0]) + 1) & 0xFFFF
        self._tables.write("limits", index, entry)
        self._tables.write("paid", index, np.zeros(1, np.uint64))

    def _in_jiffies(self, limit: ServiceLimit | None) -> dict[str, Any]:
        """The fields of `struct limit`. What a jiffy earns is always tolerated: time has no smaller steps."""
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

    def refused(self, service: int) -> Refused:
        """Connections refused since the service has this index."""
        by_service, by_source = self._tables.per_cpu_sum("refusals", service)
        return Refused(by_service=int(by_service), by_source=int(by_source))

    def begin(self, service: int) -> None:
        """The index is another service's from now on: nothing was refused, and nobody has paid."""
        self._tables.per_cpu_zero("refusals", service)
        self._begin_anew(service, {})


def _array(entry: Entry) -> Array:
    return np.frombuffer(entry.key, f"V{len(entry.key)}")


def _octets(keys: Array) -> list[bytes]:
    found: list[bytes] = np.ascontiguousarray(keys).view(f"V{keys.itemsize}").tolist()
    return found
