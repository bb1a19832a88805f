# SPDX-License-Identifier: Apache-2.0
"""How long new connections take to the peer."""

from __future__ import annotations

from dev.bench.sync import lags_of

BEFORE = 1000


def test_lags_are_those_of_inserted_records() -> None:
    """Others are merged meanwhile, as they are seen again."""
    lines = [
        {"at": 1.0, "inserted": BEFORE, "merged": 5000},
        {"at": 1.1, "inserted": BEFORE + 10, "merged": 9000},
        {"at": 1.25, "inserted": BEFORE + 30, "merged": 9500},
    ]
    marks = [(1.02, 10), (1.05, 15), (1.2, 30)]

    assert [round(lag, 3) for lag in lags_of(marks, lines, BEFORE)] == [0.08, 0.2, 0.05]
