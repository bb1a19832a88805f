# SPDX-License-Identifier: Apache-2.0
"""Which counters are read together."""

from __future__ import annotations

import numpy as np
import pytest

from xdpdirector.dataplane.percpu import WIDEST_GAP, runs


@pytest.mark.parametrize(
    ("indices", "most", "expected"),
    [
        pytest.param([], 8, [], id="none"),
        pytest.param([7], 8, [[7]], id="one"),
        pytest.param([3, 4, 5], 8, [[3, 4, 5]], id="neighbours"),
        pytest.param([5, 3, 4], 8, [[3, 4, 5]], id="in any order"),
        pytest.param([3, 3], 8, [[3, 3]], id="twice"),
        pytest.param([1, 1 + WIDEST_GAP], 100, [[1, 1 + WIDEST_GAP]], id="a gap that is read too"),
        pytest.param([1, 2 + WIDEST_GAP], 100, [[1], [2 + WIDEST_GAP]], id="a gap that is not"),
        pytest.param([0, 1, 2, 3, 4], 2, [[0, 1], [2, 3], [4]], id="more than one look takes"),
        pytest.param([0, 1, 2], 1, [[0], [1], [2]], id="one by one"),
    ],
)
def test_neighbours_are_read_together(indices: list[int], most: int, expected: list[list[int]]) -> None:
    wanted = np.array(indices, np.int64)

    assert [wanted[places].tolist() for places in runs(wanted, most=most)] == expected
