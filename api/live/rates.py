# SPDX-License-Identifier: Apache-2.0
"""Counters of two moments become rates. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from xdpdirector.model.status import Traffic, Vitals

NO_DROPS: Mapping[str, int] = MappingProxyType({})
_DROPS = ("drop", "reject")


@dataclass(frozen=True)
class Counts:
    """What was counted of one thing; as rates, what a second of it was."""

    connections: float = 0
    packets: float = 0
    bytes: float = 0
    dropped: float = 0

    @classmethod
    def of(cls, traffic: Traffic, dropped: Mapping[str, int] = NO_DROPS) -> Counts:
        """`dropped`: packets that were dropped or rejected, by reason."""
        return cls(traffic.connections, traffic.packets, traffic.bytes, sum(dropped.values()))

    @classmethod
    def of_all(cls, vitals: Vitals) -> Counts:
        """Of all services, with what is for none."""
        return cls.of(
            vitals.traffic, {name: n for name, n in vitals.verdicts.items() if name.startswith(_DROPS)}
        )

    def since(self, before: Counts | None, seconds: float) -> Counts | None:
        """Rates by second; None if unknown. Counters that went back were reset."""
        if before is None or seconds <= 0:
            return None
        return Counts(
            *(max(0.0, (now - then) / seconds) for now, then in zip(self.row(), before.row(), strict=True))
        )

    def row(self) -> tuple[float, ...]:
        return self.connections, self.packets, self.bytes, self.dropped


def short(rate: float) -> float | int:
    return round(rate) if rate >= 100 else round(rate, 1)
