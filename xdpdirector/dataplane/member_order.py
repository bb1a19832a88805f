# SPDX-License-Identifier: Apache-2.0
"""In which order a service's backends stand in its list of members, and which of them more than once. Pure.

A new connection of a service with more than EXACT backends that take connections goes to the best of DRAWN that
are drawn from the list (bpf/schedule.h).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

HEAVY = 4
"""Weight, in multiples of the mean one, for each place in the list. With 16 draws a backend is among those drawn
for at least three times its share of the connections."""


class Order(NamedTuple):
    """`places`: numbers of members, as they stand in the list. `resting`: how many of the last ones take no new
    connections, and are not drawn."""

    places: list[int]
    resting: int


def ordered(weights: Sequence[int], *, exact: int, is_drawn: bool, is_by_weight: bool) -> Order:
    """The list for members of these weights, 0 for those that take no new connections.

    `exact`: EXACT. `is_drawn`: the scheduler draws from the list. `is_by_weight`: the highest weight has all
    connections, so it stands first.
    """
    if not is_drawn or len(weights) <= exact:
        return Order(list(range(len(weights))), 0)
    taking = [number for number, weight in enumerate(weights) if weight]
    resting = [number for number, weight in enumerate(weights) if not weight]
    if is_by_weight:
        taking.sort(key=lambda number: -weights[number])
    elif len(taking) > exact:
        total = HEAVY * sum(weights)
        taking += [
            number for number in taking[:] for _ in range(-(-weights[number] * len(taking) // total) - 1)
        ]
    return Order(taking + resting, len(resting))
