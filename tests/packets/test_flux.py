# SPDX-License-Identifier: Apache-2.0
"""When flux may end, and what keeps the marks of a ring: running flows that would move."""

from __future__ import annotations

import pytest

import tests.support.world as w
from tests.support.ring_slots import (
    FLOWS,
    NAMES,
    asked,
    flags,
    opened,
    planned,
    ring,
    settle,
)
from xdpdirector.dataplane import service_plan
from xdpdirector.dataplane.rings import YOUNG
from xdpdirector.dataplane.writer import Dataplane
from xdpdirector.model import Scheduler

FLUX_SECONDS = ring(NAMES).flux_seconds


def test_slots_that_change_later_have_all_their_time(world: w.World) -> None:
    world.apply(ring(NAMES), now=0)
    owners = opened(world)
    world.apply(ring(NAMES, draining={"web1"}), now=0)
    world.apply(ring(NAMES, draining={"web1", "web2"}), now=FLUX_SECONDS - 1)

    settle(world, now=FLUX_SECONDS + 1)

    assert not world.plane.rings.is_settled("web")
    assert asked(world, FLOWS) == owners
    settle(world, now=2 * FLUX_SECONDS)
    assert world.plane.rings.is_settled("web")


def test_slots_in_flux_that_change_again_need_no_more_time(world: w.World) -> None:
    world.apply(ring(NAMES), now=0)
    opened(world)
    world.apply(ring(NAMES, draining={"web1"}), now=0)
    world.apply(ring(NAMES), now=FLUX_SECONDS - 1)

    settle(world, now=FLUX_SECONDS + 1)

    assert world.plane.rings.is_settled("web")


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


def test_a_new_ring_whose_backends_come_up_one_by_one_is_not_in_flux(world: w.World) -> None:
    world.apply(ring(NAMES[:1]), now=0)

    world.apply(ring(NAMES), now=1)

    assert service_plan.FLUX not in flags(world)
    assert world.plane.rings.is_settled("web")
    datagrams = {w.owner(world.send(w.udp(sport=sport))) for sport in FLOWS}
    assert datagrams == set(NAMES)
    settle(world, now=2)
    assert flags(world) == {0}


def test_a_flow_that_came_before_the_others_were_up_stays(world: w.World) -> None:
    world.apply(ring(NAMES[:1]), now=0)
    owners = opened(world)
    datagrams = {sport: w.owner(world.send(w.udp(sport=sport))) for sport in FLOWS}

    world.apply(ring(NAMES), now=1)

    assert asked(world, FLOWS) == owners
    assert {sport: w.owner(world.send(w.udp(sport=sport))) for sport in FLOWS} == datagrams


def test_a_ring_that_stands_for_a_while_enters_flux_also_without_a_packet(world: w.World) -> None:
    """Another director may have had them all."""
    world.apply(ring(NAMES[:1]), now=0)

    world.apply(ring(NAMES), now=YOUNG + 1)

    assert service_plan.FLUX in flags(world)


def test_what_was_adopted_enters_flux_also_without_a_packet(world: w.World) -> None:
    world.apply(ring(NAMES[:1]), now=0)
    world.plane = Dataplane(world.tables, world.clock)

    world.apply(ring(NAMES), now=1)

    assert service_plan.FLUX in flags(world)


def test_a_ring_that_was_left_is_not_settled_for_who_adopts_it(world: w.World) -> None:
    """Some of its flows have no record yet: a backend without records is not idle."""
    world.apply(ring(NAMES), now=0)
    world.apply(planned(scheduler="wlc"), now=0)

    adopting = Dataplane(world.tables, world.clock)
    at_first = adopting.rings.is_settled("web")
    adopting.apply(planned(scheduler="wlc"), now=0)
    applied = adopting.rings.is_settled("web")
    world.plane = adopting
    settle(world, now=2 * FLUX_SECONDS)
    settle(world, now=4 * FLUX_SECONDS)

    assert (at_first, applied) == (False, False)
    assert adopting.rings.is_settled("web")


def test_flux_is_what_the_slots_say(world: w.World) -> None:
    world.apply(ring(NAMES), now=0)
    opened(world)
    at_rest = flags(world)

    world.apply(ring(NAMES[:2]), now=0)

    assert at_rest == {0}
    assert flags(world) == {0, service_plan.FLUX}
