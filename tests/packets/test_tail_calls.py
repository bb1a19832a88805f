# SPDX-License-Identifier: Apache-2.0
"""The kernel makes a jump of a tail call whose map and index are constant, and an expensive indirect call of any
other: no compiler may merge two of them into one (`tail_call` in bpf/verdict.h)."""

from __future__ import annotations

import struct

from tests.packets.conftest import SIZES
from tests.support.tail_calls import Map, TailCall, tail_calls
from tests.support.world import World
from xdpdirector.loader import compile_cache, source
from xdpdirector.loader.build import Build
from xdpdirector.paths import InstancePaths

LOAD_MAP = [(0x18, 0x12, 0, 7), (0, 0, 0, 0)]  # r2 = map 7
CALL, EXIT = (0x85, 0, 0, 12), (0x95, 0, 0, 0)


def number_to_r3(number: int) -> tuple[int, int, int, int]:
    return 0xB7, 0x03, 0, number


def bytecode(*instructions: tuple[int, int, int, int]) -> bytes:
    return b"".join(struct.pack("<BBhi", *each) for each in instructions)


def test_calls_that_a_compiler_merged_are_found() -> None:
    """if (r1) r3 = 1; else r3 = 2; tail_call(ctx, map, r3)"""
    merged = bytecode(
        *LOAD_MAP, (0x15, 0x01, 2, 0), number_to_r3(1), (0x05, 0, 1, 0), number_to_r3(2), CALL, EXIT
    )

    assert tail_calls(merged) == [TailCall(6, Map(7), None)]
    assert tail_calls(bytecode(*LOAD_MAP, number_to_r3(3), CALL, EXIT)) == [TailCall(3, Map(7), 3)]


def test_all_tail_calls_are_direct(world: World) -> None:
    loaded = world.tables.loaded
    compiled = compile_cache.find(Build(InstancePaths(loaded.pins.parent.name), SIZES, source.program()))
    assert compiled, "the program that is loaded is not in the compile cache"

    calls = {name: tail_calls(code) for name, code in compiled.functions.items()}

    stages = Map(sorted(loaded.maps).index("stages"))
    assert {
        name: each
        for name, found in calls.items()
        for each in found
        if each.map != stages or each.index is None
    } == {}
    assert calls["director"]
    assert calls["stage_tunnel"]
