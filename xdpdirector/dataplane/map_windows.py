# SPDX-License-Identifier: Apache-2.0
"""Large array maps, of which only what is looked at is mapped into memory.

The kernel enters all pages of a mapping of an array into the page table at once (`remap_vmalloc_range`). So a
mapping of the whole map counts as the process' memory, used or not: 8 MB for the members of services.
"""

from __future__ import annotations

import mmap
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

CHUNK = 64 << 10
"""Octets that are mapped for a small place, and stay mapped until another place is looked at: services that are
written one after the other are neighbours. To map and unmap takes about 8 µs."""


class Windows:
    """An array of `length` elements of type `kind` in the memory of the map `fd`, without gaps. A slice is a view
    that packets read and write; pages are unmapped when nobody has them any more. `fd` must stay open."""

    def __init__(self, fd: int, kind: np.dtype[Any], length: int) -> None:
        self._fd, self._kind, self._length = fd, kind, length
        self._per_chunk = max(1, CHUNK // kind.itemsize)
        self._last: tuple[int, Array] = (0, np.zeros(0, kind))
        """The chunk that was looked at last: its first element, and the view."""

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, place: slice) -> Array:
        start, stop, step = place.indices(self._length)
        if step != 1:
            raise ValueError(f"a window has no gaps: step {step}")
        if stop <= start:
            return np.zeros(0, self._kind)
        first, chunk = self._last
        if start < first or first + len(chunk) < stop:
            first = start // self._per_chunk * self._per_chunk
            if first + self._per_chunk < stop:
                return self._mapped(start, stop)
            chunk = self._mapped(first, min(first + self._per_chunk, self._length))
            self._last = first, chunk
        return chunk[start - first : stop - first]

    def _mapped(self, start: int, stop: int) -> Array:
        size = self._kind.itemsize
        page = start * size // mmap.PAGESIZE * mmap.PAGESIZE
        pages = -(-(stop * size - page) // mmap.PAGESIZE) * mmap.PAGESIZE
        memory = mmap.mmap(self._fd, pages, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=page)
        return np.frombuffer(memory, self._kind, stop - start, start * size - page)
