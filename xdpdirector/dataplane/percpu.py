# SPDX-License-Identifier: Apache-2.0
"""Sums entries of per-CPU arrays over the CPUs, with few system calls.

A system call costs far more than an entry, so neighbouring entries are read together. Knows neither map names
nor what is counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from xdpdirector import libbpf

WIDEST_GAP = 16
"""The most entries not asked for that one read may contain between two that were asked for."""
AT_ONCE = 1 << 20  # bytes


def sums(fd: int, indices: Sequence[int], *, fields: int, cpus: int) -> npt.NDArray[np.uint64]:
    """One row of `fields` 8-byte counters per index. The array must have all indices. OSError."""
    found = np.zeros((len(indices), fields), np.uint64)
    for places in runs(indices, most=max(1, AT_ONCE // (fields * 8 * cpus))):
        first = indices[places[0]]
        values = np.empty((indices[places[-1]] - first + 1, cpus, fields), np.uint64)
        libbpf.lookup_range(fd, first, len(values), values.ctypes.data)
        found[places] = values.sum(axis=1)[[indices[place] - first for place in places]]
    return found


def runs(indices: Sequence[int], *, most: int) -> Iterator[list[int]]:
    """Groups positions in `indices` into reads, in ascending order of index; each read spans at most `most`
    entries."""
    run: list[int] = []
    for place in sorted(range(len(indices)), key=lambda place: indices[place]):
        index = indices[place]
        if run and (index - indices[run[-1]] > WIDEST_GAP or index - indices[run[0]] >= most):
            yield run
            run = []
        run.append(place)
    if run:
        yield run
