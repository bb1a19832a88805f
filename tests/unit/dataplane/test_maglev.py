# SPDX-License-Identifier: Apache-2.0
"""The ring: everyone has a fair share, and nothing moves without need."""

import random
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdpdirector.dataplane import maglev
from xdpdirector.dataplane.maglev import NOBODY, Ring

SLOTS = 1021
NAMES = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,10}[A-Za-z0-9])?", fullmatch=True)
WEIGHTS = st.dictionaries(NAMES, st.integers(0, 20), min_size=1, max_size=10)
ANY_WEIGHTS = st.dictionaries(NAMES, st.integers(0, 65535), max_size=10)


def owners(ring: Ring) -> list[str | None]:
    return [ring.owner(slot) for slot in range(len(ring.owners))]


@given(ANY_WEIGHTS)
def test_shares_are_as_the_weights(weights: dict[str, int]) -> None:
    total, serving = sum(weights.values()), sum(weight > 0 for weight in weights.values())

    shares = maglev.table(weights, SLOTS).shares()

    assert set(shares) == {name for name, weight in weights.items() if weight}
    for name, share in shares.items():
        least = max(1, (SLOTS - serving) * weights[name] / total - 1)
        assert least <= share <= SLOTS * weights[name] / total + 1


@given(ANY_WEIGHTS, st.randoms(use_true_random=False))
def test_order_does_not_matter(weights: dict[str, int], chance: random.Random) -> None:
    items = list(weights.items())
    chance.shuffle(items)

    maglev._table.cache_clear()
    first = owners(maglev.table(weights, SLOTS))
    maglev._table.cache_clear()
    second = owners(maglev.table(dict(items), SLOTS))

    assert first == second


@given(WEIGHTS, NAMES, st.integers(1, 20))
def test_one_more_backend_moves_little_between_the_others(
    weights: dict[str, int], newcomer: str, weight: int
) -> None:
    others = {name: weight for name, weight in weights.items() if name != newcomer}
    before = owners(maglev.table(others, SLOTS))

    after = owners(maglev.table({**others, newcomer: weight}, SLOTS))

    moved = sum(
        old is not None and new not in (old, newcomer) for old, new in zip(before, after, strict=True)
    )
    assert moved <= 0.12 * SLOTS


@given(WEIGHTS, st.data())
def test_fill_moves_only_the_slots_of_who_is_not_eligible(
    weights: dict[str, int], data: st.DataObject
) -> None:
    eligible = data.draw(st.sets(st.sampled_from(sorted(weights))))
    usable = {name for name in eligible if weights[name]}
    whole = owners(maglev.table(weights, SLOTS))

    filled = owners(maglev.fill(weights, eligible, SLOTS))

    for before, after in zip(whole, filled, strict=True):
        assert after == before if before in usable else after in (usable or [None])


@pytest.mark.parametrize(
    ("slots", "backends", "most"),
    [(4093, 10, 0.02), (4093, 50, 0.03), (16381, 20, 0.01), (16381, 100, 0.02), (65537, 100, 0.01)],
)
def test_a_smaller_ring_moves_more_of_others_slots(slots: int, backends: int, most: float) -> None:
    """As docs/concepts.md has it."""
    weights = {f"web{number}": 1 for number in range(backends)}
    before = owners(maglev.table(weights, slots))
    after = owners(maglev.table({name: 1 for name in weights if name != "web1"}, slots))

    moved = sum(was != now and was != "web1" for was, now in zip(before, after, strict=True))

    assert moved <= most * slots


def test_fill_spreads_the_slots_of_one_that_went_over_the_others_by_weight() -> None:
    weights = {"web1": 1, "web2": 1, "web3": 2}

    shares = maglev.fill(weights, {"web1", "web3"}, 16381).shares()

    assert shares["web2"] == 0
    assert shares["web1"] / 16381 == pytest.approx(1 / 3, rel=0.05)


@pytest.mark.parametrize(
    ("weights", "eligible"),
    [
        pytest.param({}, set(), id="no backend"),
        pytest.param({"web1": 0}, {"web1"}, id="weight 0 only"),
        pytest.param({"web1": 1, "web2": 1}, set(), id="none eligible"),
        pytest.param({"web1": 1, "web2": 0}, {"web2"}, id="only weight 0 eligible"),
        pytest.param({"web1": 1}, {"stranger"}, id="only a stranger eligible"),
    ],
)
def test_nobody_owns_a_slot_when_nobody_can(weights: dict[str, int], eligible: set[str]) -> None:
    ring = maglev.fill(weights, eligible, SLOTS)

    assert set(owners(ring)) == {None}
    assert ring.owners.shape == (SLOTS,)
    assert (ring.owners == NOBODY).all()


def test_a_tiny_weight_beside_a_huge_one_owns_one_slot() -> None:
    shares = maglev.table({"small": 1, "huge": 65535}, SLOTS).shares()

    assert shares == {"small": 1, "huge": SLOTS - 1}


def test_more_backends_than_slots_leave_some_without() -> None:
    shares = maglev.table({f"web{number}": 1 for number in range(256)}, 251).shares()

    assert sorted(set(shares.values())) == [0, 1]
    assert sum(shares.values()) == 251


@pytest.mark.parametrize("slots", [-3, 0, 1, 1000, 16384])
def test_a_ring_of_a_size_that_is_not_prime_is_refused(slots: int) -> None:
    with pytest.raises(ValueError, match="prime"):
        maglev.table({"web1": 1}, slots)


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="below 0"):
        maglev.table({"web1": -1}, SLOTS)


def test_a_shared_ring_cannot_be_written() -> None:
    ring = maglev.fill({"web1": 1, "web2": 2}, {"web1"}, SLOTS)

    with pytest.raises(ValueError, match="read-only"):
        ring.owners[0] = 1


def test_the_rings_of_all_releases_are_the_same() -> None:
    """Two directors of a pair may run different releases; a ring of another one would move every connection."""
    ring = maglev.fill({"web1": 1, "web2": 2, "web3": 3}, {"web1", "web3"}, 16381)

    digest = sha256(np.asarray(ring.owners, dtype="<i4").tobytes()).hexdigest()

    assert digest == "8625a4d6148e2d93e3d06e67069376bae8890143cafb887e9b0607652f5b6e3c"


def listing(weights: dict[str, int], slots: int) -> list[str]:
    """Listing 1 of the paper, word for word but for weights."""
    names = sorted(name for name, weight in weights.items() if weight)
    entry: list[str] = [""] * slots
    walks = {name: maglev._permutation(name, slots) for name in names}
    following = dict.fromkeys(names, 0)
    for who in maglev._turns([weights[name] for name in names], slots):
        (offset, skip), name = walks[names[who]], names[who]
        while entry[(offset + following[name] * skip) % slots]:
            following[name] += 1
        entry[(offset + following[name] * skip) % slots] = name
    return entry


@pytest.mark.parametrize("slots", [2, 7, 89, 251, SLOTS, 16381])
@given(WEIGHTS.filter(lambda weights: any(weights.values())))
@settings(max_examples=settings.default.max_examples // 5)
def test_the_ring_is_that_of_the_paper(slots: int, weights: dict[str, int]) -> None:
    assert owners(maglev.table(weights, slots)) == listing(weights, slots)
