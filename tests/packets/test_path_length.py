# SPDX-License-Identifier: Apache-2.0
"""How many instructions and look-ups an established packet takes: as many as it took, or fewer.

The bytecode is interpreted (tests/support/bpf_interpreter.py), so no clock is asked. The bounds are what clang 14
makes of the program, and a little for other compilers. Whoever changes the packet's path and needs more says why in
the commit.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import pytest
from scapy.packet import Packet

from tests.packets.conftest import SIZES
from tests.support.bpf_interpreter import Interpreter, Result
from tests.support.world import LOOPBACK, TX, World, backend, service, tcp, tcp6, to, udp, udp6
from xdpdirector import libbpf
from xdpdirector.dataplane.service_plan import ServicePlan
from xdpdirector.loader import compile_cache, source
from xdpdirector.loader.build import Build
from xdpdirector.model import Scheduler
from xdpdirector.paths import InstancePaths

OTHER_COMPILERS = 1.05
COMMON = {"entrance": 1, "services": 1, "backends": 1, "traffic": 1, "verdicts": 1}
FLOW4, FLOW6, SLOT, FRONT = {"connections4": 1}, {"connections6": 1}, {"owners": 1}, {"fronts": 1}


class Way(NamedTuple):
    """`opening`: the frames that make the flow an established one."""

    scheduler: Scheduler
    opening: list[Packet]
    frame: Packet
    instructions: int
    lookups: dict[str, int]
    watched: bool = False

    @property
    def plan(self) -> ServicePlan:
        members = (backend("web1", watched=self.watched),)
        return service(scheduler=self.scheduler, members=members, passive=self.watched)


WAYS = {
    "mh, IPv4": Way(Scheduler.MH, [], tcp("A"), 292, SLOT),
    "mh, IPv6": Way(Scheduler.MH, [], tcp6("A"), 364, SLOT | FRONT),
    "mh, UDP": Way(Scheduler.MH, [], udp(), 288, SLOT),
    "wlc, IPv4": Way(Scheduler.WLC, [tcp(), tcp("A"), tcp("A")], tcp("A"), 330, FLOW4),
    "wlc, IPv6": Way(Scheduler.WLC, [tcp6(), tcp6("A"), tcp6("A")], tcp6("A"), 407, FLOW6 | FRONT),
    "wlc, UDP": Way(Scheduler.WLC, [udp()] * 3, udp(), 331, FLOW4),
    "mh, watched": Way(Scheduler.MH, [], tcp("A"), 296, SLOT, watched=True),
    "wlc, watched": Way(Scheduler.WLC, [tcp(), tcp("A"), tcp("A")], tcp("A"), 331, FLOW4, watched=True),
    "wlc, UDP over IPv6": Way(Scheduler.WLC, [udp6()] * 3, udp6(), 407, FLOW6 | FRONT),
}


def interpreted(world: World, frame: bytes) -> Result:
    """The loaded program, over a copy of its maps."""
    loaded = world.tables.loaded
    build = Build(InstancePaths(loaded.pins.parent.name), SIZES, source.program())
    compiled = compile_cache.find(build)
    assert compiled, "the program that is loaded is not in the compile cache"

    def lookup(name: str, key: bytes) -> bytes | None:
        copies = os.cpu_count() or 1 if name in ("traffic", "verdicts") else 1
        with libbpf.opened(loaded.pins / name) as fd:
            return libbpf.lookup(fd, key, (loaded.maps[name]["value_size"] + 7 & ~7) * copies)

    shapes = loaded.maps
    return Interpreter(
        compiled.functions["director"],
        dict(enumerate(sorted(shapes))),
        {name: shape["key_size"] for name, shape in shapes.items()},
        {name: shape["value_size"] for name, shape in shapes.items()},
        lookup,
        world.clock.now(),
    ).run(frame, LOOPBACK)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_an_established_packet_takes_no_more_instructions_than_it_did(world: World, way: Way) -> None:
    world.plane.apply(way.plan, 0.0)
    for frame in way.opening:
        world.send(frame)

    done = interpreted(world, bytes(way.frame))

    assert (done.verdict, done.frame) == (TX, to("web1", way.frame))
    assert done.lookups == COMMON | way.lookups
    assert done.instructions <= way.instructions * OTHER_COMPILERS


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_the_kernel_does_with_the_packet_what_is_interpreted(world: World, way: Way) -> None:
    world.plane.apply(way.plan, 0.0)
    for frame in way.opening:
        world.send(frame)

    done, outcome = interpreted(world, bytes(way.frame)), world.send(way.frame)

    assert (done.verdict, done.frame) == (outcome.verdict, outcome.frame)
