# SPDX-License-Identifier: Apache-2.0
"""Copies connections through the program `adopt`, because the new table may have other buckets, and counts those
that do not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from xdpdirector import libbpf
from xdpdirector.dataplane.conntrack import bits_of
from xdpdirector.dataplane.maps import Array, Tables
from xdpdirector.dataplane.migration.fates import obstacle
from xdpdirector.dataplane.migration.map_kinds import (
    CONNECTIONS,
)
from xdpdirector.dataplane.migration.map_reader import flows
from xdpdirector.loader.layout import Loaded

_NOTHING_TO_LOSE = {"CONNECTION_CLOSED", "CONNECTION_SYN", "CONNECTION_MIDSTREAM", "CONNECTION_DATAGRAM"}
"""States of flows with a single packet, or ended by a RST: no loss if dropped."""
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_ONCE = {"CONNECTION_ESTABLISHED": "CONNECTION_MIDSTREAM", "CONNECTION_UDP": "CONNECTION_DATAGRAM"}
"""States that older layouts combined with a `pending` bit, for flows with a single packet."""


@dataclass(frozen=True)
class Adopted:
    """`records`: number of records passed to `adopt`. `running`: by table, the `_numbers` of connections that
    must not be lost."""

    records: int
    running: Mapping[str, Array]


def adopt(old: Loaded, new: Loaded) -> Adopted:
    """Copy every flow of the old table that the new table does not have. `complete` copies those that arrive
    meanwhile."""
    total, running = 0, {}
    with ExitStack() as stack:
        tables = stack.enter_context(Tables(new))
        program = stack.enter_context(libbpf.opened(new.program.with_name("adopt")))
        for name in sorted(CONNECTIONS):
            if obstacle(old, new, name):
                continue
            numbers = [np.zeros(0, np.uint64)]
            for rows in flows(old, name):
                words = translated(old, new, name, rows["word"])
                _hand_in(tables, rows["entry"], words, lambda: libbpf.prog_test_run(program, bytes(64)))
                total += len(rows)
                numbers.append(_numbers(old, name, rows[_running(old, name, rows)]))
            running[name] = np.concatenate(numbers)
    return Adopted(total, running)


def adopt_afresh(old: Loaded, new: Loaded) -> dict[str, int]:
    """Clear the new tables, which no packet sees, and copy all flows; returns by table how many connections
    did not fit. Without clearing, records of an earlier trial would be taken for the new program's own."""
    with Tables(new) as tables:
        for name in CONNECTIONS:
            tables.clear(name)
    return unplaced(adopt(old, new), new)


def unplaced(adopted: Adopted, new: Loaded) -> dict[str, int]:
    """By table: copied connections that are missing in the new table."""
    found = {}
    for name, wanted in adopted.running.items():
        there = [_numbers(new, name, rows) for rows in flows(new, name)]
        found[name] = int((~np.isin(wanted, np.concatenate([np.zeros(0, np.uint64), *there]))).sum())
    return found


def translated(old: Loaded, new: Loaded, name: str, words: Array) -> Array:
    """The records in the new layout: fields moved to their new bits, states translated by name."""
    before, after = (bits_of(each.maps[name]["value"]) for each in (old, new))
    result = np.zeros(len(words), np.uint64)
    for field, (shift, width) in after.items():
        value = _field(words, before[field])
        if field == "state":
            pending = _field(words, before["pending"]) if "pending" in before else np.zeros_like(words)
            value = _states(old, new)[value, pending]
        result |= (value & np.uint64((1 << width) - 1)) << np.uint64(shift)
    return result


def _field(words: Array, bits: tuple[int, int]) -> Array:
    shift, width = bits
    value: Array = words >> np.uint64(shift) & np.uint64((1 << width) - 1)
    return value


def _states(old: Loaded, new: Loaded) -> Array:
    """New state number by [old number, pending]. 0, an unused record, if the state no longer exists."""
    numbers = new.enums["connection_state"]
    table = np.zeros((1 << 8, 2), np.uint64)
    for name, number in old.enums["connection_state"].items():
        table[number] = numbers.get(name, 0), numbers.get(_ONCE.get(name, name), 0)
    return table


def _running(loaded: Loaded, name: str, rows: Array) -> Array:
    """True for connections that must not be lost: with more than one packet, and not ended by a RST."""
    bits, numbers = bits_of(loaded.maps[name]["value"]), loaded.enums["connection_state"]
    states = _field(rows["word"], bits["state"])
    idle = np.isin(states, [numbers[state] for state in _NOTHING_TO_LOSE if state in numbers])
    if "pending" in bits:
        idle |= _field(rows["word"], bits["pending"]) != 0
    running: Array = ~idle
    return running


def _numbers(loaded: Loaded, name: str, rows: Array) -> Array:
    """A hash that identifies each flow."""
    if not len(rows):
        return np.zeros(0, np.uint64)
    entries = rows["entry"]
    number = _field(rows["word"], bits_of(loaded.maps[name]["value"])["front"])
    words = entries["client"].reshape(len(rows), -1).astype(np.uint64)
    ports = entries["client_port"].astype(np.uint64) << np.uint64(16) | entries["port"]
    for word in (*words.T, ports):
        number = (number ^ number >> np.uint64(29) ^ word) * _FACTOR
    return number


def _hand_in(tables: Tables, entries: Array, words: Array, run: Callable[[], object]) -> None:
    adopting = tables.adopting
    is_ipv6 = entries["client"].ndim == 2
    for start in range(0, len(entries), len(adopting)):
        some = entries[start : start + len(adopting)]
        adopting["word"] = 0
        adopting["client"] = 0
        if is_ipv6:
            adopting["client"][: len(some)] = some["client"]
        else:
            adopting["client"][: len(some), 0] = some["client"]
        adopting["client_port"][: len(some)], adopting["port"][: len(some)] = (
            some["client_port"],
            some["port"],
        )
        adopting["ipv6"] = is_ipv6
        adopting["word"][: len(some)] = words[start : start + len(some)]
        run()
