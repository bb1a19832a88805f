# SPDX-License-Identifier: Apache-2.0
"""Which MACs are this machine's, and how the table of them changes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from xdpdirector.net.interfaces import Interface, Tag
from xdpdirector.net.own_macs import (
    FORMER_FOR,
    NO_MAC,
    FormerMacs,
    any_own,
    covered,
    own_macs,
    write,
)

ROOM = 4
TABLE = np.dtype([("known", "u8"), ("macs", "u8", (ROOM,))])


def mac(number: int) -> bytes:
    return bytes((2, 0, 0, 0, 0, number))


def link(name: str, index: int, *, lower: int = 0, master: int = 0, tag: Tag | None = None) -> Interface:
    return Interface(name, index, mac(index), True, lower=lower, master=master, vlan=tag)


LO = Interface("lo", 1, b"", True)
ETH0, ETH1 = link("eth0", 2), link("eth1", 3)
VLAN = link("eth0.7", 4, lower=2, tag=Tag(7))
VRRP = link("vrrp.7", 5, lower=4)
OTHER = link("dummy0", 6)
BOND, SLAVE1, SLAVE2 = link("bond0", 7), link("eth2", 8, master=7), link("eth3", 9, master=7)
BRIDGE, PORT, TAP = link("br0", 10), link("eth4", 11, master=10), link("tap0", 12, master=10)
LINKS = [LO, ETH0, ETH1, VLAN, VRRP, OTHER, BOND, SLAVE1, SLAVE2, BRIDGE, PORT, TAP]


@pytest.mark.parametrize(
    ("carrying", "expected"),
    [
        (["eth1"], [3]),
        (["eth0"], [2, 4, 5]),
        (["eth1", "eth0"], [3, 2, 4, 5]),
        (["eth0.7"], [4, 2, 5]),
        (["bond0"], [7, 8, 9]),
        (["eth2"], [8, 7]),
        (["eth4"], [11, 10]),
        (["gone"], []),
        (["lo"], []),
    ],
    ids=[
        "alone",
        "stacked",
        "two arms",
        "on a VLAN",
        "bond",
        "port of a bond",
        "port of a bridge",
        "gone",
        "lo",
    ],
)
def test_macs_are_those_that_the_kernel_takes_frames_for(carrying: list[str], expected: list[int]) -> None:
    assert own_macs(LINKS, carrying) == [mac(number) for number in expected]


@pytest.mark.parametrize(
    ("carrying", "expected"),
    [
        pytest.param(["eth0"], ["eth0", "eth0.7", "vrrp.7"], id="stacked"),
        pytest.param(["eth0.7"], ["eth0.7", "vrrp.7"], id="not the one below a VLAN device"),
        pytest.param(["vrrp.7"], ["vrrp.7"], id="nor those below a macvlan"),
        pytest.param(["bond0"], ["bond0", "eth2", "eth3"], id="ports"),
        pytest.param(["eth2"], ["eth2", "bond0"], id="port"),
        pytest.param(["gone"], [], id="gone"),
    ],
)
def test_interfaces_of_which_the_program_sees_all_frames(carrying: list[str], expected: list[str]) -> None:
    assert [link.name for link in covered(LINKS, carrying)] == expected


def test_a_mac_that_two_have_stands_once() -> None:
    twin = Interface("eth0.8", 20, ETH0.mac, True, lower=2, vlan=Tag(8))

    assert own_macs([ETH0, twin], ["eth0"]) == [ETH0.mac]


def shown(table: np.ndarray) -> set[bytes]:
    return {int(word).to_bytes(6, "little") for word in table["macs"][0] if word != NO_MAC}


def test_the_table_holds_what_it_was_told_and_the_first_stays_first() -> None:
    table = np.zeros(1, TABLE)

    for numbers in ([1, 2, 3], [1, 3], [1, 4, 5, 6], [1, 6], [1, 7, 8, 9]):
        write(table, [mac(number) for number in numbers])

        assert shown(table) == {mac(number) for number in numbers}
        assert any_own(table) == mac(1)


class Watched:
    """A place in the table that says what stands there after each write."""

    def __init__(self, words: list[int], history: list[set[int]]) -> None:
        self._words, self._history = words, history

    def tolist(self) -> list[int]:
        return list(self._words)

    def __len__(self) -> int:
        return len(self._words)

    def __setitem__(self, place: int, word: int) -> None:
        self._words[place] = word
        self._history.append(set(self._words))


def test_no_mac_that_stays_is_missing_in_between() -> None:
    words, history = [1, 2, 3, 4], [{1, 2, 3, 4}]

    write(
        {"known": [1], "macs": [Watched(words, history)]},
        [number.to_bytes(6, "little") for number in (4, 1, 9)],
    )

    assert history[-1] == {NO_MAC, 1, 4, 9}
    assert all({1, 4} <= state for state in history)
    assert all(len(before ^ after) <= 2 for before, after in pairwise(history))


@pytest.mark.parametrize("count", [0, ROOM + 1], ids=["none", "too many"])
def test_what_cannot_be_told_is_not_known(count: int) -> None:
    table = np.zeros(1, TABLE)
    write(table, [mac(1)])

    write(table, [mac(number) for number in range(count)])

    assert int(table["known"][0]) == 0
    assert any_own(table) is None


@pytest.mark.parametrize(("count", "left"), [(0, 2), (ROOM - 2, 2), (ROOM - 1, 1), (ROOM, 0)])
def test_former_macs_take_the_room_that_is_left_the_latest_first(count: int, left: int) -> None:
    table = np.zeros(1, TABLE)
    present, former = [mac(number) for number in range(1, count + 1)], [mac(20), mac(21)]

    write(table, present, former)

    assert shown(table) - {bytes(6)} == (set(present) | set(former[:left]) if present else set())
    assert bool(table["known"][0]) is bool(present)


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_what_an_interface_had_for_a_mac_is_ours_for_a_while() -> None:
    clock = Clock()
    former = FormerMacs(["eth0"], clock)
    assert former.see(LINKS) == []

    assert former.see([replace(ETH0, mac=mac(30)), ETH1]) == [ETH0.mac]
    clock.seconds += FORMER_FOR / 2
    assert former.see([replace(ETH0, mac=mac(31)), ETH1]) == [mac(30), ETH0.mac]
    clock.seconds += FORMER_FOR / 2
    assert former.see([replace(ETH0, mac=mac(31)), ETH1]) == [mac(30)]
    clock.seconds += FORMER_FOR / 2
    assert former.see([replace(ETH0, mac=mac(31)), ETH1]) == []


def test_a_mac_that_comes_back_is_former_no_more_and_the_one_before_it_is() -> None:
    former = FormerMacs(["eth0"], Clock())
    former.see([ETH0])
    former.see([replace(ETH0, mac=mac(30))])

    assert former.see([ETH0]) == [mac(30)]


def test_an_interface_that_is_made_anew_had_the_mac_of_the_one_before_it() -> None:
    former = FormerMacs(["eth0"], Clock())
    former.see([ETH0])
    former.see([])

    assert former.see([replace(ETH0, index=40, mac=mac(30))]) == [ETH0.mac]


def test_the_mac_of_a_virtual_router_that_moved_is_not_ours() -> None:
    former = FormerMacs(["eth0"], Clock())
    former.see([ETH0, VLAN, VRRP])

    assert former.see([ETH0, VLAN]) == []
    assert former.see([ETH0, replace(VLAN, mac=mac(30))]) == []
