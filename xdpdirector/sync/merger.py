# SPDX-License-Identifier: Apache-2.0
"""Puts a peer's records into the connection tables, by the program `merge` (bpf/sync.h).

The newer record of a flow wins. Where two directors chose different backends for one flow, the record whose first
packet came later does; when both came at once, that of the director whose name sorts first. Runs in the thread of
the scanner; knows nothing of sockets.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from xdpdirector import libbpf
from xdpdirector.dataplane.conntrack_gc import ring_exceptions
from xdpdirector.dataplane.maps import Array, Tables
from xdpdirector.sync.merged import Merged
from xdpdirector.sync.names import NOBODY, Translation
from xdpdirector.sync.records import FLOW_OCTETS, OLD
from xdpdirector.sync.scanner import UNKNOWN, Batch, Scanner, TableScanner, ways_of

RUN_EACH = 4  # records in a run of the program: MERGES_EACH in bpf/sync.h
ONE_AT_A_TIME = threading.Lock()
"""The maps `merging` and `merge_at` are the arguments of a run; connection sync and IPVS sync have threads."""


class Merger:
    """`program`: where `merge` is pinned."""

    def __init__(self, tables: Tables, scanner: Scanner, program: Path) -> None:
        self._tables, self._scanner = tables, scanner
        self._program = libbpf.obj_get(program)
        self._merging, self._progress = tables.shared("merging"), tables.shared("merge_at")
        outcomes = tables.enums["merge_outcome"]
        self._outcomes = {name.removeprefix("MERGE_").lower(): number for name, number in outcomes.items()}
        self._ways = {name: ways_of(tables, name) for name in scanner.tables}

    def close(self) -> None:
        os.close(self._program)
        del self._merging, self._progress

    def states(self, theirs: Mapping[str, int]) -> Array:
        """A peer's numbers of connection states to ours, by their names; 0: we have no such state."""
        table = np.zeros(256, np.uint8)
        for name, number in theirs.items():
            if 0 < number < 256:
                table[number] = self._tables.enums["connection_state"].get(name, 0)
        return table

    def merge(
        self, batch: Batch, translation: Translation, states: Array, *, is_first: bool
    ) -> tuple[Merged, Array]:
        """And the positions in the ring of records that disagree with their slot. `states`: see `states`;
        `is_first`: the peer's name sorts before ours."""
        result, table, records = Merged(), self._scanner.tables[batch.table], batch.records
        fronts, backends = translation.fronts[records["front"]], translation.backends[records["backend"]]
        state = states[records["state"]]
        known = (fronts != 0) & (backends != NOBODY) & (state != 0)
        result.unknown = int((~known).sum())
        records, fronts, backends, state = records[known], fronts[known], backends[known], state[known]
        now, ticks = self._scanner.now(), self._scanner.ticks
        words = table.fields.put(
            backend=backends,
            front=fronts,
            state=state,
            generation=self._tables.backends["generation"][backends] & 0xFF,
            seen=ticks.before(records["idle"], now),
        )
        age = records["age"].astype(np.int64)
        born = np.where(age == OLD, UNKNOWN, ticks.before(age, now))
        rows, entries = self._run(table, records["flow"], words, born, result)
        if len(rows):
            result.conflicts += len(rows)
            ours = table.age(entries, now)
            wins = (age[rows] < ours) | ((age[rows] == ours) & is_first)
            rows = rows[wins]
            self._run(table, records["flow"][rows], words[rows], born[rows], result, wins=True)
        return result, self._ring_exceptions(table, records["flow"], fronts, backends)

    def _ring_exceptions(self, table: TableScanner, flows: Array, fronts: Array, backends: Array) -> Array:
        tables = self._tables
        if not tables.services["ring_slots"].any():
            return np.zeros(0, np.int64)
        octets = FLOW_OCTETS[table.name] - 4
        client = np.ascontiguousarray(flows[:, :octets]).view(np.uint32)
        ports = np.ascontiguousarray(flows[:, octets:]).view(np.uint16)
        shape = [("client", "u4", (octets // 4,)) if octets > 4 else ("client", "u4"), ("client_port", "u2"),
                 ("port", "u2"), ("service", "u4"), ("backend", "u4")]  # fmt: skip
        rows = np.zeros(len(flows), shape)
        rows["client"] = client if octets > 4 else client[:, 0]
        rows["client_port"], rows["port"] = ports[:, 0], ports[:, 1]
        rows["service"], rows["backend"] = tables.fronts.at(fronts, "service"), backends
        return ring_exceptions(tables, rows)

    def _run(
        self,
        table: TableScanner,
        flows: Array,
        words: Array,
        born: Array,
        result: Merged,
        *,
        wins: bool = False,
    ) -> tuple[Array, Array]:
        """Which records are in conflict with ours, and where ours stand."""
        rows, entries, room = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], len(self._merging)
        for start in range(0, len(words), room):
            some = slice(start, start + room)
            with ONE_AT_A_TIME:
                merged = self._hand_in(table, flows[some], words[some], wins=wins)
            places = merged["bucket"].astype(np.int64) * self._ways[table.name] + merged["entry"]
            self._count(merged["outcome"], result)
            taken = self._is(merged, "inserted", "updated") & (merged["word"] != 0)
            table.note(places[taken], merged["word"][taken], born[some][taken])
            conflicts = np.flatnonzero(self._is(merged, "conflict"))
            rows.append(conflicts + start)
            entries.append(places[conflicts])
        return np.concatenate(rows), np.concatenate(entries)

    def _hand_in(self, table: TableScanner, flows: Array, words: Array, *, wins: bool) -> Array:
        count, octets = len(words), 16 if table.name.endswith("6") else 4
        merging: Array = self._merging[:count]
        clients = np.zeros((count, 16), np.uint8)
        clients[:, :octets] = flows[:, :octets]
        merging["client"] = clients.view(np.uint32)
        ports = np.ascontiguousarray(flows[:, octets : octets + 4]).view(np.uint16)
        merging["client_port"], merging["port"] = ports[:, 0], ports[:, 1]
        merging["ipv6"], merging["word"], merging["wins"] = octets == 16, words, wins
        self._progress["count"][0], self._progress["next"][0] = count, 0
        libbpf.prog_test_run(self._program, bytes(64), repeat=-(-count // RUN_EACH))
        return merging.copy()

    def _is(self, merged: Array, *outcomes: str) -> Array:
        return np.isin(merged["outcome"], [self._outcomes[each] for each in outcomes])

    def _count(self, outcomes: Array, result: Merged) -> None:
        counts = np.bincount(outcomes, minlength=len(self._outcomes))
        for each in ("inserted", "updated", "kept", "full"):
            setattr(result, each, getattr(result, each) + int(counts[self._outcomes[each]]))
        result.unknown += int(counts[self._outcomes["no_service"]])
