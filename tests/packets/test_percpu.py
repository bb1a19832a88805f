# SPDX-License-Identifier: Apache-2.0
"""Counters of many backends are read together: each index gets its own, summed over all processors."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest

import tests.support.world as w
from tests.packets.conftest import SIZES
from xdpdirector import libbpf

FIELDS = 3
LAST = SIZES.backends - 1  # index of the last backend that there is room for


@pytest.fixture
def counted(world: w.World) -> Iterator[w.World]:
    """Each processor has counted ten times the index, and one, two, three on top of it."""
    cpus, fd = libbpf.possible_cpus(), libbpf.obj_get(world.tables.loaded.pins / "traffic")
    try:
        for index in range(LAST + 1):
            value = np.array([[10 * index + field + 1 for field in range(FIELDS)]] * cpus, np.uint64)
            libbpf.update(fd, np.uint32(index).tobytes(), value.tobytes())
        yield world
        for index in range(LAST + 1):
            world.tables.per_cpu_zero("traffic", index)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    "indices",
    [
        pytest.param([], id="none"),
        pytest.param([0], id="the first"),
        pytest.param([LAST], id="the last"),
        pytest.param([5, 6, 7], id="neighbours"),
        pytest.param([LAST, 0, 30, 5, 30], id="here and there, one twice"),
        pytest.param(list(range(LAST + 1)), id="all"),
    ],
)
def test_each_index_has_its_sum(counted: w.World, indices: list[int]) -> None:
    cpus = libbpf.possible_cpus()

    sums = counted.tables.per_cpu_sums("traffic", indices)

    assert sums.tolist() == [
        [cpus * (10 * index + field + 1) for field in range(FIELDS)] for index in indices
    ]


@pytest.mark.parametrize("index", [-1, LAST + 1])
def test_an_index_that_is_not_there_is_an_error(world: w.World, index: int) -> None:
    """The kernel would begin again with the first."""
    with pytest.raises(IndexError, match=f"traffic has {SIZES.backends} entries, and no {index}$"):
        world.tables.per_cpu_sums("traffic", [0, index])
