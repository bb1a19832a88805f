# SPDX-License-Identifier: Apache-2.0
"""The weights for the data plane: the operator's weights, times the share that each backend gets now. Pure.

The plane knows whole numbers, and a part of 1 would be 0 or 1; so when some backend gets a part, the weights of all
are made larger alike, which most schedulers do not notice: they compare weights with each other. Those in
`COUNTING` compare them with connections, and take them as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

from xdpdirector.model import Scheduler

COUNTING = frozenset({Scheduler.OVF, Scheduler.LBLC, Scheduler.LBLCR})
LARGEST = 65535
FINENESS = 100
RING_FINENESS = 10
"""With a ring, shares are rounded to tenths, as each change moves slots."""


def effective(
    scheduler: Scheduler, weights: Mapping[str, int], shares: Mapping[str, float]
) -> dict[str, int]:
    """By name. Who gets no part at all keeps the weight, and must be given nothing new by other means."""
    parts = {name: _part(scheduler, shares[name]) for name in weights}
    if all(part == 1.0 for part in parts.values()):
        return dict(weights)
    most = max(weight * parts[name] for name, weight in weights.items())
    factor = 1 if scheduler in COUNTING or most == 0 else max(1, min(FINENESS, int(LARGEST / most)))
    return {name: _whole(weight, parts[name], factor) for name, weight in weights.items()}


def _part(scheduler: Scheduler, share: float) -> float:
    if share == 0:
        return 1.0
    return ceil(share * RING_FINENESS) / RING_FINENESS if scheduler.is_ring else share


def _whole(weight: int, part: float, factor: int) -> int:
    return min(LARGEST, max(1, round(weight * part * factor))) if weight else 0
