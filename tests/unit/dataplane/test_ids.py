# SPDX-License-Identifier: Apache-2.0
"""Which free index a new backend gets: one that nobody ever had, else the one that has rested longest."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pytest

from xdpdirector.dataplane.ids import Indices
from xdpdirector.errors import CapacityError

ROOM = 4
LABEL = np.dtype([("service", "S64"), ("backend", "S64")])


class FakeTables:
    """The maps that indices are kept in. Each use of an index counts its generation up, as `Dataplane` does."""

    def __init__(self) -> None:
        self.service_labels, self.backend_labels = np.zeros(ROOM, LABEL), np.zeros(ROOM, LABEL)
        self.backends = np.zeros(ROOM, [("generation", "u2"), ("place", "u2")])
        self.fronts = np.zeros(ROOM, [("out", "u8", (4,))])

    def entries(self, name: str) -> int:
        return ROOM


class Operator:
    """Adds backends by number and removes them; `mentioned`: indices that something in the maps still refers to."""

    def __init__(self) -> None:
        self.tables = FakeTables()
        self.mentioned: Collection[int] = ()
        self.restart()

    def restart(self) -> None:
        self.indices = Indices(self.tables)  # type: ignore[arg-type]

    def add(self, *numbers: int) -> list[int]:
        return [self._add(number) for number in numbers]

    def _add(self, number: int) -> int:
        index = self.indices.add_backend(("web", f"web{number}"), lambda index: index not in self.mentioned)
        self.tables.backends["generation"][index] += 1
        return index

    def remove(self, *numbers: int) -> None:
        for number in numbers:
            self.indices.remove_backend(("web", f"web{number}"))


def test_indices_that_nobody_had_come_first() -> None:
    operator = Operator()
    operator.add(1, 2)
    operator.remove(1, 2)

    assert operator.add(3, 4) == [2, 3]


def test_then_the_one_that_has_rested_longest() -> None:
    operator = Operator()
    operator.add(1, 2, 3, 4)
    operator.remove(3)
    operator.remove(1, 4)

    assert operator.add(5, 6, 7) == [2, 0, 3]


def test_a_backend_that_is_known_keeps_its_index() -> None:
    operator = Operator()
    operator.add(1, 2)

    operator.restart()

    assert operator.add(2) == [1]


def test_one_that_was_used_before_a_restart_comes_after_those_never_used() -> None:
    operator = Operator()
    operator.add(1, 2, 3)
    operator.remove(3)

    operator.restart()

    assert operator.add(4, 5) == [3, 2]


def test_what_the_maps_still_mention_is_left_out() -> None:
    operator = Operator()
    operator.add(1, 2, 3, 4)
    operator.remove(1, 2)
    operator.mentioned = {0}

    assert operator.add(5) == [1]
    with pytest.raises(CapacityError):
        operator.add(6)
    operator.mentioned = ()
    assert operator.add(6) == [0]


def test_turns_are_equal_however_often_backends_come_and_go() -> None:
    operator = Operator()
    operator.add(1)

    given = []
    for _ in range(3 * (ROOM - 1)):
        given += operator.add(2)
        operator.remove(2)

    assert given == [1, 2, 3] * 3


def test_backends_of_a_service_have_places_that_others_do_not_have() -> None:
    operator = Operator()
    operator.add(1, 2, 3)
    operator.indices.remove_backend(("web", "web1"))

    operator.add(4)

    assert operator.indices.places == {"web": {"web2": 1, "web3": 2, "web4": 0}}


def test_places_are_adopted_but_for_those_that_two_have() -> None:
    """As of a release that gave none."""
    operator = Operator()
    operator.add(1, 2, 3)
    operator.tables.backends["place"] = [7, 0, 0, 0]

    operator.restart()

    assert operator.indices.places == {"web": {"web1": 7, "web2": 0, "web3": 1}}
