# SPDX-License-Identifier: Apache-2.0
"""Reads and deletes records of the conntrack table of bpf/conntrack_table.h. Does not know how records are
used.

A record is one 8-byte word. Reads work on a copy of the buckets. Deletes run the program `reap`, which uses
compare-and-swap as the packet path does and leaves records alone that changed since they were read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xdpdirector import libbpf
from xdpdirector.dataplane.maps import Array, Tables

TABLES = ("connections4", "connections6")
_BUCKETS = 4096  # buckets per read
_BUSY = 1
_FIELDS = ("backend", "front", "state", "generation", "seen")


class RecordRange(NamedTuple):
    """Records of one part of the tables, all of one address family. `next`: the bucket after it, None at the
    end."""

    rows: Array
    next: int | None


class Records:
    """Reads and deletes records. `program`: where `reap` is pinned."""

    def __init__(self, tables: Tables, program: Path) -> None:
        self._tables = tables
        self._reap = libbpf.obj_get(program)
        self._bits = {name: bits_of(tables.loaded.maps[name]["value"]) for name in TABLES}

    def close(self) -> None:
        os.close(self._reap)

    def read(self) -> Iterator[Array]:
        """All records, a few thousand rows at a time, each batch of one address family.

        Columns: `word` (the record); `bucket`, `entry`, `ipv6` (its location); `place` (bucket number,
        counted through both tables); `client`, `client_port`, `port` (network byte order, as in the packet);
        `service`; and the fields of the word: `backend`, `front`, `state`, `generation`, `seen` (ticks).
        """
        for name in TABLES:
            for numbers, buckets in self._tables.read(name, _BUCKETS):
                rows = self._rows(name, numbers, buckets)
                if len(rows):
                    yield rows

    @property
    def ways(self) -> int:
        """Entries per bucket."""
        (entries,) = self._tables.loaded.maps[TABLES[0]]["value"]["fields"]
        return int(entries["count"])

    def from_bucket(self, bucket: int) -> RecordRange:
        """Records from a bucket on, at most `_BUCKETS` buckets. Buckets are numbered through both tables."""
        for name in TABLES:
            size = self._tables.entries(name)
            if bucket < size:
                break
            bucket -= size
        else:
            return RecordRange(np.zeros(0, self._row_dtype(TABLES[0])), None)
        count = min(_BUCKETS, size - bucket)
        numbers = np.arange(bucket, bucket + count, dtype=np.uint32)
        rows = self._rows(name, numbers, self._tables.read_range(name, bucket, count))
        behind = self._before(name) + bucket + count
        return RecordRange(rows, behind if behind < sum(map(self._tables.entries, TABLES)) else None)

    def forget(self, rows: Array) -> None:
        """Delete these records, unless they changed since they were read."""
        reaping = self._tables.reaping
        for start in range(0, len(rows), len(reaping)):
            some = rows[start : start + len(reaping)]
            reaping["word"] = 0
            for column in ("bucket", "entry", "ipv6", "word"):
                reaping[column][: len(some)] = some[column]
            libbpf.prog_test_run(self._reap, bytes(64))

    def _rows(self, name: str, numbers: Array, buckets: Array) -> Array:
        entries = buckets["entries"]
        words = buckets.view(np.uint64).reshape(*entries.shape, -1)[..., -1]
        where, which = np.nonzero(words > _BUSY)
        said = entries[where, which]
        rows = np.zeros(len(said), self._row_dtype(name))
        rows["word"], rows["bucket"], rows["entry"] = words[where, which], numbers[where], which
        rows["ipv6"] = name.endswith("6")
        rows["place"] = rows["bucket"] + self._before(name)
        for column in ("client", "client_port", "port"):
            rows[column] = said[column]
        for field, (shift, width) in self._bits[name].items():
            rows[field] = rows["word"] >> np.uint64(shift) & np.uint64((1 << width) - 1)
        rows["service"] = self._tables.fronts.at(rows["front"], "service")
        return rows

    def _before(self, name: str) -> int:
        """Number of buckets in the tables before this one."""
        return sum(map(self._tables.entries, TABLES[: TABLES.index(name)]))

    def _row_dtype(self, name: str) -> list[tuple[Any, ...]]:
        client: tuple[Any, ...] = ("client", "u4", (4,)) if name.endswith("6") else ("client", "u4")
        return [
            ("word", "u8"), ("bucket", "u4"), ("place", "u4"), ("entry", "u2"), ("ipv6", "u2"), client,
            ("client_port", "u2"), ("port", "u2"), ("service", "u4"), *((field, "u4") for field in _FIELDS),
        ]  # fmt: skip


def bits_of(bucket: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Shift and width in bits of each field of a record, from layout.json."""
    (entries,) = bucket["fields"]
    record = next(field for field in entries["type"]["fields"] if field["name"] == "record")
    return {field["name"]: tuple(field["bits"]) for field in record["type"]["fields"]}
