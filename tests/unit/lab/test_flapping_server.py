# SPDX-License-Identifier: Apache-2.0
"""Servers that are well and ill by turns, and how often the slowest of answers is looked at."""

from itertools import pairwise

import pytest

from dev.bench.flapping import percentile
from xdpdirector.lab.flapping_server import is_well


def test_each_address_is_well_half_of_the_time() -> None:
    for address in ("198.51.100.1", "198.51.100.2", "::ffff:198.51.100.3"):
        turns = [is_well(address, 1.0, now / 10) for now in range(200)]

        assert sum(turns) == 100
        assert sum(one != other for one, other in pairwise(turns)) in (19, 20)


@pytest.mark.parametrize(
    ("times", "percent", "found"),
    [([3.0], 99, 3.0), (list(map(float, range(1, 101))), 99, 99.0), ([1.0, 2.0, 3.0, 4.0], 50, 2.0)],
)
def test_percentile(times: list[float], percent: int, found: float) -> None:
    assert percentile(times, percent) == found
