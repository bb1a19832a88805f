# SPDX-License-Identifier: Apache-2.0
"""Numbers measured again and again, and what one says of them. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Series:
    """At least one value, in the order of measuring."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> Series:
        """ValueError when there is none."""
        series = cls(tuple(values))
        if not series.values:
            raise ValueError("a series needs a value")
        return series

    @property
    def least(self) -> float:
        return min(self.values)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def most(self) -> float:
        return max(self.values)

    def less(self, amount: float) -> Series:
        """Every value smaller by that much."""
        return Series(tuple(value - amount for value in self.values))

    def document(self) -> dict[str, float]:
        numbers = {"min": self.least, "median": self.median, "max": self.most}
        return {name: round(value, 3) for name, value in numbers.items()} | {"samples": len(self.values)}


def interleaved(cases: Mapping[Name, Callable[[], float]], rounds: int) -> dict[Name, Series]:
    """Each case once in every round, so that a noisy moment spoils a sample of all and not all of one; and in an
    order of its own, so that none always profits from what the one before it left in the caches."""
    values: dict[Name, list[float]] = {name: [] for name in cases}
    for number in range(rounds):
        order = list(cases)
        Random(number).shuffle(order)
        for name in order:
            values[name].append(cases[name]())
    return {name: Series.of(found) for name, found in values.items()}
