# SPDX-License-Identifier: Apache-2.0
"""A plan that is applied again costs a look at what came of it; what somebody else wrote there is repaired all the
same, wherever it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address

import numpy as np
import pytest

import tests.support.world as w
from tests.support.instruction_count import instructions
from xdpdirector.dataplane.maps import Array
from xdpdirector.dataplane.service_plan import ServicePlan, backends_of, resting_owners
from xdpdirector.model import Scheduler
from xdpdirector.model.guard import ServiceLimit

OUT = frozenset({ip_address(w.VIP6)})
MEMBERS = (w.backend("web1", out=OUT, upper=9, lower=5), w.backend("web2"))
WLC = w.service(members=MEMBERS, limit=ServiceLimit(rate=100))
RING = replace(WLC, scheduler=Scheduler.MH, limit=None)


def contents(world: w.World) -> dict[str, bytes]:
    """What the maps say that a plan decides."""
    tables, service = world.tables, world.plane.indices.services["web"]
    region = world.plane.rings.region(service)
    found = {
        "services": tables.services.tobytes(),
        "members": tables.members[:].tobytes(),
        "backends": tables.backends.tobytes(),
        "upper": tables.loads["upper"].tobytes(),
        "out": repr(world.plane.fronts.out(service)).encode(),
        "ports": repr([tables.port(port) for port in range(tables.entries("ports"))]).encode(),
        "listeners": repr(sorted(tables.listeners().items())).encode(),
        "cost": b"".join(values["cost"].tobytes() for _, values in tables.read("limits")),
    }
    if region:
        found["ring"] = backends_of(tables.ring[region]).tobytes()
        found["owners"] = (tables.owners[region] != resting_owners(tables.ring[region])).tobytes()
    return found


def spoil(world: w.World, what: str) -> None:
    """As somebody else would who writes into the maps."""
    tables, indices = world.tables, world.plane.indices
    service, backend = indices.services["web"], indices.backends["web", "web1"]
    spoilt: dict[str, Callable[[], object]] = {
        "services": lambda: _add(tables.services["on_down"], service),
        "members": lambda: _add(
            tables.members[:]["weight"], service * len(tables.members) // len(tables.services)
        ),
        "backends": lambda: _add(tables.backends["ifindex"], backend),
        "upper": lambda: _add(tables.loads["upper"], backend),
        "out": lambda: tables.fronts[:]["out"].fill(0),
        "ring": lambda: _add(tables.ring[:], world.plane.rings.region(service).start),  # type: ignore[union-attr]
        "owners": lambda: _add(tables.owners[:], world.plane.rings.region(service).stop - 1),  # type: ignore[union-attr]
        "ports": lambda: tables.set_port(0, 0),
        "listeners": lambda: tables.delete_listener(next(iter(tables.listeners()))),
        "cost": lambda: tables.write(
            "limits", np.array([service], np.uint32), np.zeros(1, next(iter(tables.read("limits")))[1].dtype)
        ),
    }
    spoilt[what]()


def _add(array: Array, index: int) -> None:
    array[index] += 1


CASES = [
    (WLC, what) for what in ("services", "members", "backends", "upper", "out", "ports", "listeners", "cost")
]
CASES += [(RING, what) for what in ("ring", "owners", "members", "services")]


@pytest.mark.parametrize(("plan", "what"), CASES, ids=[f"{plan.scheduler}-{what}" for plan, what in CASES])
def test_what_somebody_else_wrote_is_repaired(world: w.World, plan: ServicePlan, what: str) -> None:
    world.apply(plan, now=100.0)
    world.apply(plan, now=100.0)
    before = contents(world)

    spoil(world, what)
    spoilt = contents(world)
    world.plane.read_again()
    writes = world.plane.apply(plan, 100.0)

    assert spoilt[what] != before[what]
    assert contents(world) == before
    assert writes > 0
    assert world.plane.apply(plan, 100.0) == 0


@pytest.mark.parametrize("plan", [WLC, RING], ids=["wlc", "mh"])
def test_the_same_plan_again_costs_little(world: w.World, plan: ServicePlan) -> None:
    first = instructions(lambda: world.apply(plan, now=100.0))

    again = instructions(lambda: world.apply(plan, now=200.0))

    assert again < first / 5


def test_the_guard_changes_what_a_kept_plan_comes_to(world: w.World) -> None:
    """The flags of the guard stand in the services' entries."""
    world.apply(w.service())
    world.plane.watch(["web"])
    world.apply(w.service())
    world.plane.watch([])

    world.apply(w.service())

    assert not int(world.tables.services["guard"][world.plane.indices.services["web"]])
