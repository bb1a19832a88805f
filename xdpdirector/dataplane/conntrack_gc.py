# SPDX-License-Identifier: Apache-2.0
"""One pass over the conntrack tables: deletes records that timed out or lost their backend, and counts the
others.

The packet path counts connections when they begin and end, but does not see time-outs. The sweep counts anew
and stores the difference as corrections. Between sweeps the counts are off by at most what timed out since
the last sweep, plus what arrived during it. Runs in a thread, so it must touch nothing but its tables.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xdpdirector.dataplane import persistence, service_plan
from xdpdirector.dataplane.conntrack import Records
from xdpdirector.dataplane.jiffies import Clock
from xdpdirector.dataplane.maps import Array, Tables
from xdpdirector.model.listener import PROTOCOLS


@dataclass(frozen=True)
class SweepResult:
    """Result of a sweep. `active` (including pending), `inactive` and `pending` are arrays by backend index.
    `exceptions`: ring positions where a record disagrees, or may disagree, with the slot's owner. `clients`:
    number of clients with a persistence entry."""

    active: Array
    inactive: Array
    pending: Array
    exceptions: Array
    total: int
    deleted: int
    clients: int


def sweep(tables: Tables, records: Records, clock: Clock) -> SweepResult:
    """Sweep once, and store the corrections in `loads`."""
    count = tables.entries("backends")
    active, inactive, pending = (np.zeros(count, np.int64) for _ in range(3))
    exceptions = [np.zeros(0, np.int64)]
    total = deleted = 0
    running = persistence.Running(tables)
    seen_active, seen_inactive = tables.loads["active"].copy(), tables.loads["inactive"].copy()
    for rows in records.read():
        now = clock.now()
        timed_out, known = _timed_out(tables, rows, now), _is_known(tables, rows)
        lives = ~timed_out & known
        _count_silent(tables, rows[timed_out & known])
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
        # Do not subtract connections twice that ended during the sweep. 32-bit arithmetic: counters may have
        # wrapped.
        ended = np.minimum(tables.loads[name] - seen, np.int32(0))
        tables.loads[f"{name}_correction"] = counted.astype(np.int32) - seen - ended
    remembered = persistence.refresh(tables, running, clock.now())
    return SweepResult(
        active, inactive, pending, _distinct(np.concatenate(exceptions)), total, deleted, remembered
    )


def _distinct(numbers: Array) -> Array:
    """Sorted unique values, as np.unique; that would import numpy.ma (1 MB)."""
    ordered = np.sort(numbers)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if len(ordered) else ordered


def _states(tables: Tables, *names: str) -> list[int]:
    return [tables.enums["connection_state"][f"CONNECTION_{name}"] for name in names]


def _count_silent(tables: Tables, rows: Array) -> None:
    """Count TCP records that timed out, for passive health: see `struct load` in bpf/types.h."""
    states = {
        "unanswered": ("SYN", "REOPENED", "ASSURED_REOPENED"),
        "idle": ("ESTABLISHED", "USED_ESTABLISHED", "ASSURED_ESTABLISHED"),
    }
    rows = rows[tables.fronts.at(rows["front"], "protocol") == PROTOCOLS["tcp"]]
    for field, names in states.items():
        backends = rows["backend"][np.isin(rows["state"], _states(tables, *names))]
        if len(backends):
            np.add.at(tables.loads[field], backends, 1)


def _timed_out(tables: Tables, rows: Array, now: int) -> Array:
    timeouts = tables.services["timeouts"][rows["service"], rows["state"]]
    timed_out: Array = idle_ticks(tables, rows["seen"], now) > timeouts.astype(np.int64)
    return timed_out


def _is_known(tables: Tables, rows: Array) -> Array:
    """True for records whose front is in use, and whose backend index was not reassigned."""
    enums = tables.enums
    same = (tables.backends["generation"][rows["backend"]] & 0xFF) == rows["generation"]
    present = tables.backends["state"][rows["backend"]] != enums["backend_state"]["BACKEND_ABSENT"]
    serving = tables.fronts.at(rows["front"], "use") == enums["front_use"]["FRONT_SERVING"]
    known: Array = same & present & serving
    return known


def idle_ticks(tables: Tables, seen: Array, now: int) -> Array:
    """Ticks since `seen`; `now` in jiffies. Negative when a packet arrived after `now` was read."""
    numbers = tables.enums["tick_numbers"]
    spare = 32 - numbers["SEEN_BITS"]
    passed = (np.uint32(now >> numbers["TICK_SHIFT"]) - seen) << np.uint32(spare)
    idle: Array = passed.astype(np.int32) >> spare
    return idle


def ring_exceptions(tables: Tables, rows: Array) -> Array:
    """Ring positions of records that disagree with the owner of their slot, for services with a ring. Uses
    the columns `client`, `client_port`, `port`, `service` and `backend` of `rows`."""
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
    disagrees: Array = position[service_plan.backends_of(tables.ring.at(position)) != rows["backend"]]
    return disagrees
