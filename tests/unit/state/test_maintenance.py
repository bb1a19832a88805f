# SPDX-License-Identifier: Apache-2.0
"""A director leaves, is drained, and comes back: the states, and who may leave."""

from __future__ import annotations

import pytest

from xdpdirector.errors import ConflictError, NotFoundError
from xdpdirector.model.fleet import DrainState
from xdpdirector.model.status import utc_now
from xdpdirector.state.maintenance import (
    QUIET,
    DirectorDrain,
    Order,
    Sight,
    require_known,
    require_successor,
)

ENABLED, DRAINING, DRAINED = DrainState
VIP = ("192.0.2.10",)
ORDER = Order("ann", "", utc_now())


def drained() -> DirectorDrain:
    """At 100 s, with 7 packets."""
    drain = DirectorDrain()
    drain.order(True)
    drain.see(Sight(100.0 - QUIET, 0, 7))
    drain.see(Sight(100.0, 0, 7))
    assert drain.state is DRAINED
    return drain


def test_who_is_enabled_is_so_whatever_is_seen() -> None:
    drain = DirectorDrain()
    assert not drain.see(Sight(0.0, 0, 0))
    assert not drain.see(Sight(2 * QUIET, 0, 0))
    assert drain.state is ENABLED


@pytest.mark.parametrize(
    ("sights", "state", "obstacles"),
    [
        pytest.param([], DRAINING, ["it was not looked at yet"], id="not seen"),
        pytest.param(
            [Sight(0, 0, 5)],
            DRAINING,
            [f"it forwarded packets within the last {QUIET:.0f} s"],
            id="first look",
        ),
        pytest.param([Sight(0, 0, 5), Sight(QUIET, 0, 5)], DRAINED, [], id="quiet"),
        pytest.param(
            [Sight(0, 0, 5), Sight(QUIET, 0, 6)],
            DRAINING,
            [f"it forwarded packets within the last {QUIET:.0f} s"],
            id="a packet came",
        ),
        pytest.param(
            [Sight(0, 0, 5), Sight(1, 0, 6), Sight(1 + QUIET, 0, 6)], DRAINED, [], id="the last one"
        ),
        pytest.param(
            [Sight(0, 2, 5), Sight(QUIET, 1, 5)], DRAINING, ["1 flow is left on it"], id="a flow is left"
        ),
        pytest.param(
            [Sight(0, 2, 5), Sight(QUIET, 2, 5)], DRAINING, ["2 flows are left on it"], id="flows are left"
        ),
        pytest.param(
            [Sight(0, 0, 5, VIP), Sight(QUIET, 0, 5, VIP)],
            DRAINING,
            ["192.0.2.10 still stands on it"],
            id="a VIP stands there",
        ),
    ],
)
def test_it_is_drained_when_nothing_comes(
    sights: list[Sight], state: DrainState, obstacles: list[str]
) -> None:
    drain = DirectorDrain()
    assert drain.order(True)
    for sight in sights:
        drain.see(sight)
    assert (drain.state, drain.obstacles()) == (state, obstacles)


@pytest.mark.parametrize(
    "sight",
    [
        pytest.param(Sight(101.0, 0, 8), id="a packet"),
        pytest.param(Sight(101.0, 1, 7), id="a flow"),
        pytest.param(Sight(101.0, 0, 7, VIP), id="a VIP"),
    ],
)
def test_it_is_draining_again_when_something_comes_back(sight: Sight) -> None:
    drain = drained()
    assert drain.see(sight)
    assert drain.state is DRAINING
    assert drain.see(Sight(sight.at + QUIET, 0, sight.packets))
    assert drain.state is DRAINED


def test_it_is_told_once_that_nothing_changes() -> None:
    drain = drained()
    assert not drain.see(Sight(101.0, 0, 7))
    assert not drain.order(True)
    assert drain.state is DRAINED


def test_an_order_ends_it_in_each_state_and_the_next_begins_anew() -> None:
    drain = drained()
    assert drain.order(False)
    assert not drain.order(False)
    assert drain.state is ENABLED
    assert drain.order(True)
    assert (drain.state, drain.at_start, drain.last) == (DRAINING, 0, None)
    assert drain.order(False)
    assert drain.state is ENABLED


def test_progress_has_the_most_flows_and_the_rate() -> None:
    drain = DirectorDrain()
    drain.order(True)
    for sight in (Sight(0, 3, 100), Sight(2, 4, 150), Sight(3, 1, 160)):
        drain.see(sight)
    assert (drain.at_start, drain.packets_per_second) == (4, 10.0)


def test_only_a_known_director_leaves() -> None:
    require_known("d1", {"d1": True}, {})
    require_known("d2", {"d1": True}, {"d2": ORDER})
    with pytest.raises(NotFoundError, match="no director 'd3' is known: there are d1, d2"):
        require_known("d3", {"d1": True}, {"d2": ORDER})


@pytest.mark.parametrize(
    ("ready", "leaving"),
    [
        pytest.param({"d1": True}, [], id="alone"),
        pytest.param({"d1": True, "d2": True}, [], id="another is ready"),
        pytest.param({"d1": True, "d2": False, "d3": True}, ["d2"], id="one of two others"),
        pytest.param({"d1": False, "d2": True}, ["d1"], id="it leaves already"),
    ],
)
def test_a_director_leaves_to_another(ready: dict[str, bool], leaving: list[str]) -> None:
    require_successor("d1", ready, dict.fromkeys(leaving, ORDER))


@pytest.mark.parametrize(
    ("ready", "leaving"),
    [
        pytest.param({"d1": True, "d2": False}, [], id="the other is not ready"),
        pytest.param({"d1": True, "d2": True}, ["d2"], id="the other was asked just now"),
        pytest.param({"d1": True, "d2": True, "d3": False}, ["d2"], id="neither"),
    ],
)
def test_the_last_one_that_is_ready_stays(ready: dict[str, bool], leaving: list[str]) -> None:
    with pytest.raises(ConflictError, match="no other director is ready to take the traffic of 'd1'"):
        require_successor("d1", ready, dict.fromkeys(leaving, ORDER))
