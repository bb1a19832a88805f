# SPDX-License-Identifier: Apache-2.0
"""Which backends the rings speak of, be it as the owner before: counted when a ring is written, so that nobody has
to search all of them. Knows slots and names of services; nothing of where a ring stands.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from xdpdirector.dataplane import service_plan
from xdpdirector.dataplane.maps import Array
from xdpdirector.dataplane.service_plan import FLUX, NO_BACKEND, Words


class Mentions:
    """`note` what a ring has become; what it was before is forgotten."""

    def __init__(self) -> None:
        self._rings = np.zeros(1 << 16, np.int32)
        """By backend: how many rings speak of it."""
        self._of: dict[str, Array] = {}
        self.marked: set[str] = set()
        """Services with a ring that has slots in flux, or with exceptions."""

    def __contains__(self, backend: int) -> bool:
        return bool(self._rings[backend])

    def knows(self, name: str) -> bool:
        """Whether this service's ring was noted."""
        return name in self._of

    def note(self, name: str, words: Words) -> None:
        """The slots of this service's ring."""
        flags = service_plan.flags_of(words)
        is_spoken_of = np.zeros(len(self._rings), bool)
        is_spoken_of[service_plan.backends_of(words)] = True
        if flags.any():
            is_spoken_of[service_plan.before_of(words[(flags & np.uint64(FLUX)) != 0])] = True
        backends = np.flatnonzero(is_spoken_of)
        self.forget(name)
        self._rings[backends] += 1
        self._of[name] = backends
        if flags.any():
            self.marked.add(name)

    def without(self, names: Collection[str]) -> list[int]:
        """The backends that rings speak of, but for those of these services."""
        rings = self._rings.copy()
        for name in names:
            rings[self._of.get(name, [])] -= 1
        rings[NO_BACKEND] = 0
        found: list[int] = np.flatnonzero(rings).tolist()
        return found

    def forget(self, name: str) -> None:
        """There is no such ring any more."""
        self._rings[self._of.pop(name, [])] -= 1
        self.marked.discard(name)
