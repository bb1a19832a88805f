# SPDX-License-Identifier: Apache-2.0
"""Slots of rings in flux (`mh`, `sh`): whom they had before, for a peer that did not see the change.

Flows from before a change may have no record yet; only the slot says where they run. Flows that began since have
records on directors where it is in flux, and none where it is at rest: so it has to end everywhere at the same
time, and a slot whose former backend is gone is told, too. Knows the ring map alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xdpdirector.dataplane import service_plan
from xdpdirector.dataplane.maps import Array, Tables
from xdpdirector.dataplane.service_plan import FLUX, NO_BACKEND

TABLE = "flux"
MOST_LEFT = (1 << 32) - 1


def wire_type() -> np.dtype[Any]:
    """A slot, in network byte order. Numbers are the sender's; `before` is none's where that backend is gone.
    `left`: milliseconds until flux ends."""
    return np.dtype(
        [("service", ">u2"), ("slot", ">u4"), ("backend", ">u2"), ("before", ">u2"), ("left", ">u4")]
    )


def read(tables: Tables, left: Callable[[int], float]) -> Array:
    """All slots that have passed from one backend to another, and are in flux still. `left`: seconds until it ends,
    by number of the service."""
    found = [np.zeros(0, wire_type())]
    for service in np.flatnonzero(tables.services["ring_slots"]).tolist():
        entry = tables.services[service]
        start = int(entry["ring_start"])
        live = tables.ring[start : start + int(entry["ring_slots"])]
        words = live.copy()  # the loop may change them meanwhile
        owners, before = service_plan.backends_of(words), service_plan.before_of(words)
        in_flux = (service_plan.flags_of(words) & np.uint64(FLUX)) != 0
        slots = np.flatnonzero(in_flux & (before != owners) & (owners != NO_BACKEND))
        records = np.zeros(len(slots), wire_type())
        records["service"], records["slot"] = service, slots
        records["backend"], records["before"] = owners[slots], before[slots]
        records["left"] = min(max(0, round(1000 * left(service))), MOST_LEFT)
        found.append(records)
    return np.concatenate(
        found, dtype=wire_type()
    )  # by itself it would make the processor's byte order of it
