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
LARGE = ("members", "ring", "owners", "fronts", "service_labels", "backend_labels")
MOST = CHUNK + 2 * mmap.PAGESIZE


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
    before = mapped()

    for backend in ("web1", "web2"):
        world.apply(w.service(scheduler=Scheduler.MH, ring_slots=SLOTS, members=(w.backend(backend),)))
    world.sweep()

    assert mapped() - before <= len(LARGE) * MOST
    assert min(whole(world, name) for name in ("members", "ring")) > len(LARGE) * MOST


@pytest.mark.parametrize("name", ["members", "ring"])
def test_more_than_a_chunk_is_mapped_as_long_as_somebody_has_it(world: w.World, name: str) -> None:
    windows, before = getattr(world.tables, name), mapped()

    view = windows[:]

    assert mapped() - before == view.nbytes == whole(world, name) > CHUNK
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
    ring = world.tables.ring

    assert len(ring[7:7]) == len(ring[len(ring) :]) == 0
    assert len(ring[len(ring) - 2 : len(ring) + 5]) == 2
    with pytest.raises(ValueError, match="no gaps"):
        ring[0:10:2]


def test_elements_at_positions_are_copies_in_their_order(world: w.World) -> None:
    ring = world.tables.ring
    ring[1000:2001][:] = np.arange(1000, 2001, dtype=np.uint64)

    found = ring.at(np.array([2000, 1000, 1513, 1000]))

    assert found.tolist() == [2000, 1000, 1513, 1000]
    assert len(ring.at(np.zeros(0, np.int64))) == 0
    ring[1000:2001][:] = 0
    assert found.tolist() == [2000, 1000, 1513, 1000]
