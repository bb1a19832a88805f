# SPDX-License-Identifier: Apache-2.0
"""Large maps are mapped into memory only where, and while, they are looked at."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest

from tests.support import world as w
from xdpdirector.dataplane.map_windows import CHUNK
from xdpdirector.model import Scheduler

SLOTS = 4093
LARGE = ("members", "service_labels", "backend_labels")


@pytest.fixture
def world(large_world: w.World) -> w.World:
    large_world.empty()
    return large_world


def mapped() -> int:
    """Octets of maps in this process' memory."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    ranges = [line.split()[0].split("-") for line in lines if line.endswith("anon_inode:bpf-map")]
    return sum(int(stop, 16) - int(start, 16) for start, stop in ranges)


def whole(world: w.World, name: str) -> int:
    """Octets of the whole map."""
    said = world.tables.loaded.maps[name]
    return int(said["max_entries"] * said["value_size"])


def test_changes_and_sweeps_leave_little_of_the_large_maps_mapped(world: w.World) -> None:
    assert len(world.tables.ring)  # mapped as a whole, once a service has a ring
    before = mapped()

    for backend in ("web1", "web2"):
        world.apply(w.service(scheduler=Scheduler.MH, ring_slots=SLOTS, members=(w.backend(backend),)))
    world.sweep()

    assert mapped() - before <= len(LARGE) * (CHUNK + mmap.PAGESIZE)
    assert whole(world, "members") > len(LARGE) * (CHUNK + mmap.PAGESIZE)


def test_more_than_a_chunk_is_mapped_as_long_as_somebody_has_it(world: w.World) -> None:
    windows, before = world.tables.members, mapped()

    view = windows[:]

    assert mapped() - before == view.nbytes == whole(world, "members") > CHUNK
    del view
    assert mapped() == before


@pytest.mark.parametrize("name", LARGE)
def test_windows_show_one_map(world: w.World, name: str) -> None:
    windows = getattr(world.tables, name)
    last = len(windows) - 1

    assert windows[:].nbytes == whole(world, name)
    for position in (0, last // 2, last):
        octets = windows[position : position + 1].view(np.uint8)
        octets[0] ^= 1
        assert windows[:].view(np.uint8)[position * octets.nbytes] == octets[0]
        assert (windows[:][position : position + 1].tobytes()) == octets.tobytes()
        octets[0] ^= 1


def test_an_empty_place_is_an_empty_array_and_a_far_one_ends_with_the_map(world: w.World) -> None:
    members = world.tables.members

    assert len(members[7:7]) == len(members[len(members) :]) == 0
    assert len(members[len(members) - 2 : len(members) + 5]) == 2
    with pytest.raises(ValueError, match="no gaps"):
        members[0:10:2]
