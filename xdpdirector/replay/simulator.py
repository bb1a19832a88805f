# SPDX-License-Identifier: Apache-2.0
"""A data plane without a director: configured, run on a capture's frames, and swept as the capture's clock says.

Knows maps and plans, and what the daemon does with them while packets flow; nothing of files or of who asks.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xdpdirector.control.reconciler import UPKEEP_APART
from xdpdirector.dataplane.conntrack import Records
from xdpdirector.dataplane.conntrack_gc import sweep
from xdpdirector.dataplane.maps import Array, Tables
from xdpdirector.dataplane.writer import Dataplane
from xdpdirector.loader.layout import Loaded
from xdpdirector.model import Configuration
from xdpdirector.net import own_macs
from xdpdirector.replay.assumptions import Premises
from xdpdirector.replay.batch import Runnable
from xdpdirector.replay.clock import CaptureClock, jiffies
from xdpdirector.replay.engine import Engine
from xdpdirector.replay.outcomes import Decisions, Names, codes

LONG_AGO = -7 * 86400.0  # seconds: when the services began
_REMEMBERED = ("clients", "newcomers", "fragments", "sources")
_SECRETS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)  # odd; the same capture shall fill the same buckets


class Simulator:
    """Close it, or use it as a context manager."""

    def __init__(self, loaded: Loaded) -> None:
        self._clock = CaptureClock()
        self.engine = Engine(loaded)
        self._tables = Tables(loaded)
        self._records = Records(self._tables, loaded.program.with_name("reap"))
        self._plane = Dataplane(self._tables, self._clock)
        self._swept = 0.0
        self._seconds = 0.0

    def __enter__(self) -> Simulator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._records.close()
        self._tables.close()
        self.engine.close()

    def begin(self, configuration: Configuration, premises: Premises) -> None:
        """As a director that has run with it for long, and had no packet yet."""
        for name in self._plane.services():
            self._plane.remove(name)
        self._forget()
        self._sweep(0.0)
        self._tables.services["multipliers"] = _SECRETS
        own_macs.write(self._tables.stations, premises.own)
        self._bring(configuration, premises, LONG_AGO)

    def change(self, configuration: Configuration, premises: Premises) -> None:
        """Bring it to another configuration now, as a running director does: connections go on as they can."""
        self._bring(configuration, premises, self._seconds)

    def run(self, given: Runnable, seconds: Array, left: list[bytes] | None = None) -> Decisions:
        """Frames in their order. `seconds` of the whole batch that they are of, since the capture began. Each of
        `given` as it left goes to `left`, when that is asked for."""
        times = seconds[given.places]
        outcomes = [
            self.engine.run(given.frames[part], given.lengths[part], jiffies(times[part]), left)
            for part in self._parts(times)
        ]
        noted = np.concatenate(outcomes) if outcomes else np.zeros(0, self.engine.outcome)
        found = codes(noted, self._tables.enums["fact"]["FACT_SERVICE"], given.places, len(seconds))
        return Decisions(found, self._names())

    def _parts(self, times: Array) -> Iterator[slice]:
        """Stretches without a sweep; the sweeps are done in between."""
        start = 0
        while start < len(times):
            if times[start] >= self._swept + UPKEEP_APART:
                self._sweep(float(times[start]))
            stop = int(np.searchsorted(times, self._swept + UPKEEP_APART))
            stop = min(stop, start + self.engine.most)
            yield slice(start, stop)
            self._set_time(float(times[stop - 1]))
            start = stop

    def _sweep(self, seconds: float) -> None:
        """See `RealPlane.sweep`."""
        self._set_time(seconds)
        resting = self._plane.fronts.resting()
        result = sweep(self._tables, self._records, self._clock)
        self._plane.settle(result.exceptions, seconds)
        self._plane.members.even_turns()
        self._plane.fronts.release(resting)
        self._swept = seconds

    def _set_time(self, seconds: float) -> None:
        self._seconds = seconds
        self._clock.at = int(jiffies(np.array(seconds)))

    def _bring(self, configuration: Configuration, premises: Premises, now: float) -> None:
        plans = premises.plans(configuration)
        for name in self._plane.services() - plans.keys():
            self._plane.remove(name)
        for each in plans.values():
            self._plane.apply(each, now)
        self._plane.deny({entry.prefix for entry in configuration.guard.deny})

    def _forget(self) -> None:
        """Connections, clients and what was paid for: as if no packet had ever come."""
        for rows in self._records.read():
            self._records.forget(rows)
        for name in _REMEMBERED:
            for keys in [keys.copy() for keys, _ in self._tables.read(name)]:
                self._tables.delete(name, keys)
        for kind in range(self._tables.entries("allowances")):
            self._tables.per_cpu_zero("allowances", kind)
        self._tables.resets[:] = 0

    def _names(self) -> Names:
        indices, reasons = self._plane.indices, self._tables.enums["reason"]
        return Names(
            reasons={number: name.lower() for name, number in reasons.items()},
            services={index: name for name, index in indices.services.items()},
            backends={index: key for key, index in indices.backends.items()},
        )
