# SPDX-License-Identifier: Apache-2.0
"""Counts how many rings reference each backend, as owner or previous owner, whenever a ring is written; no
search over all rings is needed. Knows slots and service names, not the location of rings.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from xdpdirector.dataplane import service_plan
from xdpdirector.dataplane.maps import Array
from xdpdirector.dataplane.service_plan import FLUX, NO_BACKEND, Words


class RingReferences:
    """`note` replaces what is known of a ring by its present slots."""

    def __init__(self) -> None:
        self._rings = np.zeros(1 << 16, np.int32)
        """By backend: how many rings reference it."""
        self._is_spoken_of = np.zeros(1 << 16, bool)
        """All false between two calls."""
        self._of: dict[str, Array] = {}
        self.marked: set[str] = set()
        """Services whose ring has slots in flux or with exceptions."""

    def __contains__(self, backend: int) -> bool:
        return bool(self._rings[backend])

    def knows(self, name: str) -> bool:
        """True if this service's ring was noted."""
        return name in self._of

    def note(self, name: str, words: Words) -> None:
        """Count the references of this service's ring."""
        flags, is_spoken_of = service_plan.flags_of(words), self._is_spoken_of
        is_spoken_of[service_plan.backends_of(words)] = True
        if flags.any():
            is_spoken_of[service_plan.before_of(words[(flags & np.uint64(FLUX)) != 0])] = True
        backends = np.flatnonzero(is_spoken_of).astype(np.uint16)
        is_spoken_of[backends] = False
        self.forget(name)
        self._rings[backends] += 1
        self._of[name] = backends
        if flags.any():
            self.marked.add(name)

    def without(self, names: Collection[str]) -> list[int]:
        """The backends that rings of other services reference."""
        if not self._of:
            return []
        rings = self._rings
        if names:
            rings = rings.copy()  # a quarter of a megabyte
            for name in names:
                rings[self._of.get(name, [])] -= 1
        found = np.flatnonzero(rings)
        others: list[int] = found[found != NO_BACKEND].tolist()
        return others

    def forget(self, name: str) -> None:
        """Drop the references of a ring that no longer exists."""
        self._rings[self._of.pop(name, [])] -= 1
        self.marked.discard(name)
