# SPDX-License-Identifier: Apache-2.0
"""Data planes of two directors, of which each merges what the other one scans, without a network between them."""

from __future__ import annotations

from typing import NamedTuple

import tests.support.world as w
from xdpdirector.sync.merged import Merged
from xdpdirector.sync.merger import Merger
from xdpdirector.sync.names import NameReader, Translation
from xdpdirector.sync.scanner import Batch, Scanner

TWO = (w.backend("web1"), w.backend("web2"))
FLOWS = range(1, 201)


class Director(NamedTuple):
    world: w.World
    names: NameReader
    scanner: Scanner
    merger: Merger

    def take(self, batches: list[Batch], other: Director, *, is_first: bool = False) -> Merged:
        """Merge these of the other's."""
        total = Merged()
        self.names.changed()
        other.names.changed()
        translation = Translation.between(other.names.names, self.names.names)
        states = self.merger.states(other.world.tables.enums["connection_state"])
        for batch in batches:
            merged, exceptions = self.merger.merge(batch, translation, states, is_first=is_first)
            self.world.plane.rings.mark_exceptions(exceptions)
            total.add(merged)
        return total

    def scan(self) -> list[Batch]:
        self.names.changed()
        return self.scanner.scan()

    def bulk(self) -> list[Batch]:
        self.names.changed()
        return list(self.scanner.bulk())


def opened(director: Director) -> dict[tuple[int, int], str]:
    """Flows of both families, and who has them."""
    for sport in FLOWS:
        for frame in (w.tcp, w.tcp6):
            director.world.send(frame("S", sport=sport))
    return owners(director)


def owners(director: Director) -> dict[tuple[int, int], str]:
    return {
        (number, sport): w.owner(director.world.send(frame("PA", sport=sport)))
        for number, frame in enumerate((w.tcp, w.tcp6))
        for sport in FLOWS
    }
