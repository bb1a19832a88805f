# SPDX-License-Identifier: Apache-2.0
"""Who finds a place: nobody takes all, and who is in charge always gets in."""

from __future__ import annotations

import pytest

from xdpdirector.api.auth.identity import Peer
from xdpdirector.api.server.connection_limits import Guest, Guests, Room
from xdpdirector.errors import OverloadedError

ROOM = Room(tcp=4, address=3, strangers=3, unix=4, user=3, reserved=1)
ROOT, OPERATOR, OTHER = Peer(uid=0), Peer(uid=1000), Peer(uid=1001)


def address(number: int) -> Peer:
    return Peer(f"192.0.2.{number}", 1000)


def filled(guests: Guests, peer: Peer) -> int:
    """How many of these come in."""
    count = 0
    while not guests.refusal(peer):
        guests.enter(peer)
        count += 1
    return count


def known(guests: Guests, peer: Peer, *, privileged: bool = False) -> Guest:
    guest = guests.enter(peer)
    guest.introduce(privileged=privileged)
    return guest


def test_one_user_of_the_socket_leaves_places_for_others_and_for_root() -> None:
    guests = Guests(ROOM)

    assert filled(guests, OPERATOR) == ROOM.user
    assert filled(guests, OTHER) == ROOM.unix - ROOM.user
    assert filled(guests, ROOT) == ROOM.unix


def test_addresses_of_one_ipv6_network_are_one_place() -> None:
    guests = Guests(ROOM)
    for number in range(ROOM.address):
        assert not guests.refusal(Peer(f"2001:db8:1::{number}"))
        known(guests, Peer(f"2001:db8:1::{number}"))

    assert "2001:db8:1::/64" in guests.refusal(Peer("2001:db8:1::ffff"))
    assert not guests.refusal(Peer("2001:db8:2::1"))


def test_the_oldest_stranger_goes_when_another_comes() -> None:
    guests, expelled = Guests(ROOM), list[int]()
    for number in range(ROOM.strangers + 1):
        guest = guests.enter(address(number))
        guest.expel = lambda number=number: expelled.append(number)  # type: ignore[misc]

    assert expelled == [0]


def test_strangers_take_no_place_of_who_has_said_who_it_is() -> None:
    guests, expelled = Guests(ROOM), list[str]()
    friend = known(guests, address(1))
    friend.expel = lambda: expelled.append("friend")

    for number in range(10 * ROOM.strangers):
        guests.enter(address(10 + number))

    assert expelled == []
    assert friend.is_inside


def test_an_administrator_finds_a_place_when_others_have_taken_all() -> None:
    guests = Guests(ROOM)
    for number in range(ROOM.tcp):
        known(guests, address(number))

    with pytest.raises(OverloadedError):
        known(guests, address(100))
    known(guests, address(101), privileged=True)


def test_who_leaves_makes_room_once() -> None:
    guests = Guests(ROOM)
    inside = [known(guests, address(number)) for number in range(ROOM.tcp)]

    inside[0].leave()
    inside[0].leave()
    known(guests, address(100))

    with pytest.raises(OverloadedError):
        known(guests, address(101))
