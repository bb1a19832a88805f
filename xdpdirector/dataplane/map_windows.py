# SPDX-License-Identifier: Apache-2.0
"""Large array maps, of which only what is looked at is mapped into memory.

The kernel enters all pages of a mapping of an array into the page table at once (`remap_vmalloc_range`). So a
mapping of the whole map counts as the process' memory, used or not: 31 MB for the rings of a thousand services.
"""

from __future__ import annotations

import mmap
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

CHUNK = 64 << 10
"""Octets from a small place on that are mapped with it, and stay mapped until another place is looked at: services
that are written one after the other are neighbours. To map and unmap takes about 8 µs."""


class Windows:
    """An array of `length` elements of type `kind` in the memory of the map `fd`, without gaps. A slice is a view
    that packets read and write; pages are unmapped when nobody has them any more. `fd` must stay open."""

    def __init__(self, fd: int, kind: np.dtype[Any], length: int) -> None:
        self._fd, self._kind, self._length = fd, kind, length
        self._per_chunk = max(1, CHUNK // kind.itemsize)
        self._per_page = max(1, mmap.PAGESIZE // kind.itemsize)
        self._last: tuple[int, Array] = (0, np.zeros(0, kind))
        """The chunk that was looked at last: its first element, and the view."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of an element."""
        return self._kind

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
            if stop - start > self._per_chunk:
                return self._mapped(start, stop)
            first = start // self._per_page * self._per_page
            chunk = self._mapped(first, min(max(first + self._per_chunk, stop), self._length))
            self._last = first, chunk
        return chunk[start - first : stop - first]

    def at(self, positions: Array, field: str | None = None) -> Array:
        """Copies of the elements, or of one field of each, at these positions, in any order."""
        first = int(positions.min()) if len(positions) else 0
        some = self[first : int(positions.max()) + 1 if len(positions) else 0]
        found: Array = (some[field] if field else some)[positions - first]
        return found

    def _mapped(self, start: int, stop: int) -> Array:
        size = self._kind.itemsize
        page = start * size // mmap.PAGESIZE * mmap.PAGESIZE
        pages = -(-(stop * size - page) // mmap.PAGESIZE) * mmap.PAGESIZE
        memory = mmap.mmap(self._fd, pages, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=page)
        return np.frombuffer(memory, self._kind, stop - start, start * size - page)
