# SPDX-License-Identifier: Apache-2.0
"""How fast a draining backend empties: what was seen of it in the last minute, and what follows. Pure.

Connections end as they end: each with the same chance in any second, whatever its age. Of n such, 1/n of a mean
life passes until the first has ended, then 1/(n-1) until the next; so the last one ends after H(n) mean lives, H(n)
the n-th harmonic number. The mean life is taken from how many have ended in what was seen.
"""

from __future__ import annotations

from collections import deque
from math import log
from typing import NamedTuple

WINDOW = 60.0


class Sample(NamedTuple):
    """`at` is monotonic seconds; `packets` counts since ever."""

    at: float
    connections: int
    packets: int


class Progress:
    """`most`: the most connections that were seen at once."""

    def __init__(self) -> None:
        self.most = 0
        self._samples: deque[Sample] = deque()

    def see(self, sample: Sample) -> None:
        """Samples come in order."""
        self.most = max(self.most, sample.connections)
        self._samples.append(sample)
        while sample.at - self._samples[0].at > WINDOW:
            self._samples.popleft()

    @property
    def packets_per_second(self) -> float | None:
        """Over the last few seconds; None while there is no second sample. A data plane that was made anew counts
        from 0 again: that is no rate."""
        recent = list(self._samples)[-5:]
        if len(recent) < 2 or recent[-1].at <= recent[0].at:
            return None
        return round(max(0, recent[-1].packets - recent[0].packets) / (recent[-1].at - recent[0].at), 1)

    def ends_in(self, remaining: int) -> float | None:
        """Seconds until the last connection will have ended, as things go; None when nothing says so."""
        if not remaining:
            return 0.0
        if len(self._samples) < 2:
            return None
        first, last = self._samples[0], self._samples[-1]
        if first.connections <= remaining:
            return None
        mean_life = (last.at - first.at) / log(first.connections / remaining)
        return _harmonic(remaining) * mean_life


def _harmonic(count: int) -> float:
    """H(n); for many, the logarithm and Euler's constant are near enough."""
    if count > 100:
        return log(count) + 0.5772157
    return sum(1 / number for number in range(1, count + 1))
