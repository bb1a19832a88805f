# SPDX-License-Identifier: Apache-2.0
"""What the kernel holds, counted and named."""

from __future__ import annotations

import tests.support.world as w
from tests.support.world import World
from xdpdirector import libbpf
from xdpdirector.dataplane import inventory
from xdpdirector.dataplane.inventory_types import Holdings
from xdpdirector.dataplane.service_plan import State
from xdpdirector.loader import compiler
from xdpdirector.model import Persistence
from xdpdirector.model.status import Fill
from xdpdirector.paths import InstancePaths


def taken(world: World) -> Holdings:
    paths = InstancePaths(world.tables.loaded.pins.parent.name)
    fill = {"services": Fill(entries=1, room=16), "members": Fill(entries=3, room=256)}
    return inventory.take(paths, world.tables, world.records, world.plane.indices, world.clock, fill)


def test_programs(world: World) -> None:
    # given
    loaded = world.tables.loaded
    compiler.ensure_explaining(InstancePaths(loaded.pins.parent.name), loaded)

    # when
    found = taken(world)

    # then
    assert found.program.id == loaded.program_id
    assert 1000 < found.program.instructions < found.program.verified
    assert found.explaining is not None
    assert found.explaining.id != found.program.id
    assert set(found.stages) >= {"schedule", "answer", "fragment", "error", "trace"}
    assert len({found.program.id, *found.stages.values()}) == len(found.stages) + 1
    assert found.carriers == ()


def test_maps_and_how_full_they_are(world: World) -> None:
    # given
    world.apply(w.service(persistence=Persistence()))
    world.send(w.tcp("S", client="192.0.2.100"))
    world.send(w.tcp("S", client="192.0.2.101"))
    world.send(w.tcp("A", client="192.0.2.101"))

    # when
    maps = {each.name: each for each in taken(world).maps}

    # then
    assert maps.keys() == world.tables.loaded.maps.keys()
    assert (maps["newcomers"].entries, maps["clients"].entries, maps["clients"].type) == (2, 1, "hash")
    assert (maps["listeners4"].entries, maps["listeners4"].room) == (2, 64)
    assert (maps["services"].entries, maps["loads"].entries) == (1, None)
    assert (maps["members"].entries, maps["members"].room) == (3, 256)
    assert (maps["connections4"].entries, maps["connections6"].entries) == (2, 0)
    assert maps["connections4"].room >= world.tables.loaded.sizes.connections
    with libbpf.opened(world.tables.loaded.pins / "clients") as fd:
        assert maps["clients"].id == libbpf.map_info(fd).id


def test_backends_as_packets_see_them(world: World) -> None:
    # given
    members = (
        w.backend("web1"),
        w.backend("web2", state=State.DOWN, accepts=False),
        w.backend("web3", hop=None),
    )
    world.apply(w.service(members=members))

    # when
    first, second, third = taken(world).backends

    # then
    assert (first.service, first.backend, first.state, first.accepts) == ("web", "web1", "serving", True)
    assert (first.mac, first.source_mac, first.interface) == (w.WEB1_MAC, w.DIRECTOR_MAC, "lo")
    assert (second.state, second.accepts) == ("down", False)
    assert (third.mac, third.local) == (None, False)
