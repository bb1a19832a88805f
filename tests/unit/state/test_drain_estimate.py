# SPDX-License-Identifier: Apache-2.0
"""How far a drain is, and when it will end."""

from __future__ import annotations

from datetime import UTC, datetime
from math import log

import pytest

from xdpdirector.state.drain_estimate import WINDOW, Progress, Sample
from xdpdirector.state.drains import Drain
from xdpdirector.system.boot_time import Moment, Now

NOON = datetime(2025, 1, 1, 12, 0, tzinfo=UTC)
NOW = Now(1000.0, NOON)
BEGAN = Moment(*NOW).later(-90)


def seen(*samples: tuple[float, int, int]) -> Progress:
    """Second, connections, packets."""
    progress = Progress()
    for sample in samples:
        progress.see(Sample(*sample))
    return progress


@pytest.mark.parametrize(
    ("progress", "rate"),
    [
        pytest.param(seen(), None, id="nothing seen"),
        pytest.param(seen((0, 5, 100)), None, id="one look"),
        pytest.param(seen((0, 5, 100), (2, 5, 300)), 100.0, id="two looks"),
        pytest.param(
            seen(*((t, 5, 100 * t) for t in range(50)), (50, 5, 4900)), 75.0, id="the last few seconds"
        ),
        pytest.param(seen((0, 5, 1000), (1, 5, 0)), 0.0, id="counted anew"),
    ],
)
def test_packets_a_second(progress: Progress, rate: float | None) -> None:
    assert progress.packets_per_second == rate


@pytest.mark.parametrize(
    ("progress", "remaining", "seconds"),
    [
        pytest.param(seen((0, 5, 0)), 0, 0.0, id="none left"),
        pytest.param(seen((0, 5, 0)), 5, None, id="one look"),
        pytest.param(seen((0, 5, 0), (10, 5, 0)), 5, None, id="none ends"),
        pytest.param(seen((0, 3, 0), (10, 5, 0)), 5, None, id="more than before"),
        pytest.param(seen((0, 2, 0), (10, 1, 0)), 1, 10 / log(2), id="the last one lives a mean life more"),
        pytest.param(
            seen((0, 4, 0), (10, 2, 0)), 2, 1.5 * 10 / log(2), id="two: a half life and a whole one"
        ),
        pytest.param(
            seen((0, 2000, 0), (10, 1000, 0)),
            1000,
            sum(1 / n for n in range(1, 1001)) * 10 / log(2),
            id="many",
        ),
        pytest.param(
            seen((0, 999, 0), (WINDOW + 1, 4, 0), (WINDOW + 11, 2, 0)),
            2,
            1.5 * 10 / log(2),
            id="what was long ago counts no more",
        ),
    ],
)
def test_when_it_ends(progress: Progress, remaining: int, seconds: float | None) -> None:
    ends = progress.ends_in(remaining)

    assert ends == (None if seconds is None else pytest.approx(seconds, rel=0.001))


def drain(**changes: object) -> Drain:
    plain: dict[str, object] = {
        "since": BEGAN,
        "reason": "new memory",
        "deadline": None,
        "on_deadline": "keep",
        "at_start": 4,
    }
    return Drain(**{**plain, **changes})  # type: ignore[arg-type]


HALVED = seen((0, 4, 0), (10, 2, 50))
SOON = Moment(*NOW).later(5)


def test_a_view_tells_all_that_can_be_known() -> None:
    view = drain().view(2, True, HALVED, NOW)

    assert (view.connections_at_start, view.remaining, view.packets_per_second) == (4, 2, 5.0)
    assert view.oldest_at_least == 90.0
    assert view.estimated_end
    assert (view.estimated_end - NOON).total_seconds() == pytest.approx(1.5 * 10 / log(2))


@pytest.mark.parametrize(
    ("changes", "remaining", "settled", "end"),
    [
        pytest.param({}, 2, False, None, id="some may be unseen"),
        pytest.param({"deadline": SOON, "on_deadline": "cut"}, 2, True, SOON.wall, id="cut before that"),
        pytest.param(
            {"deadline": SOON, "on_deadline": "cut"}, 2, False, SOON.wall, id="cut, and some unseen"
        ),
        pytest.param({}, 0, True, NOON, id="done"),
    ],
)
def test_the_end_is_told_when_something_says_so(
    changes: dict[str, object], remaining: int, settled: bool, end: datetime | None
) -> None:
    assert drain(**changes).view(remaining, settled, HALVED, NOW).estimated_end == end


def test_a_ring_counts_more_than_it_knew_at_the_start() -> None:
    """Flows show themselves as records one after the other."""
    view = drain(at_start=0).view(2, False, HALVED, NOW)

    assert view.connections_at_start == 4


def test_nothing_that_is_left_has_an_age_when_nothing_is_left() -> None:
    assert drain().view(0, True, HALVED, NOW).oldest_at_least is None
