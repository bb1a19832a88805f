# SPDX-License-Identifier: Apache-2.0
"""One pass over the connection tables: deletes what has timed out or lost its backend, and counts the rest.

The path counts connections as they come and go, but an entry that the kernel evicts, or that times out, leaves
without a word. So the counts are taken anew here and handed over as corrections; in between they are off by at
most what was evicted or timed out since the last sweep, plus what came during it. Runs in a thread: it must
touch nothing but its tables.

A record that is confirmed moves from pending to connections: read in that order it may be seen twice, but never
missed. A mark that is still needed stays, and who is said to have no connection has none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xdpdirector import clients, schedule
from xdpdirector.clock import Clock
from xdpdirector.tables import Array, Tables

TABLES = ("pending4", "pending6", "connections4", "connections6")


@dataclass(frozen=True)
class SweepResult:
    """By backend index: `active` (with the pending ones), `inactive`, `pending`. `exceptions`: positions in the
    ring at which a record disagrees with the owner, or may."""

    active: Array
    inactive: Array
    pending: Array
    exceptions: Array
    total: int
    deleted: int


def sweep(tables: Tables, clock: Clock) -> SweepResult:
    """Sweep once, and correct the loads."""
    count = tables.entries("backends")
    active, inactive, pending = (np.zeros(count, np.int64) for _ in range(3))
    exceptions = [np.zeros(0, np.int64)]
    total = deleted = 0
    seen_active, seen_inactive = tables.loads["active"].copy(), tables.loads["inactive"].copy()
    for name in TABLES:
        for keys, values in tables.read(name):
            now = clock.now()
            lives = _lives(tables, values, now)
            deleted += tables.delete(name, keys[~lives])
            keys, values = keys[lives], values[lives]
            clients.renew(tables, keys, values, now)
            is_active = ~np.isin(values["state"], _ended(tables))
            active += np.bincount(values["backend"][is_active], minlength=count)
            inactive += np.bincount(values["backend"][~is_active], minlength=count)
            if name.startswith("pending"):
                pending += np.bincount(values["backend"], minlength=count)
            exceptions.append(_exceptions(tables, values))
            total += len(values)
    # What ended during the sweep must not be taken off twice.
    tables.loads["active_correction"] = active - np.minimum(seen_active, tables.loads["active"])
    tables.loads["inactive_correction"] = inactive - np.minimum(seen_inactive, tables.loads["inactive"])
    return SweepResult(active, inactive, pending, np.unique(np.concatenate(exceptions)), total, deleted)


def _ended(tables: Tables) -> list[int]:
    states = tables.enums["connection_state"]
    return [states["CONNECTION_FIN"], states["CONNECTION_CLOSED"]]


def _lives(tables: Tables, values: Array, now: int) -> Array:
    """Not timed out, and of a backend that is still the one it was."""
    idle = (np.uint32(now) - values["seen"]).astype(np.int32)
    timeouts = tables.services["timeouts"][values["service"], values["state"]]
    same = tables.backends["generation"][values["backend"]] == values["generation"]
    present = tables.backends["state"][values["backend"]] != tables.enums["backend_state"]["BACKEND_ABSENT"]
    lives: Array = (idle <= timeouts.astype(np.int64)) & same & present
    return lives


def _exceptions(tables: Tables, values: Array) -> Array:
    """Where a record of a service with a ring disagrees with its slot. A record from before that ring says nothing
    of its slot (its position is 0, or of the former ring): while there is one, all marks of the service stay."""
    entry = tables.services[values["service"]]
    position = values["position"].astype(np.int64)
    start, stop = entry["ring_start"], entry["ring_start"] + entry["ring_slots"]
    inside = (position >= start) & (position < stop)
    owners = schedule.backends_of(tables.ring[position])
    from_before = np.unique(values["service"][(start < stop) & (~inside | (position == 0))])
    marked = [_marked(tables, service) for service in from_before]
    return np.concatenate([position[inside & (owners != values["backend"])], *marked])


def _marked(tables: Tables, service: int) -> Array:
    """The positions of a service's ring that are marked to have exceptions."""
    entry = tables.services[service]
    start, stop = int(entry["ring_start"]), int(entry["ring_start"]) + int(entry["ring_slots"])
    flags = schedule.flags_of(tables.ring[start:stop])
    return start + np.flatnonzero(flags & np.uint64(schedule.EXCEPTIONS))
