# SPDX-License-Identifier: Apache-2.0
"""Entries of per-CPU arrays, summed over the processors: many of them by few system calls.

A look costs far more than an entry, so neighbours are read together. Knows neither maps' names nor what is counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from xdpdirector import libbpf

WIDEST_GAP = 16
"""Entries that nobody asked for and that are read all the same, between two that somebody did."""
AT_ONCE = 1 << 20  # octets


def sums(fd: int, indices: Sequence[int], *, fields: int, cpus: int) -> npt.NDArray[np.uint64]:
    """As many rows of `fields` 8-byte numbers as indices, all of which the array must have. OSError."""
    found = np.zeros((len(indices), fields), np.uint64)
    for places in runs(indices, most=max(1, AT_ONCE // (fields * 8 * cpus))):
        first = indices[places[0]]
        values = np.empty((indices[places[-1]] - first + 1, cpus, fields), np.uint64)
        libbpf.lookup_range(fd, first, len(values), values.ctypes.data)
        found[places] = values.sum(axis=1)[[indices[place] - first for place in places]]
    return found


def runs(indices: Sequence[int], *, most: int) -> Iterator[list[int]]:
    """The places of indices that are read by one look, in the order of their indices; it spans `most` entries."""
    run: list[int] = []
    for place in sorted(range(len(indices)), key=lambda place: indices[place]):
        index = indices[place]
        if run and (index - indices[run[-1]] > WIDEST_GAP or index - indices[run[0]] >= most):
            yield run
            run = []
        run.append(place)
    if run:
        yield run
