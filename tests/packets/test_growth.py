# SPDX-License-Identifier: Apache-2.0
"""What a change to one service costs does not grow with the number of the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

import tests.support.world as w
from tests.support.instruction_count import instructions
from xdpdirector.dataplane.service_plan import ServicePlan
from xdpdirector.model import Listener, Scheduler

FEW, MANY = 4, 64
MEMBERS = 256  # of a service, at most
LEEWAY = 1.3
"""Hash tables that grow, an address that takes more digits."""


@pytest.fixture
def crowd(large_world: w.World) -> Iterator[w.World]:
    large_world.empty()
    yield large_world
    large_world.empty()


def numbered(number: int, scheduler: Scheduler) -> ServicePlan:
    return w.service(
        name=f"service{number:03}",
        scheduler=scheduler,
        listeners=(Listener.parse(f"198.51.100.{100 + number}:80/tcp"),),
        members=(w.backend("web1"), w.backend("web2")),
    )


@pytest.mark.parametrize("scheduler", [Scheduler.WLC, Scheduler.MH])
def test_a_change_costs_the_same_beside_many_services(crowd: w.World, scheduler: Scheduler) -> None:
    plane, costs = crowd.plane, []
    for count in (FEW, MANY):
        crowd.apply(*(numbered(number, scheduler) for number in range(count)))
        for name in list(plane.services() - {numbered(number, scheduler).name for number in range(count)}):
            plane.remove(name)
        new, changed = numbered(count, scheduler), replace(numbered(0, scheduler), on_down="drop")
        costs.append(
            {
                "change": instructions(lambda each=changed: plane.apply(each, 0.0)),
                "add": instructions(lambda each=new: plane.apply(each, 0.0)),
                "remove": instructions(lambda each=new: plane.remove(each.name)),
                "fill": instructions(plane.capacity.fill),
                "turns": instructions(plane.members.even_turns),
            }
        )

    few, many = costs
    assert {what: many[what] / few[what] for what in few if many[what] > few[what] * LEEWAY} == {}


def test_an_index_is_reused_at_the_same_cost_beside_many_rings(crowd: w.World) -> None:
    """Whether some ring still speaks of an index is known, and not searched."""
    plane, costs = crowd.plane, []
    every = [numbered(number, Scheduler.MH) for number in range(MANY)]
    crowd.apply(*every)
    for each in every:
        plane.remove(each.name)
    room = len(plane.tables.backends) - 2 * MANY
    for first in range(0, room, MEMBERS):
        waiting = tuple(
            replace(w.backend("web1"), name=f"unused{number}")
            for number in range(first, min(room, first + MEMBERS))
        )
        crowd.apply(w.service(name=f"unused{first}", members=waiting, listeners=()))
    for count in (FEW, MANY - 1):
        crowd.apply(*every[:count])
        costs.append(instructions(lambda last=every[count]: plane.apply(last, 0.0)))
        plane.remove(every[count].name)

    assert costs[1] < costs[0] * LEEWAY
