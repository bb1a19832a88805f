# SPDX-License-Identifier: Apache-2.0
"""From two looks at the API's counters to what happens a second. Pure; knows no terminal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Document = dict[str, Any]


@dataclass(frozen=True)
class Rate:
    """A second: of requests, as all counters of a direct-routing director."""

    packets: float = 0.0
    bits: float = 0.0
    connections: float = 0.0

    def __add__(self, other: Rate) -> Rate:
        return Rate(
            self.packets + other.packets, self.bits + other.bits, self.connections + other.connections
        )


@dataclass(frozen=True)
class Snapshot:
    """The API's documents at a time (seconds, monotonic)."""

    at: float
    readiness: Document
    statistics: Document
    services: list[Document]


@dataclass(frozen=True)
class Rates:
    """`backends` by service and name, `verdicts` by reason; `dropped` and `rejected` are sums of those."""

    backends: dict[tuple[str, str], Rate] = field(default_factory=dict)
    verdicts: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> Rate:
        return sum(self.backends.values(), Rate())

    def of_service(self, name: str) -> Rate:
        return sum((rate for key, rate in self.backends.items() if key[0] == name), Rate())

    def of_verdict(self, verdict: str) -> float:
        return sum(rate for reason, rate in self.verdicts.items() if reason.startswith(f"{verdict}_"))


def between(before: Snapshot, after: Snapshot) -> Rates:
    """New counters start at zero; the rate of a counter that was reset is not negative."""
    seconds = max(after.at - before.at, 1e-6)
    earlier = _traffic(before)
    nothing = {"packets": 0, "bytes": 0, "connections": 0}
    backends = {}
    for key, now in _traffic(after).items():
        then = earlier.get(key, nothing)
        packets, octets, connections = (
            max(0, now[counter] - then[counter]) / seconds for counter in ("packets", "bytes", "connections")
        )
        backends[key] = Rate(packets, octets * 8, connections)
    counted = before.statistics["verdicts"]
    verdicts = {
        reason: max(0, count - counted.get(reason, 0)) / seconds
        for reason, count in after.statistics["verdicts"].items()
    }
    return Rates(backends, verdicts)


def _traffic(snapshot: Snapshot) -> dict[tuple[str, str], Document]:
    return {
        (one["name"], each["name"]): each["traffic"] for one in snapshot.services for each in one["backends"]
    }
