# SPDX-License-Identifier: Apache-2.0
"""Persistence in the table `clients`, which forgets nobody by itself: the sweep does.

A client's place lasts as long as a recorded connection of its runs, and the service's time beyond its last new one.
When nearly all room is taken, places go before their time, so that the next clients find some: first of those whose
connections have shown two packets at once and nothing since, as a flood from made-up addresses does; then of those
without a running connection; of each kind the longest idle first. Never of a client with a running connection that
was seen at two moments some seconds apart.

Knows the tables `clients` and connections, nothing else.
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
"""Of the room. What is left has to do for the clients that come until the next sweep."""
_OVERTAKING = 1024  # jiffies: see MAX_CLOCK_SKEW in bpf/backend.h
_FRESH = 8  # a place is not renewed within this part of the service's time


class Running:
    """The clients of running connections, noted a piece of the table at a time."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._key = dtype_of(tables.loaded.maps["clients"]["key"])
        self._noted: list[Array] = []

    def note(self, rows: Array, idle: Array, now: int) -> None:
        """`rows`: living records of one family (`Records.read`); `idle`: jiffies since their last packets."""
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
        """When a running connection of each of these clients, with this backend, showed its last packet, in
        jiffies; -1: there is none."""
        self._noted = [_latest(np.concatenate(self._noted))] if self._noted else []
        result = np.full(len(keys), -1, np.int64)
        for noted in self._noted:
            names = _names(keys, backends)
            places = np.minimum(np.searchsorted(noted["who"], names), len(noted) - 1)
            found = noted["who"][places] == names
            result[found] = noted["seen"][places[found]]
        return result


def _names(keys: Array, backends: Array) -> Array:
    """Key and backend as bytes that can be ordered."""
    joined = np.zeros(len(keys), [("key", keys.dtype), ("backend", "u4")])
    joined["key"], joined["backend"] = keys, backends
    names: Array = joined.view(f"S{joined.dtype.itemsize}")
    return names


def _latest(noted: Array) -> Array:
    """One of each, in order: the one that was seen last."""
    ordered = noted[np.lexsort((noted["seen"], noted["who"]))]
    latest: Array = ordered[np.append(ordered["who"][1:] != ordered["who"][:-1], True)]
    return latest


@dataclass(frozen=True)
class _Piece:
    """Some of the table's entries. `seen`: of a running connection, as `Running.seen` says; `worth`: who goes first
    when room is short, the highest first; 0: nobody."""

    keys: Array
    values: Array
    idle: Array
    seen: Array
    proven: Array
    is_over: Array
    worth: Array


def tend(tables: Tables, running: Running, now: int) -> int:
    """Renew the places of running connections, free those whose time is over, and more where there is little room.
    How many are left. `now` in jiffies."""
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
    alike = surplus - int((worths > bound).sum())  # so many of those that are worth just that
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
        )  # of the third kind: it has just come
        worth = np.where(rank == 0, 0, (rank.astype(np.int64) << 33) + np.clip(idle, 0, None) + 1)
        yield _Piece(keys, values, idle, seen, proven, is_over, worth)


def _since(then: Any, now: Any) -> Array:
    """Jiffies between two moments in 32 bits, as bpf/backend.h `has_elapsed` has them."""
    passed: Array = (now - then + np.uint32(_OVERTAKING)).astype(np.int64) - _OVERTAKING
    return passed
