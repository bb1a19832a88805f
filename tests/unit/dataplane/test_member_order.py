# SPDX-License-Identifier: Apache-2.0
"""In which order backends stand in the list of members, and how often."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpdirector.dataplane.member_order import Order, ordered

EXACT = 32


def order(weights: list[int], *, is_drawn: bool = True, is_by_weight: bool = False) -> Order:
    return ordered(weights, exact=EXACT, is_drawn=is_drawn, is_by_weight=is_by_weight)


@pytest.mark.parametrize(
    ("weights", "is_drawn"), [([1, 0, 9], True), ([1, 0] * 16, True), ([1, 0, 9] * 20, False)]
)
def test_few_stand_as_they_are_configured(weights: list[int], is_drawn: bool) -> None:
    assert order(weights, is_drawn=is_drawn) == (list(range(len(weights))), 0)


def test_those_that_rest_stand_last() -> None:
    places, resting = order([0] * 5 + [1] * 35)

    assert (places, resting) == ([*range(5, 40), *range(5)], 5)


def test_the_highest_weight_stands_first() -> None:
    places, resting = order([*range(40)], is_by_weight=True)

    assert (places, resting) == ([*range(39, 0, -1), 0], 1)


def test_a_weight_of_ten_times_the_mean_stands_three_times() -> None:
    weights = [10] * 99 + [100]  # the mean is 10.9

    assert Counter(order(weights).places)[99] == 3


@given(st.lists(st.integers(0, 65535), max_size=300))
def test_all_are_there_and_a_quarter_more_is_enough(weights: list[int]) -> None:
    places, resting = order(weights)

    assert set(places) == set(range(len(weights)))
    assert len(places) <= len(weights) + len(weights) // 4
    assert resting in (0, weights.count(0))
    assert all(weights[number] for number in places[: len(places) - resting]) or len(weights) <= EXACT
