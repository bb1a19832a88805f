# SPDX-License-Identifier: Apache-2.0
"""The map `owners`, which repeats the owners of slots at rest: packets that find none there look in the ring."""

from __future__ import annotations

import os

import numpy as np

import tests.support.world as w
from tests.support.ring_slots import FLOWS, NAMES, asked, opened, records, ring, settle
from tests.support.sizes import LARGER, SMALL
from xdpdirector.dataplane import service_plan
from xdpdirector.dataplane.maps import Tables
from xdpdirector.dataplane.migration import migrate
from xdpdirector.loader import attachment, compiler
from xdpdirector.model import Scheduler
from xdpdirector.paths import InstancePaths


def stands(tables: Tables) -> bool:
    """True if all of `owners` follows from the rings that packets use."""
    follows = True
    for entry in tables.services[tables.services["ring_slots"] > 0]:
        region = slice(int(entry["ring_start"]), int(entry["ring_start"] + entry["ring_slots"]))
        follows &= (tables.owners[region] == service_plan.resting_owners(tables.ring[region])).all()
    return bool(follows)


def has_owners(world: w.World) -> bool:
    """At the ring's place; rings that are gone leave theirs."""
    region = world.plane.rings.region(world.plane.indices.services["web"])
    assert region
    return bool(world.tables.owners[region].any())


def test_it_follows_the_ring_through_flux_and_exceptions(world: w.World) -> None:
    steps = (ring(NAMES[:2]), ring(NAMES), ring(NAMES, down={"web1"}), ring(NAMES[1:]))

    for now, plan in enumerate(steps):
        world.apply(plan, now=float(now))
        opened(world)
        assert stands(world.tables)
    settle(world, now=steps[-1].flux_seconds + 10)

    assert stands(world.tables)
    assert has_owners(world)


def test_two_rings_whose_places_share_a_word_of_it(world: w.World) -> None:
    """A ring has a prime number of slots, and a word has four."""
    other = w.service(
        name="other", scheduler=Scheduler.MH, ring_slots=251, listeners=(), members=(w.backend("web1"),)
    )
    world.apply(ring(NAMES), other)
    owners = opened(world)

    world.plane.remove("other")
    world.apply(other)

    assert stands(world.tables)
    assert asked(world, FLOWS) == owners


def test_packets_look_in_the_ring_while_it_is_empty(world: w.World) -> None:
    world.apply(ring(NAMES))
    owners = opened(world)
    world.tables.owners[:][:] = 0

    assert asked(world, FLOWS) == owners == opened(world)
    assert records(world) == 0
    world.apply(ring(NAMES))
    assert stands(world.tables)
    assert has_owners(world)


def test_a_slot_without_an_owner_has_none_there(world: w.World) -> None:
    world.apply(ring(NAMES, down=NAMES))

    assert not has_owners(world)
    assert stands(world.tables)


def test_an_upgrade_fills_it_from_the_rings_that_it_copies() -> None:
    paths = InstancePaths(f"owners-{os.getpid()}")
    try:
        with w.World(paths, compiler.prepare_in_child(paths, SMALL)) as before:
            before.apply(ring(NAMES))
            had = asked(before, FLOWS)
            before.tables.owners[:][:] = 0  # a release that has no such map leaves as much
            loaded = compiler.prepare_in_child(paths, LARGER)
            migrate.carry(paths, loaded)

            with w.World(paths, loaded) as after:
                assert np.count_nonzero(after.tables.owners[:]) == ring(NAMES).ring_slots
                assert stands(after.tables)
                assert asked(after, FLOWS) == had
    finally:
        attachment.unload(paths)
