# SPDX-License-Identifier: Apache-2.0
"""A service with a ring and flows through it."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import tests.support.world as w
from xdpdirector.control import planner
from xdpdirector.control.planner import BackendStatus
from xdpdirector.dataplane import service_plan
from xdpdirector.dataplane.service_plan import ServicePlan
from xdpdirector.model import ServiceSpec
from xdpdirector.model.status import Operational
from xdpdirector.net.next_hop import Route

NAMES = ("web1", "web2", "web3")
FLOWS = range(1, 301)


SLOTS = 1021


def planned(
    names: Iterable[str] = NAMES,
    draining: Collection[str] = (),
    down: Collection[str] = (),
    **fields: object,
) -> ServicePlan:
    """What the planner makes of a service with these backends, some draining or down; `fields` are the model's."""
    addresses = {name: f"192.0.2.{20 + number}" for number, name in enumerate(w.MACS, start=1)}
    spec = ServiceSpec.model_validate(
        {
            "listeners": [str(listener) for listener in w.LISTENERS],
            "ring_slots": SLOTS,
            "backends": {
                name: {"address": addresses[name], "admin": "drain" if name in draining else "enabled"}
                for name in names
            },
            **fields,
        }
    )
    standings = {
        name: BackendStatus(
            Operational.DOWN if name in down else Operational.UP,
            "",
            Route("neighbour", w.mac(w.MACS[name]), w.mac(w.DIRECTOR_MAC), w.LOOPBACK, "lo"),
        )
        for name in spec.backends
    }
    return planner.plan("web", spec, standings)


def ring(names: Iterable[str], draining: Collection[str] = (), down: Collection[str] = ()) -> ServicePlan:
    """An `mh` service of these backends, some draining or down."""
    return planned(names, draining, down, scheduler="mh")


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
    return set(service_plan.flags_of(world.tables.ring[start : start + slots]).tolist())
