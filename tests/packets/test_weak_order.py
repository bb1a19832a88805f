# SPDX-License-Identifier: Apache-2.0
"""The program as it is built for processors that do not keep the order of loads and stores (bpf/memory_order.h).

On x86-64 it does the same, so it is loaded and run here, too. What the order is good for cannot be seen here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from scapy.packet import Packet

import tests.support.world as w
from xdpdirector.loader import attachment
from xdpdirector.loader.layout import Loaded
from xdpdirector.model import Sizes
from xdpdirector.paths import InstancePaths

SIZES = Sizes(services=4, backends=8, listeners=16, connections=1024, connections6=1024, ring_slots=1 << 10)
COMPILE = """
import json, sys
from functools import partial
from xdpdirector.loader import compiler
from xdpdirector.loader.build import Build
from xdpdirector.model import Sizes
from xdpdirector.paths import InstancePaths
compiler.Build = partial(Build, keeps_order=False)
sizes = Sizes.model_validate_json(sys.argv[2])
print(json.dumps(compiler.prepare(InstancePaths(sys.argv[1]), sizes).document()))
"""
"""In a process of its own, as the compiler always runs."""
TWO = (w.backend("web1"), w.backend("web2"))


@pytest.fixture(scope="module")
def weak_world() -> Iterator[w.World]:
    paths = InstancePaths(f"weak-{os.getpid()}")
    try:
        made = subprocess.run(
            [sys.executable, "-c", COMPILE, paths.name, SIZES.model_dump_json()],
            check=True,
            capture_output=True,
            text=True,
        )
        with w.World(paths, Loaded.from_document(json.loads(made.stdout))) as world:
            world.apply(w.service(members=TWO))
            yield world
    finally:
        attachment.unload(paths)


def frame(flags: str, number: int, *, ipv6: bool) -> Packet:
    return w.tcp6(flags, sport=number) if ipv6 else w.tcp(flags, sport=number)


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
def test_flows_keep_their_backends_while_a_flood_fills_the_table(weak_world: w.World, ipv6: bool) -> None:
    """Records are found, inserted, moved to their other bucket, and evicted."""
    flows, flood = range(1, 600), range(10_000, 14_000)
    owners = {number: w.owner(weak_world.send(frame("S", number, ipv6=ipv6))) for number in flows}
    for flags in ("A", "PA"):
        for number in flows:
            weak_world.run(bytes(frame(flags, number, ipv6=ipv6)))
    for number in flood:
        for flags in ("S", "A"):
            weak_world.run(bytes(frame(flags, number, ipv6=ipv6)))
    weak_world.recount()

    outcomes = {number: weak_world.send(frame("A", number, ipv6=ipv6)) for number in flows}

    assert {outcome.reason for outcome in outcomes.values()} == {"forward_connection"}
    assert {number: w.owner(outcome) for number, outcome in outcomes.items()} == owners
