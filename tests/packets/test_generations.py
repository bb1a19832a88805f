# SPDX-License-Identifier: Apache-2.0
"""A backend that has the index of an earlier one inherits nothing from it."""

from __future__ import annotations

import pytest

import tests.support.world as w
from xdpdirector.model import Persistence, Scheduler

TWO = (w.backend("web1"), w.backend("web2"))


@pytest.mark.parametrize("uses", [1, 256], ids=["the next one", "one whose number has the same low bits"])
def test_a_client_is_not_kept_by_a_later_backend(world: w.World, uses: int) -> None:
    world.apply(w.service(scheduler=Scheduler.RR, persistence=Persistence(), members=TWO))
    first = w.owner(world.send(w.tcp("S", sport=1)))
    assert w.owner(world.send(w.tcp("S", sport=2))) == first

    world.tables.backends["generation"][world.plane.indices.backends["web", first]] += uses

    assert w.owner(world.send(w.tcp("S", sport=3))) != first


def test_a_connection_is_not_kept_by_the_next_backend(world: w.World) -> None:
    world.apply(w.service(members=TWO))
    first = w.owner(world.send(w.tcp("S", sport=1)))

    world.tables.backends["generation"][world.plane.indices.backends["web", first]] += 1

    assert world.send(w.tcp("A", sport=1, ack=1)).reason == "reject_down"
