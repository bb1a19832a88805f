# SPDX-License-Identifier: Apache-2.0
"""Whoever sets the wall clock is noticed; a clock that only drifts is not."""

import pytest

from xdpdirector.control.clock_steps import WallClock
from xdpdirector.control.events import Events


class Clocks:
    def __init__(self) -> None:
        self.wall, self.monotonic = 1_700_000_000.0, 100.0

    def pass_(self, seconds: float, wall: float | None = None) -> None:
        self.monotonic += seconds
        self.wall += seconds if wall is None else wall


@pytest.mark.parametrize(
    ("jump", "words"),
    [
        (3700.0, "jumped by 1:01:40 forward"),
        (-7200.0, "jumped by 2:00:00 back"),
        (-172_800.0, "jumped by 2 days, 0:00:00 back"),
        (1.5, ""),
        (-1.5, ""),
    ],
)
def test_a_jump_is_told_once(jump: float, words: str) -> None:
    clocks, events = Clocks(), Events()
    watch = WallClock(events, lambda: clocks.wall, lambda: clocks.monotonic)

    clocks.pass_(1.0)
    watch.look()
    clocks.pass_(1.0, wall=1.0 + jump)
    for _ in range(3):
        watch.look()
        clocks.pass_(1.0)

    told = [(event.kind, event.text) for event in events.since(0)[1]]
    assert [kind for kind, _ in told] == (["director.clock-jumped"] if words else [])
    assert all(words in text for _, text in told)


def test_a_clock_that_drifts_has_not_jumped() -> None:
    clocks, events = Clocks(), Events()
    watch = WallClock(events, lambda: clocks.wall, lambda: clocks.monotonic)

    for _ in range(1000):
        clocks.pass_(1.0, wall=1.0005)
        watch.look()

    assert not events.since(0)[1]
