# SPDX-License-Identifier: Apache-2.0
"""One measured number with its name, and how it was obtained. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dev.bench.samples import Series

NANOSECONDS, SECONDS, KILOBYTES, MEGABYTES, PERCENT, LOST = "ns", "s", "kB", "MB", "%", "lost"
LESS_IS_BETTER = frozenset({NANOSECONDS, SECONDS, KILOBYTES, MEGABYTES, PERCENT, LOST})


class Key(NamedTuple):
    """What was measured: a workload, the program or way that it took, and among how many flows."""

    workload: str
    program: str
    flows: int = 1

    def __str__(self) -> str:
        return f"{self.program}, {self.workload}" + (f", {self.flows:,} flows" if self.flows > 1 else "")


@dataclass(frozen=True)
class Figure:
    """`unit`: of LESS_IS_BETTER, or of something of which more is. `paths`: packets by reason, as our program
    counted them."""

    key: Key
    series: Series
    how: str
    unit: str = NANOSECONDS
    paths: Mapping[str, int] = field(default_factory=dict)

    @property
    def best(self) -> float:
        """The value that noise has spoilt least."""
        return self.series.least if self.unit in LESS_IS_BETTER else self.series.most

    @property
    def worst(self) -> float:
        return self.series.most if self.unit in LESS_IS_BETTER else self.series.least

    def document(self) -> dict[str, Any]:
        return {
            **self.key._asdict(),
            "unit": self.unit,
            **self.series.document(),
            "paths": dict(self.paths),
            "how": self.how,
        }


Figures = dict[Key, Figure]


def by_key(figures: Iterable[Figure]) -> Figures:
    """ValueError when something was measured twice."""
    found: Figures = {}
    for figure in figures:
        if figure.key in found:
            raise ValueError(f"measured twice: {figure.key}")
        found[figure.key] = figure
    return found
