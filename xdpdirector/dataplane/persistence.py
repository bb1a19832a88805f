# SPDX-License-Identifier: Apache-2.0
"""Persistence entries in the table `clients`. Nothing evicts them in the kernel: the sweep does.

An entry stays as long as the client has a live conntrack record, and for the service's persistence time after
its last new connection. When the table is nearly full, entries are evicted early to make room, in this order:
clients whose connections only had packets in quick succession and none since (as in a flood from spoofed
addresses), then clients without a live connection; within a class the longest idle. Never evicted: clients
with a live connection seen at two moments at least PROOF apart.

Knows the tables `clients` and connections only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from xdpdirector.dataplane.maps import Array, Tables, dtype_of

RUNNING = ("ESTABLISHED", "UDP", "FIN", "USED_ESTABLISHED", "USED_UDP", "ASSURED_ESTABLISHED", "ASSURED_UDP",
"ASSURED_FIN")  # fmt: skip
CROWDED = 7 / 8
"""Fill level at which eviction starts. The rest must suffice for new clients until the next sweep."""
_OVERTAKING = 1024  # jiffies: see MAX_CLOCK_SKEW in bpf/backend.h
_FRESH = 8  # an entry is not renewed within this fraction of the persistence time


class Running:
    """Collects the clients of live connections, one batch of records at a time."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._key = dtype_of(tables.loaded.maps["clients"]["key"])
        self._noted: list[Array] = []

    def note(self, rows: Array, idle: Array, now: int) -> None:
        """`rows`: live records of one address family (`Records.read`). `idle`: jiffies since their last
        packet."""
        flag = self._tables.enums["service_flags"]["SERVICE_PERSISTENT"]
        states = self._tables.enums["connection_state"]
        services = self._tables.services[rows["service"]]
        running = [states[f"CONNECTION_{name}"] for name in RUNNING]
        kept = ((services["flags"] & flag) != 0) & np.isin(rows["state"], running)
        if not kept.any():
            return
        rows, services = rows[kept], services[kept]
        keys = np.zeros(len(rows), self._key)
        if rows["client"].ndim == 2:
            keys["address"], keys["ipv6"] = rows["client"] & services["client_mask6"], 1
        else:
            keys["address"][:, 0] = rows["client"] & services["client_mask"]
        keys["service"] = rows["service"]
        noted = np.zeros(len(rows), [("who", f"S{self._key.itemsize + 4}"), ("seen", "i8")])
        noted["who"] = _names(keys, rows["backend"])
        noted["seen"] = (now - idle[kept]) & 0xFFFFFFFF
        self._noted.append(_latest(noted))

    def seen(self, keys: Array, backends: Array) -> Array:
        """When a live connection of each client to this backend had its last packet, in jiffies; -1 if it has
        none."""
        self._noted = [_latest(np.concatenate(self._noted))] if self._noted else []
        result = np.full(len(keys), -1, np.int64)
        for noted in self._noted:
            names = _names(keys, backends)
            places = np.minimum(np.searchsorted(noted["who"], names), len(noted) - 1)
            found = noted["who"][places] == names
            result[found] = noted["seen"][places[found]]
        return result


def _names(keys: Array, backends: Array) -> Array:
    """Key and backend as sortable bytes."""
    joined = np.zeros(len(keys), [("key", keys.dtype), ("backend", "u4")])
    joined["key"], joined["backend"] = keys, backends
    names: Array = joined.view(f"S{joined.dtype.itemsize}")
    return names


def _latest(noted: Array) -> Array:
    """The latest row per key, sorted by key."""
    ordered = noted[np.lexsort((noted["seen"], noted["who"]))]
    latest: Array = ordered[np.append(ordered["who"][1:] != ordered["who"][:-1], True)]
    return latest


@dataclass(frozen=True)
class _Piece:
    """A batch of entries. `seen`: see `Running.seen`. `worth`: eviction priority, highest first; 0: never."""

    keys: Array
    values: Array
    idle: Array
    seen: Array
    proven: Array
    is_over: Array
    worth: Array


def refresh(tables: Tables, running: Running, now: int) -> int:
    """Renew entries of clients with live connections, delete expired ones, and evict more when the table is
    nearly full. Returns the number of entries left. `now` in jiffies."""
    left = 0
    for piece in _pieces(tables, running, now):
        time = tables.services["persistence"][piece.keys["service"]].astype(np.int64)
        is_due = (piece.idle > time // _FRESH) | (piece.proven & (piece.values["proven"] == 0))
        for place in np.nonzero(~piece.is_over & (piece.seen >= 0) & is_due)[0]:
            tables.renew_client(
                piece.keys[place].tobytes(),
                int(piece.values["backend"][place]),
                now,
                proven=bool(piece.proven[place]),
            )
        left += len(piece.keys) - _free(tables, piece, piece.is_over)
    surplus = left - int(tables.entries("clients") * CROWDED)
    if surplus > 0:
        left -= _make_room(tables, running, now, surplus)
    return left


def _make_room(tables: Tables, running: Running, now: int, surplus: int) -> int:
    worths = np.concatenate([piece.worth.copy() for piece in _pieces(tables, running, now)])
    worths = worths[worths > 0]
    if not len(worths):
        return 0
    surplus = min(surplus, len(worths))
    bound = np.partition(worths, -surplus)[-surplus]
    alike = surplus - int((worths > bound).sum())  # how many to evict of those exactly at the bound
    freed = 0
    for piece in _pieces(tables, running, now):
        which = piece.worth > bound
        some = np.nonzero(piece.worth == bound)[0][:alike]
        which[some] = True
        alike -= len(some)
        freed += _free(tables, piece, which)
    return freed


def _free(tables: Tables, piece: _Piece, which: Array) -> int:
    return sum(
        tables.forget_client(piece.keys[place].tobytes(), int(piece.values["seen"][place]))
        for place in np.nonzero(which)[0]
    )


def _pieces(tables: Tables, running: Running, now: int) -> Iterator[_Piece]:
    enums, present = tables.enums, np.uint32(now & 0xFFFFFFFF)
    proof = enums["client_numbers"]["PROOF"]
    for keys, values in tables.read("clients"):
        services, backends = tables.services[keys["service"]], tables.backends[values["backend"]]
        idle = _since(values["seen"], present)
        seen = running.seen(keys, values["backend"])
        age = _since(values["since"], present)
        silent = np.where(seen < 0, age, _since(seen.astype(np.uint32), present))
        proven = (values["proven"] != 0) | ((seen >= 0) & (age - silent >= proof))
        is_lost = (
            ((services["flags"] & enums["service_flags"]["SERVICE_PERSISTENT"]) == 0)
            | (backends["generation"] != values["generation"])
            | (backends["state"] == enums["backend_state"]["BACKEND_ABSENT"])
        )
        is_over = is_lost | ((seen < 0) & (idle > services["persistence"].astype(np.int64)))
        rank = np.select(
            [~proven & ((seen < 0) | (age >= 2 * proof)), seen < 0, ~proven], [3, 2, 1], 0
        )  # third class: new clients, not proven yet
        worth = np.where(rank == 0, 0, (rank.astype(np.int64) << 33) + np.clip(idle, 0, None) + 1)
        yield _Piece(keys, values, idle, seen, proven, is_over, worth)


def _since(then: Any, now: Any) -> Array:
    """Jiffies between two 32-bit times, as bpf/backend.h `has_elapsed`."""
    passed: Array = (now - then + np.uint32(_OVERTAKING)).astype(np.int64) - _OVERTAKING
    return passed
