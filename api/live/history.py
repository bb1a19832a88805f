# SPDX-License-Identifier: Apache-2.0
"""Rates of the last quarter of an hour. They are kept also without a viewer, so that a page begins with them.

Knows counters, no HTTP.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass
from typing import Any

from xdpdirector.api.live.rates import Counts, short
from xdpdirector.model.status import ServiceCounters, Vitals

INTERVAL = 10.0  # seconds
LENGTH = 90  # intervals
MOST_SERVICES = 1000


@dataclass
class HistoryEntry:
    """The counters of one moment."""

    moment: float
    at: float
    totals: Counts
    services: ServiceCounters | None = None


class History:
    """Of one director. `moment`: monotonic seconds; `at`: seconds since 1970."""

    def __init__(self) -> None:
        self._entries: deque[HistoryEntry] = deque(maxlen=LENGTH + 1)

    def add(self, moment: float, at: float, vitals: Vitals, services: ServiceCounters) -> None:
        """Costs little: it is done for ever, with thousands of services, and mostly nobody looks."""
        few = services if len(services.names) <= MOST_SERVICES else None
        self._entries.append(HistoryEntry(moment, at, Counts.of_all(vitals), few))

    def document(self) -> dict[str, Any]:
        """Rates of the last quarter of an hour, ten seconds each, the latest last; null where nothing was kept."""
        kept = list(self._entries)
        pairs = list(itertools.pairwise(kept))
        counted = [each.services.rows() if each.services else {} for each in kept]
        seconds = [after.moment - before.moment for before, after in pairs]
        return {
            "step": INTERVAL,
            "at": [round(after.at, 1) for _, after in pairs],
            "totals": _columns(
                [
                    after.totals.since(before.totals, apart)
                    for (before, after), apart in zip(pairs, seconds, strict=True)
                ]
            ),
            "services": {
                name: _columns(
                    [
                        Counts(*after[name]).since(Counts(*before[name]), apart)
                        if name in before and name in after
                        else None
                        for (before, after), apart in zip(itertools.pairwise(counted), seconds, strict=True)
                    ]
                )
                for name in (counted[-1] if counted else ())
            },
        }


def _columns(rates: list[Counts | None]) -> dict[str, list[float | int | None]]:
    names = ("connections", "packets", "bytes", "dropped")
    return {
        name: [None if each is None else short(each.row()[place]) for each in rates]
        for place, name in enumerate(names)
    }
