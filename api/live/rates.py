# SPDX-License-Identifier: Apache-2.0
"""Counters of two moments become rates. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from xdpdirector.model.status import Refused, Traffic


@dataclass(frozen=True)
class Counts:
    """What was counted of one thing; as rates, what a second of it was."""

    connections: float = 0
    packets: float = 0
    bytes: float = 0
    refused: float = 0

    @classmethod
    def of(cls, traffic: Traffic, refused: Refused | None = None) -> Counts:
        over = refused.by_service + refused.by_source if refused else 0
        return cls(traffic.connections, traffic.packets, traffic.bytes, over)

    def since(self, before: Counts | None, seconds: float) -> Counts | None:
        """Rates by second; None if unknown. Counters that went back were reset."""
        if before is None or seconds <= 0:
            return None
        return Counts(
            *(max(0.0, (now - then) / seconds) for now, then in zip(self.row(), before.row(), strict=True))
        )

    def row(self) -> tuple[float, ...]:
        return self.connections, self.packets, self.bytes, self.refused


def short(rate: float) -> float | int:
    return round(rate) if rate >= 100 else round(rate, 1)
