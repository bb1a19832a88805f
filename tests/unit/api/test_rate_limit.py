# SPDX-License-Identifier: Apache-2.0
"""How often and how much at once: buckets that fill with time, and places that are given back."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from xdpdirector.api.auth.rate_limit import KEYS, ConcurrencyLimiter, RateLimiter
from xdpdirector.errors import OverloadedError, TooManyRequestsError


class Watch:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def taken(rates: RateLimiter, key: str, times: int) -> int:
    """How many of so many were given."""
    given = 0
    for _ in range(times):
        try:
            rates.take(key)
        except TooManyRequestsError:
            continue
        given += 1
    return given


def test_a_burst_is_given_at_once_and_then_the_rate() -> None:
    watch = Watch()
    rates = RateLimiter(rate=10, burst=20, now=watch)

    at_once = taken(rates, "one", 50)
    watch.now += 1.0
    in_a_second = taken(rates, "one", 50)
    watch.now += 60.0
    after_a_rest = taken(rates, "one", 50)

    assert (at_once, in_a_second, after_a_rest) == (20, 10, 20)


def test_nobody_pays_for_another() -> None:
    rates = RateLimiter(rate=10, burst=20, now=Watch())
    taken(rates, "one", 50)

    assert taken(rates, "two", 50) == 20


@pytest.mark.parametrize(("rate", "wait"), [(10, 1), (0.1, 10)])
def test_a_refusal_says_when_to_come_back(rate: float, wait: int) -> None:
    watch = Watch()
    rates = RateLimiter(rate=rate, burst=1, now=watch)
    rates.take("one")

    with pytest.raises(TooManyRequestsError) as refusal:
        rates.take("one")
    watch.now += refusal.value.retry_after

    assert refusal.value.retry_after == wait
    rates.take("one")


def test_many_who_ask_cost_no_more_memory_than_some() -> None:
    rates = RateLimiter(rate=1, burst=1, now=Watch())

    for number in range(3 * KEYS):
        rates.take(str(number))

    assert len(rates) == KEYS


def test_places_are_given_back() -> None:
    under_way = ConcurrencyLimiter(each=1, in_all=2, reserved=0)

    for _ in range(3):
        with under_way.one("one"), under_way.one("two"):
            pass


def test_one_who_asks_has_so_many_places() -> None:
    under_way = ConcurrencyLimiter(each=2, in_all=10, reserved=0)

    with (
        under_way.one("one"),
        under_way.one("one"),
        under_way.one("two"),
        pytest.raises(TooManyRequestsError),
        under_way.one("one"),
    ):
        pass


def test_all_together_have_so_many_places() -> None:
    under_way = ConcurrencyLimiter(each=2, in_all=3, reserved=0)
    with ExitStack() as stack:
        for key in ("one", "two", "three"):
            stack.enter_context(under_way.one(key))

        with pytest.raises(OverloadedError) as refusal, under_way.one("four"):
            pass

    assert not isinstance(refusal.value, TooManyRequestsError)
