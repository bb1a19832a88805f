# SPDX-License-Identifier: Apache-2.0
"""The figures of docs/scheduling.md are those of the ring's code."""

import pytest

from dev import hashing


def test_what_stands_in_the_checkout_is_not_stale() -> None:
    text = hashing.DOCUMENT.read_text()

    assert text == hashing.document(text), "run ./lab hashing"


def test_enough_slots_share_as_the_paper_says() -> None:
    """ "Maglev", NSDI 2016, section 3.4: more than 100 slots for each backend, and shares differ by 1 % at most."""
    enough = [each for each in hashing.balances() if each.slots > 100 * each.backends]

    assert enough
    assert all(each.most - each.least <= 0.0101 for each in enough)


@pytest.mark.parametrize(("share", "move"), list(hashing.failures(4093, 50)))
def test_a_failure_moves_the_slots_of_those_that_failed_and_no_others(share: int, move: hashing.Move) -> None:
    assert move.mean == pytest.approx(move.needed)
