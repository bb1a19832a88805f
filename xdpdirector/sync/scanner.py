# SPDX-License-Identifier: Apache-2.0
"""Finds what has changed in the connection tables, by comparing them with a copy: the packet path pays nothing.

A record that only was seen again is reported every few seconds, all else at the next scan. Reading is not locked: a
record that changes while it is read is left to the next scan. Runs in a thread; knows nothing of peers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from xdpdirector.dataplane.conntrack import TABLES, bits_of
from xdpdirector.dataplane.jiffies import Clock
from xdpdirector.dataplane.maps import Array, Tables
from xdpdirector.sync.names import NameReader
from xdpdirector.sync.records import FLOW_OCTETS, OLD, Fields, Ticks, wire_type
from xdpdirector.system.memory_order import barrier

BUSY = 1
UNKNOWN = -1
CHUNK = 1 << 14  # entries compared at a time: they and their copy stay in the cache
REFRESH_TURNS = 40  # scans in which all records are looked at for when they were seen
REFRESH_AFTER = 4.0  # seconds: a record seen again is reported when so much later than before
READ_AGAIN = 16  # times, at most: each takes microseconds, and a record changes a few times a second
SENT_EACH = 1 << 14  # records in a batch


@dataclass(frozen=True)
class Batch:
    """Records of one table, as they go to a peer."""

    table: str
    records: Array


class TableScanner:
    """One table. `copy`: its entries as they were reported, or merged, last."""

    def __init__(self, tables: Tables, name: str, ticks: Ticks) -> None:
        buckets = tables.shared(name)
        words = buckets.dtype.itemsize // 8 // ways_of(tables, name)
        self.name = name
        self.live = buckets.view(np.uint64).reshape(-1, words)
        self.copy = np.zeros_like(self.live)
        self.born = np.full(len(self.live), UNKNOWN, np.int64)
        """The tick at which each connection began, as it was seen here or by a peer; UNKNOWN: before all that."""
        self.here = np.zeros(len(self.live), np.bool_)
        """Whether a packet changed the entry last, and not what a peer told."""
        self.fields = Fields(bits_of(tables.loaded.maps[name]["value"]))
        self._chosen = np.uint64(self.fields.mask("backend") | self.fields.mask("generation"))
        self._ticks = ticks
        self._words = words
        self._differs, self._is_other = np.empty(CHUNK * words, np.uint64), np.empty(CHUNK * words, np.bool_)
        counted = np.full((CHUNK, words), 0xFFFFFFFFFFFFFFFF, np.uint64)
        counted[:, -1] ^= np.uint64(self.fields.mask("seen"))
        self._counted = counted.reshape(-1)
        """The bits of entries whose change is reported at once."""
        self._turn = 0

    def start(self) -> None:
        """Take what is there as reported: a peer gets it in bulk."""
        self.copy[:] = self.live
        self.copy[self.copy[:, -1] == BUSY] = 0
        self.here[:] = self.copy[:, -1] != 0

    def changed(self, now: int) -> Array:
        """Entries that are new, or in another state, since the last scan; `now` in ticks."""
        live, copy, found = self.live.reshape(-1), self.copy.reshape(-1), []
        for start in range(0, len(live), len(self._differs)):
            size = min(len(self._differs), len(live) - start)
            some = slice(start, start + size)
            differs, is_other = self._differs[:size], self._is_other[:size]
            np.bitwise_xor(live[some], copy[some], out=differs)
            np.bitwise_and(differs, self._counted[:size], out=differs)
            np.not_equal(differs, 0, out=is_other)
            if (places := np.flatnonzero(is_other)).size:
                found.append((places + start) // self._words)
        return self._take(_once(np.concatenate(found)), now) if found else np.zeros(0, np.int64)

    def refreshed(self, now: int) -> Array:
        """Of a part of the table, another one each time: entries that were seen again."""
        size = -(-len(self.live) // REFRESH_TURNS)
        start = self._turn * size
        self._turn = (self._turn + 1) % REFRESH_TURNS
        live, copy = self.live[start : start + size, -1], self.copy[start : start + size, -1]
        seen, before = self.fields.get(live, "seen"), self.fields.get(copy, "seen")
        later = self._ticks.since(before, now) - self._ticks.since(seen, now)
        due = (live > BUSY) & (copy > BUSY) & (later >= self._refresh_ticks)
        return self._take(np.flatnonzero(due) + start, now)

    def some(self, start: int, count: int) -> Array:
        """Entries of a part of the table that hold a record."""
        return np.flatnonzero(self.live[start : start + count, -1] > BUSY) + start

    def read(self, entries: Array) -> tuple[Array, Array]:
        """Entries that hold a record, and their places. Those that change meanwhile are read again: a record that
        is only seen again is not looked at in the next scan."""
        rows, places = self._read_stable(entries)
        for _ in range(READ_AGAIN):
            left = np.setdiff1d(entries, places, assume_unique=True)
            left = left[self.live[left, -1] != 0]
            if not left.size:
                break
            more, found = self._read_stable(left)
            rows, places = np.concatenate([rows, more]), np.concatenate([places, found])
        return rows, places

    def _read_stable(self, entries: Array) -> tuple[Array, Array]:
        """Without those that changed meanwhile."""
        before = self.live[entries, -1]
        barrier()
        rows = self.live[entries]
        barrier()
        stable = (before == rows[:, -1]) & (before == self.live[entries, -1]) & (before > BUSY)
        return rows[stable], entries[stable]

    def note(self, entries: Array, words: Array, born: Array) -> None:
        """Records that were merged from a peer, which need not hear of them, unless packets have changed them.
        `born`: ticks, or UNKNOWN."""
        rows = self.live[entries]
        same = rows[:, -1] == words
        self.copy[entries[same]] = rows[same]
        self.born[entries[same]] = born[same]
        self.here[entries[same]] = False

    def seen_here(self, ended: Collection[int], now: int, silent: float | None) -> int:
        """How many connections in other states than `ended` were seen here last; of a packet within `silent`
        seconds, or at any time. `now` in ticks."""
        count = 0
        for start in range(0, len(self.live), CHUNK):
            words = self.live[start : start + CHUNK, -1][self.here[start : start + CHUNK]]
            words = words[words > BUSY]
            words = words[~np.isin(self.fields.get(words, "state"), list(ended))]
            if silent is not None:
                idle = self._ticks.since(self.fields.get(words, "seen"), now)
                words = words[idle <= int(silent * self._ticks.hz) >> self._ticks.shift]
            count += len(words)
        return count

    def age(self, entries: Array, now: int) -> Array:
        """Milliseconds since each record was found; OLD for those that were there before."""
        born = self.born[entries]
        passed = np.minimum(self._ticks.milliseconds(self._ticks.since(born, now)), OLD - 1)
        return np.where(born == UNKNOWN, OLD, passed)

    def _has_begun(self, rows: Array, before: Array) -> Array:
        """Whether each entry has another connection than before: of another flow, or of the same one to another
        backend. A client's port is used again, and the former record may have timed out without being swept."""
        is_other = (rows[:, :-1] != before[:, :-1]).any(axis=1)
        begun: Array = is_other | ((rows[:, -1] ^ before[:, -1]) & self._chosen != 0)
        return begun

    @property
    def _refresh_ticks(self) -> int:
        return max(1, int(REFRESH_AFTER * self._ticks.hz) >> self._ticks.shift)

    def _take(self, entries: Array, now: int) -> Array:
        """Take them into the copy; those that hold a record now."""
        words = self.live[entries, -1]
        gone = entries[words == 0]
        self.copy[gone] = 0
        rows, entries = self.read(entries)
        self.born[entries[self._has_begun(rows, self.copy[entries])]] = now
        self.copy[entries] = rows
        self.here[entries] = True
        return entries


def _once(entries: Array) -> Array:
    """Of sorted ones, each once."""
    return entries[np.flatnonzero(np.diff(entries, prepend=-1))]


def ways_of(tables: Tables, name: str) -> int:
    """Entries of a bucket."""
    (entries,) = tables.loaded.maps[name]["value"]["fields"]
    return int(entries["count"])


class Scanner:
    """Both tables. `scan` and `bulk` are called by one thread."""

    def __init__(self, tables: Tables, clock: Clock, names: NameReader) -> None:
        numbers = tables.enums["tick_numbers"]
        self.ticks = Ticks(clock.hz, numbers["TICK_SHIFT"], numbers["SEEN_BITS"])
        self._clock, self._names = clock, names
        self.tables = {name: TableScanner(tables, name, self.ticks) for name in TABLES}
        for table in self.tables.values():
            table.start()

    def close(self) -> None:
        """Let go of the mapped tables, before they are closed."""
        self.tables.clear()

    def now(self) -> int:
        """Ticks."""
        return self.ticks.of(self._clock.now())

    def scan(self) -> list[Batch]:
        """What has changed since the last scan."""
        now, batches = self.now(), []
        for table in self.tables.values():
            entries = np.concatenate([table.changed(now), table.refreshed(now)])
            for start in range(0, len(entries), SENT_EACH):
                batches += self._batch(table, entries[start : start + SENT_EACH], now)
        return batches

    def seen_here(self, ended: Collection[int], silent: float | None) -> int:
        """Of both tables; see `TableScanner`."""
        now = self.now()
        return sum(table.seen_here(ended, now, silent) for table in self.tables.values())

    def bulk(self) -> Iterator[Batch]:
        """All there is."""
        for table in self.tables.values():
            for start in range(0, len(table.live), 4 * SENT_EACH):
                entries = table.some(start, 4 * SENT_EACH)
                for first in range(0, len(entries), SENT_EACH):
                    yield from self._batch(table, entries[first : first + SENT_EACH], self.now())

    def _batch(self, table: TableScanner, entries: Array, now: int) -> list[Batch]:
        rows, entries = table.read(entries)
        words, get = rows[:, -1], table.fields.get
        backends = get(words, "backend")
        current = self._names.generations[
            np.minimum(backends, len(self._names.generations) - 1).astype(np.int64)
        ]
        kept = get(words, "generation") == current  # the others' backends are gone
        rows, words, entries = rows[kept], words[kept], entries[kept]
        if not len(rows):
            return []
        records = np.zeros(len(rows), wire_type(table.name))
        records["flow"] = rows.view(np.uint8).reshape(len(rows), -1)[:, : FLOW_OCTETS[table.name]]
        for name in ("front", "backend", "state"):
            records[name] = get(words, name)
        idle = self.ticks.milliseconds(self.ticks.since(get(words, "seen"), now))
        records["idle"] = np.minimum(idle, OLD)
        records["age"] = table.age(entries, now)
        return [Batch(table.name, records)]
