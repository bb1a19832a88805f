# SPDX-License-Identifier: Apache-2.0
"""Who finds a place: nobody takes all, and who is in charge always gets in."""

from __future__ import annotations

import pytest

from xdpdirector.api.auth.identity import Peer
from xdpdirector.api.server.connection_limits import AdmittedConnection, ConnectionCounts, ConnectionLimits
from xdpdirector.errors import OverloadedError

LIMITS = ConnectionLimits(tcp=4, address=3, unauthenticated=3, unix=4, user=3, reserved=1)
ROOT, OPERATOR, OTHER = Peer(uid=0), Peer(uid=1000), Peer(uid=1001)


def address(number: int) -> Peer:
    return Peer(f"192.0.2.{number}", 1000)


def filled(counts: ConnectionCounts, peer: Peer) -> int:
    """How many of these come in."""
    count = 0
    while not counts.refusal(peer):
        counts.enter(peer)
        count += 1
    return count


def known(counts: ConnectionCounts, peer: Peer, *, privileged: bool = False) -> AdmittedConnection:
    admitted = counts.enter(peer)
    admitted.authenticated(privileged=privileged)
    return admitted


def test_one_user_of_the_socket_leaves_places_for_others_and_for_root() -> None:
    counts = ConnectionCounts(LIMITS)

    assert filled(counts, OPERATOR) == LIMITS.user
    assert filled(counts, OTHER) == LIMITS.unix - LIMITS.user
    assert filled(counts, ROOT) == LIMITS.unix


def test_addresses_of_one_ipv6_network_are_one_place() -> None:
    counts = ConnectionCounts(LIMITS)
    for number in range(LIMITS.address):
        assert not counts.refusal(Peer(f"2001:db8:1::{number}"))
        known(counts, Peer(f"2001:db8:1::{number}"))

    assert "2001:db8:1::/64" in counts.refusal(Peer("2001:db8:1::ffff"))
    assert not counts.refusal(Peer("2001:db8:2::1"))


def test_the_oldest_stranger_goes_when_another_comes() -> None:
    counts, expelled = ConnectionCounts(LIMITS), list[int]()
    for number in range(LIMITS.unauthenticated + 1):
        admitted = counts.enter(address(number))
        admitted.abort = lambda number=number: expelled.append(number)  # type: ignore[misc]

    assert expelled == [0]


def test_strangers_take_no_place_of_who_has_said_who_it_is() -> None:
    counts, expelled = ConnectionCounts(LIMITS), list[str]()
    friend = known(counts, address(1))
    friend.abort = lambda: expelled.append("friend")

    for number in range(10 * LIMITS.unauthenticated):
        counts.enter(address(10 + number))

    assert expelled == []
    assert friend.is_open


def test_an_administrator_finds_a_place_when_others_have_taken_all() -> None:
    counts = ConnectionCounts(LIMITS)
    for number in range(LIMITS.tcp):
        known(counts, address(number))

    with pytest.raises(OverloadedError):
        known(counts, address(100))
    known(counts, address(101), privileged=True)


def test_who_leaves_makes_room_once() -> None:
    counts = ConnectionCounts(LIMITS)
    inside = [known(counts, address(number)) for number in range(LIMITS.tcp)]

    inside[0].leave()
    inside[0].leave()
    known(counts, address(100))

    with pytest.raises(OverloadedError):
        known(counts, address(101))
