# SPDX-License-Identifier: Apache-2.0
"""Totals of traffic never fall: what was forwarded to a backend or a service that is gone stays counted."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

import tests.support.world as w
from tests.support.sizes import LARGER, SMALL
from xdpdirector.dataplane.migration import migrate
from xdpdirector.dataplane.writer import Dataplane
from xdpdirector.loader import attachment, compiler
from xdpdirector.model import Listener, Scheduler
from xdpdirector.model.status import total
from xdpdirector.paths import InstancePaths

TWO = (w.backend("web1"), w.backend("web2"))


def of_service(plane: Dataplane, name: str = "web") -> tuple[int, int]:
    """Packets and connections of its backends, now and before."""
    keys = [key for key in plane.indices.backends if key[0] == name]
    traffic = total([plane.counters.departed([name])[name], *plane.counters.traffic(keys).values()])
    counted = plane.counters.of_services().rows()[name]
    assert counted == (traffic.connections, traffic.packets, traffic.bytes, 0)
    return traffic.packets, traffic.connections


def visited(world: w.World, sports: range = range(1, 21)) -> None:
    for sport in sports:
        world.send(w.tcp("S", sport=sport))


@pytest.mark.parametrize("scheduler", [Scheduler.WLC, Scheduler.MH])
def test_a_backend_that_goes(world: w.World, scheduler: Scheduler) -> None:
    plan = w.service(scheduler=scheduler, members=TWO)
    world.apply(plan)
    all_before = world.plane.counters.total_traffic()
    visited(world)
    before = of_service(world.plane)

    world.apply(replace(plan, members=TWO[:1]))
    assert of_service(world.plane) == before

    world.apply(plan)
    assert of_service(world.plane) == before, "it begins at 0, and its service does not"
    assert world.plane.counters.total_traffic().packets == all_before.packets + 20


def test_a_service_that_goes(world: w.World) -> None:
    other = w.service(name="other", listeners=(Listener.parse("198.51.100.9:80/tcp"),))
    world.apply(w.service(members=TWO), other)
    visited(world)
    before = world.plane.counters.total_traffic()

    world.plane.remove("web")
    assert world.plane.counters.total_traffic() == before

    world.apply(w.service(name="next"))
    assert of_service(world.plane, "next") == (0, 0)
    assert world.plane.counters.total_traffic() == before


def test_a_daemon_that_adopts_the_maps(world: w.World) -> None:
    world.apply(w.service(members=TWO))
    visited(world)
    world.apply(w.service(members=TWO[:1]))
    before, all_before = of_service(world.plane), world.plane.counters.total_traffic()

    adopted = Dataplane(world.tables, world.clock)

    assert (of_service(adopted), adopted.counters.total_traffic()) == (before, all_before)
    assert before == (20, 20)


def test_maps_of_other_sizes() -> None:
    paths = InstancePaths(f"departed-{os.getpid()}")
    try:
        with w.World(paths, compiler.prepare_in_child(paths, SMALL)) as before:
            before.apply(w.service(name="gone"))
            before.plane.remove("gone")
            before.apply(w.service(members=TWO))
            visited(before)
            before.apply(w.service(members=TWO[:1]))
            had = of_service(before.plane), before.plane.counters.total_traffic()
            loaded = compiler.prepare_in_child(paths, LARGER)
            migrate.carry(paths, loaded)

            with w.World(paths, loaded) as after:
                assert (of_service(after.plane), after.plane.counters.total_traffic()) == had
    finally:
        attachment.unload(paths)
