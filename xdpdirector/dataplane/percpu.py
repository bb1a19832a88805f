# SPDX-License-Identifier: Apache-2.0
"""Sums entries of per-CPU arrays over the CPUs, with few system calls.

A system call costs far more than an entry, so neighbouring entries are read together. Knows neither map names
nor what is counted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from xdpdirector import libbpf

WIDEST_GAP = 16
"""The most entries not asked for that one read may contain between two that were asked for."""
AT_ONCE = 1 << 20  # bytes


def sums(fd: int, indices: Sequence[int], *, fields: int, cpus: int) -> npt.NDArray[np.uint64]:
    """One row of `fields` 8-byte counters per index. The array must have all indices. OSError."""
    wanted = np.asarray(indices, np.int64)
    found = np.zeros((len(wanted), fields), np.uint64)
    for places in runs(wanted, most=max(1, AT_ONCE // (fields * 8 * cpus))):
        run = wanted[places]
        first, last = int(run[0]), int(run[-1])
        values = np.empty((last - first + 1, cpus, fields), np.uint64)
        libbpf.lookup_range(fd, first, len(values), values.ctypes.data)
        found[places] = values.sum(axis=1)[run - first]
    return found


def runs(indices: npt.NDArray[np.int64], *, most: int) -> list[npt.NDArray[np.int64]]:
    """Groups positions in `indices` into reads, in ascending order of index; each read spans at most `most`
    entries."""
    if not len(indices):
        return []
    places = np.argsort(indices, kind="stable")
    ascending = indices[places]
    begins = np.flatnonzero(np.diff(ascending, prepend=ascending[0]) > WIDEST_GAP)
    neighbours = np.searchsorted(begins, np.arange(len(ascending)), side="right")
    firsts = ascending[[0, *begins]][neighbours]
    parts = np.stack([neighbours, (ascending - firsts) // most])
    cuts = np.flatnonzero(np.diff(parts, axis=1).any(axis=0)) + 1
    return np.split(places, cuts)
