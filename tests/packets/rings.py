# SPDX-License-Identifier: Apache-2.0
"""A service with a ring and flows through it."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import world as w

from xdpdirector import schedule
from xdpdirector.model import Scheduler
from xdpdirector.schedule import MemberPlan, ServicePlan, State

NAMES = ("web1", "web2", "web3")
FLOWS = range(1, 301)


def ring(names: Iterable[str], draining: Collection[str] = (), down: Collection[str] = ()) -> ServicePlan:
    """A ring of these backends, some draining or down."""

    def member(name: str) -> MemberPlan:
        state = State.DOWN if name in down else State.SERVING
        return w.backend(name, state=state, accepts=name not in draining and name not in down)

    return w.service(scheduler=Scheduler.MH, ring_slots=1021, members=tuple(member(name) for name in names))


def opened(world: w.World, flows: Iterable[int] = FLOWS) -> dict[int, str]:
    """Open flows; who serves them."""
    return {sport: w.owner(world.send(w.tcp("S", sport=sport))) for sport in flows}


def asked(world: w.World, flows: Iterable[int]) -> dict[int, str]:
    """Who serves these running flows now, by the frame that left."""
    return {sport: w.owner(world.send(w.tcp("PA", sport=sport))) for sport in flows}


def records(world: w.World) -> int:
    return sum(len(rows) for rows in world.connections())


def settle(world: w.World, now: float) -> None:
    """Sweep at this time."""
    world.plane.settle(world.sweep().exceptions, now)


def flags(world: w.World) -> set[int]:
    """The flags that stand in the ring of `web`."""
    service = world.tables.services[world.plane.indices.services["web"]]
    start, slots = int(service["ring_start"]), int(service["ring_slots"])
    return set(schedule.flags_of(world.tables.ring[start : start + slots]).tolist())
