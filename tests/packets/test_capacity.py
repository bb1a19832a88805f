# SPDX-License-Identifier: Apache-2.0
"""Whether a change has room is told before anything is changed, and what goes makes room for what comes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest

import tests.support.world as w
from tests.packets.conftest import SIZES
from xdpdirector.dataplane.service_plan import MemberPlan, ServicePlan
from xdpdirector.errors import CapacityError
from xdpdirector.model import Listener, Scheduler, ServiceSpec
from xdpdirector.model.status import Fill

SERVICES, BACKENDS, LISTENERS, SLOTS = SIZES.services, SIZES.backends, SIZES.listeners, SIZES.ring_slots
"""What the world has room for."""


def members(first: int, count: int) -> tuple[MemberPlan, ...]:
    return tuple(replace(w.backend("web1"), name=f"b{number}") for number in range(first, first + count))


def specs(plans: Collection[ServicePlan]) -> dict[str, ServiceSpec]:
    """What is wanted, where only the names of backends count."""
    return {
        each.name: ServiceSpec.model_construct(
            listeners=each.listeners,
            scheduler=each.scheduler,
            ring_slots=each.ring_slots,
            backends={member.name: None for member in each.members},
        )
        for each in plans
    }


def of(name: str, number: int, *, ports: int = 1, **changes: object) -> ServicePlan:
    listeners = tuple(Listener.parse(f"198.51.100.{number}:{80 + port}/tcp") for port in range(ports))
    return w.service(name=name, listeners=listeners, **changes)


def test_backends_that_go_make_room_for_those_that_come(world: w.World) -> None:
    world.apply(w.service(members=members(0, BACKENDS - 4)))

    world.apply(w.service(members=members(BACKENDS, BACKENDS - 4)))

    assert {name for _, name in world.plane.indices.backends} == {
        f"b{n}" for n in range(BACKENDS, 2 * BACKENDS - 4)
    }
    assert world.send(w.tcp()).reason == "forward_new"


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (
            [of(f"s{n}", n, members=()) for n in range(SERVICES + 1)],
            f"{SERVICES} services, and {SERVICES + 1} are wanted",
        ),
        (
            [of("s", 1, members=members(0, BACKENDS + 1))],
            f"{BACKENDS} backends, and {BACKENDS + 1} are wanted",
        ),
        (
            [
                of(f"s{n}", n, members=members(0, BACKENDS // 8 + 1), scheduler=Scheduler.MH, ring_slots=4093)
                for n in range(8)
            ],
            f"{BACKENDS} backends, and {BACKENDS + 8} are wanted",
        ),
        (
            [of("s", 1, ports=LISTENERS + 1)],
            f"{LISTENERS} entries in listeners4, and {LISTENERS + 1} are wanted",
        ),
        (
            [of(f"s{n}", n, scheduler=Scheduler.MH, ring_slots=8191) for n in range(9)],
            f"{SLOTS} slots of rings, and {9 * 8191} are wanted",
        ),
    ],
)
def test_what_has_no_room_is_told(world: w.World, wanted: list[ServicePlan], why: str) -> None:
    with pytest.raises(CapacityError, match=why):
        world.plane.capacity.require_room(specs(wanted), [])

    assert world.plane.services() == set()


def test_services_that_go_make_room(world: w.World) -> None:
    full = [
        of(f"s{n}", n, ports=4, members=members(0, 4), scheduler=Scheduler.MH, ring_slots=4093)
        for n in range(16)
    ]
    others = [replace(each, name=f"t{n}") for n, each in enumerate(full)]
    world.apply(*full)

    world.plane.capacity.require_room(specs(others), [each.name for each in full])
    with pytest.raises(CapacityError):
        world.plane.capacity.require_room(specs(others), [each.name for each in full[1:]])
    with pytest.raises(CapacityError):
        world.plane.capacity.require_room(specs(others[:1]), [])


def test_a_backend_that_a_ring_speaks_of_still_takes_room(world: w.World) -> None:
    """Its flows run to it until flux ends."""
    ring = w.service(scheduler=Scheduler.MH, members=members(0, BACKENDS - 4))
    world.apply(ring, now=0.0)
    less = replace(ring, members=ring.members[:20])

    world.apply(less, now=100.0)

    world.plane.capacity.require_room(
        specs([replace(less, members=(*less.members, *members(BACKENDS, 4)))]), []
    )
    with pytest.raises(CapacityError, match=f"{BACKENDS} backends, and {BACKENDS + 1} are wanted"):
        world.plane.capacity.require_room(
            specs([replace(less, members=(*less.members, *members(BACKENDS, 5)))]), []
        )
    world.plane.capacity.require_room(specs([of("other", 7, members=members(0, BACKENDS))]), ["web"])


def test_how_full_it_is_shows(world: w.World) -> None:
    """Fronts: pairs of VIP and protocol. One that was removed still counts: records may refer to it."""
    world.apply(w.service(members=members(0, 3)), of("s", 1, members=members(0, 40)))

    fills = world.plane.capacity.fill()

    assert fills["members"] == Fill(entries=40, room=SIZES.members)
    assert fills["vips"] == Fill(entries=3, room=LISTENERS)
    assert 5 <= fills["fronts"].entries < 200
    assert fills["fronts"].room == (1 << 14) - 1
    assert 1 <= fills["ports"].entries < 9
    assert fills["ports"].room == 64
    world.plane.remove("s")
    assert world.plane.capacity.fill()["members"].entries == 3
