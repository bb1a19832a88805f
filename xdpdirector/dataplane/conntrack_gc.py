# SPDX-License-Identifier: Apache-2.0
"""One pass over the table of connections: deletes what has timed out or lost its backend, and counts the rest.

The path counts connections as they come and go, but one that times out leaves without a word. So the counts are
taken anew here and handed over as corrections; in between they are off by at most what timed out since the last
sweep, plus what came during it. Runs in a thread: it must touch nothing but its tables.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xdpdirector.dataplane import persistence, service_plan
from xdpdirector.dataplane.conntrack import Records
from xdpdirector.dataplane.jiffies import Clock
from xdpdirector.dataplane.maps import Array, Tables


@dataclass(frozen=True)
class SweepResult:
    """By backend index: `active` (with the pending ones), `inactive`, `pending`. `exceptions`: positions in the
    ring at which a record disagrees with the owner, or may. `clients`: who keep their backend."""

    active: Array
    inactive: Array
    pending: Array
    exceptions: Array
    total: int
    deleted: int
    clients: int


def sweep(tables: Tables, records: Records, clock: Clock) -> SweepResult:
    """Sweep once, and correct the loads."""
    count = tables.entries("backends")
    active, inactive, pending = (np.zeros(count, np.int64) for _ in range(3))
    exceptions = [np.zeros(0, np.int64)]
    total = deleted = 0
    running = persistence.Running(tables)
    seen_active, seen_inactive = tables.loads["active"].copy(), tables.loads["inactive"].copy()
    for rows in records.read():
        now = clock.now()
        lives = _lives(tables, rows, now)
        records.forget(rows[~lives])
        deleted += int((~lives).sum())
        rows = rows[lives]
        jiffies_a_tick = 1 << tables.enums["tick_numbers"]["TICK_SHIFT"]
        running.note(rows, idle_ticks(tables, rows["seen"], now).astype(np.int64) * jiffies_a_tick, now)
        is_active = ~np.isin(rows["state"], _states(tables, "FIN", "CLOSED", "ASSURED_FIN", "ASSURED_CLOSED"))
        is_pending = np.isin(rows["state"], _states(tables, "SYN", "MIDSTREAM", "DATAGRAM"))
        active += np.bincount(rows["backend"][is_active], minlength=count)
        inactive += np.bincount(rows["backend"][~is_active], minlength=count)
        pending += np.bincount(rows["backend"][is_pending], minlength=count)
        exceptions.append(ring_exceptions(tables, rows))
        total += len(rows)
    for name, counted, seen in (("active", active, seen_active), ("inactive", inactive, seen_inactive)):
        # What ended during the sweep must not be taken off twice. In 32 bits: what is counted may have wrapped.
        ended = np.minimum(tables.loads[name] - seen, np.int32(0))
        tables.loads[f"{name}_correction"] = counted.astype(np.int32) - seen - ended
    remembered = persistence.tend(tables, running, clock.now())
    return SweepResult(
        active, inactive, pending, _distinct(np.concatenate(exceptions)), total, deleted, remembered
    )


def _distinct(numbers: Array) -> Array:
    """As np.unique does it, without the megabyte of masked arrays that comes with that."""
    ordered = np.sort(numbers)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if len(ordered) else ordered


def _states(tables: Tables, *names: str) -> list[int]:
    return [tables.enums["connection_state"][f"CONNECTION_{name}"] for name in names]


def _lives(tables: Tables, rows: Array, now: int) -> Array:
    """Not timed out, of a listener that is there, and of a backend that is still the one it was."""
    enums = tables.enums
    timeouts = tables.services["timeouts"][rows["service"], rows["state"]]
    same = (tables.backends["generation"][rows["backend"]] & 0xFF) == rows["generation"]
    present = tables.backends["state"][rows["backend"]] != enums["backend_state"]["BACKEND_ABSENT"]
    serving = tables.fronts["use"][rows["front"]] == enums["front_use"]["FRONT_SERVING"]
    lives: Array = (
        (idle_ticks(tables, rows["seen"], now) <= timeouts.astype(np.int64)) & same & present & serving
    )
    return lives


def idle_ticks(tables: Tables, seen: Array, now: int) -> Array:
    """Ticks since then; `now` in jiffies. Below zero when a packet came meanwhile."""
    numbers = tables.enums["tick_numbers"]
    spare = 32 - numbers["SEEN_BITS"]
    passed = (np.uint32(now >> numbers["TICK_SHIFT"]) - seen) << np.uint32(spare)
    idle: Array = passed.astype(np.int32) >> spare
    return idle


def ring_exceptions(tables: Tables, rows: Array) -> Array:
    """Positions in the ring of records of a service with a ring that disagree with their slot. Of `rows` the
    columns `client`, `client_port`, `port`, `service` and `backend` are looked at."""
    rows = rows[tables.services["ring_slots"][rows["service"]] > 0]
    if not len(rows):
        return np.zeros(0, np.int64)
    entry, flag = tables.services[rows["service"]], tables.enums["service_flags"]["SERVICE_HASH_ADDRESS"]
    slots = service_plan.ring_slots_of(
        rows["client"],
        rows["client_port"],
        rows["port"],
        hashes_port=(entry["flags"] & flag) == 0,
        slots=entry["ring_slots"],
    )
    position = entry["ring_start"].astype(np.int64) + slots.astype(np.int64)
    disagrees: Array = position[service_plan.backends_of(tables.ring[position]) != rows["backend"]]
    return disagrees
