# SPDX-License-Identifier: Apache-2.0
"""When flux may end, and what keeps the marks of a ring: running flows that would move."""

from __future__ import annotations

import pytest
import world as w
from rings import FLOWS, NAMES, asked, flags, opened, ring, settle

from xdpdirector import schedule
from xdpdirector.model import Scheduler

FLUX_SECONDS = ring(NAMES).flux_seconds


def test_slots_that_change_later_have_all_their_time(world: w.World) -> None:
    world.apply(ring(NAMES), now=0)
    owners = opened(world)
    world.apply(ring(NAMES, draining={"web1"}), now=0)
    world.apply(ring(NAMES, draining={"web1", "web2"}), now=FLUX_SECONDS - 1)

    settle(world, now=FLUX_SECONDS + 1)

    assert not world.plane.is_settled("web")
    assert asked(world, FLOWS) == owners
    settle(world, now=2 * FLUX_SECONDS)
    assert world.plane.is_settled("web")


def test_slots_in_flux_that_change_again_need_no_more_time(world: w.World) -> None:
    world.apply(ring(NAMES), now=0)
    world.apply(ring(NAMES, draining={"web1"}), now=0)
    world.apply(ring(NAMES), now=FLUX_SECONDS - 1)

    settle(world, now=FLUX_SECONDS + 1)

    assert world.plane.is_settled("web")


def test_leaving_a_ring_that_is_partly_in_flux_starts_the_time_anew(world: w.World) -> None:
    world.apply(ring(NAMES), now=0)
    owners = opened(world)
    world.apply(ring(NAMES, draining={"web1"}), now=0)
    world.apply(w.service(members=ring(NAMES).members), now=FLUX_SECONDS - 1)

    settle(world, now=FLUX_SECONDS + 1)

    assert asked(world, FLOWS) == owners


@pytest.mark.parametrize("first", [0, 1], ids=["the ring begins the map", "the ring stands behind another"])
def test_flows_from_before_the_ring_stay_whatever_is_swept(world: w.World, first: int) -> None:
    others = [w.service(name=f"other{n}", scheduler=Scheduler.MH, listeners=()) for n in range(first)]
    world.apply(*others)
    world.apply(w.service(members=ring(NAMES).members), now=0)
    owners = opened(world)
    asked(world, FLOWS)

    world.apply(ring(NAMES), now=0)
    settle(world, now=1)
    settle(world, now=2)

    assert asked(world, FLOWS) == owners
    world.forget_connections()
    settle(world, now=3)
    assert flags(world) == {0}


def test_flux_is_what_the_slots_say(world: w.World) -> None:
    world.apply(ring(NAMES), now=0)
    at_rest = flags(world)

    world.apply(ring(NAMES[:2]), now=0)

    assert at_rest == {0}
    assert flags(world) == {0, schedule.FLUX}
