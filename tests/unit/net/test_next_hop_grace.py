# SPDX-License-Identifier: Apache-2.0
"""What holds of a backend while the director's own network is at fault, moment by moment."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface

import pytest

from xdpdirector.net.interfaces import Interface
from xdpdirector.net.next_hop import Route
from xdpdirector.net.next_hop_grace import SETTLE, Grace

BACKEND, OTHER = ip_address("192.0.2.21"), ip_address("192.0.2.22")
MAC, ETH0_MAC, NEW_MAC = (bytes.fromhex(f"0200000000{last}") for last in ("21", "02", "aa"))
OWN = ip_interface("192.0.2.2/24")
ETH0 = Interface("eth0", 2, ETH0_MAC, True, (OWN,))
SOUND = Route("neighbour", MAC, ETH0_MAC, ETH0.index, "eth0")
SILENT = Route("unresolved", ifindex=2, interface="eth0", why="192.0.2.21 does not answer ARP on eth0")
NO_ROUTE = Route("off-link", why="no route leads to 192.0.2.21", fault="no route leads to 192.0.2.21")
GATEWAY = Route("off-link", ifindex=3, interface="eth1", why="behind a gateway", fault="behind a gateway")
NO_CARRIER = replace(SILENT, why="no carrier", fault="no carrier")
GRACE = 10.0

DOWN = replace(ETH0, up=False)
BARE = replace(ETH0, networks=())
ANEW = replace(ETH0, index=7)


def links(*these: Interface) -> dict[int, Interface]:
    return {link.index: link for link in these}


@pytest.fixture
def grace() -> Grace:
    made = Grace(GRACE)
    made.see(BACKEND, SOUND, links(ETH0), 0.0)
    return made


@pytest.mark.parametrize(
    ("found", "present", "why", "is_cut"),
    [
        pytest.param(NO_ROUTE, BARE, "the address 192.0.2.2/24 is gone from eth0", False, id="address"),
        pytest.param(NO_ROUTE, ETH0, "no route leads to 192.0.2.0/24 by eth0 any more", False, id="route"),
        pytest.param(GATEWAY, BARE, "the address 192.0.2.2/24 is gone from eth0", False, id="only a gateway left"),
        pytest.param(NO_CARRIER, DOWN, "interface eth0 is down or has no carrier", True, id="carrier"),
    ],
)  # fmt: skip
def test_the_last_mac_serves_while_the_director_is_at_fault(
    grace: Grace, found: Route, present: Interface, why: str, is_cut: bool
) -> None:
    used = grace.see(BACKEND, found, links(present), 1.0)

    assert used.route == replace(SOUND, why=why, fault=why, is_cut=is_cut, is_held=True)
    assert used.look_again == 1.0 + GRACE
    assert grace.faults() == [
        f"the director's own network is at fault, not a backend: {why}. "
        "192.0.2.21: what was known last holds, for 10 s at most"
    ]


def test_when_the_grace_is_over_no_frame_leaves_and_it_is_still_no_verdict(grace: Grace) -> None:
    grace.see(BACKEND, NO_ROUTE, links(BARE), 1.0)

    route, look_again = grace.see(BACKEND, NO_ROUTE, links(BARE), 1.0 + GRACE)

    assert (route.kind, route.mac, route.is_held, look_again) == ("unresolved", None, False, None)
    assert route.fault == "the address 192.0.2.2/24 is gone from eth0"
    assert grace.faults()[0].endswith(
        "no packet is sent there until this is mended, and no connection is reset"
    )


@pytest.mark.parametrize("present", [(), (ANEW,)], ids=["gone", "made anew"])
def test_without_its_interface_no_frame_leaves(grace: Grace, present: tuple[Interface, ...]) -> None:
    route, _ = grace.see(BACKEND, NO_ROUTE, links(*present), 1.0)

    assert (route.kind, route.mac, bool(route.fault)) == ("unresolved", None, True)
    assert (route.is_cut, route.is_held) == (True, True)


def test_the_time_begins_with_the_fault_and_a_second_one_has_its_own(grace: Grace) -> None:
    grace.see(BACKEND, NO_ROUTE, links(BARE), 1.0)
    grace.see(BACKEND, NO_CARRIER, links(DOWN), 9.0)
    assert grace.see(BACKEND, NO_CARRIER, links(DOWN), 11.0).route.mac is None

    grace.see(BACKEND, SOUND, links(ETH0), 12.0)

    assert grace.see(BACKEND, NO_ROUTE, links(BARE), 13.0).look_again == 13.0 + GRACE


def test_a_mended_fault_leaves_time_to_find_the_mac_again(grace: Grace) -> None:
    grace.see(BACKEND, NO_ROUTE, links(BARE), 1.0)
    mended = GRACE  # a second before the grace is over

    used = grace.see(BACKEND, SILENT, links(ETH0), mended)
    late = grace.see(BACKEND, SILENT, links(ETH0), mended + SETTLE)

    assert (used.route.mac, used.look_again) == (MAC, mended + SETTLE)
    assert grace.faults() == []
    assert (late.route.fault, late.route) == ("", SILENT)


def test_after_a_long_fault_no_connection_is_reset_before_the_mac_was_asked_for(grace: Grace) -> None:
    grace.see(BACKEND, NO_ROUTE, links(BARE), 1.0)
    grace.see(BACKEND, NO_ROUTE, links(BARE), 100.0)

    used = grace.see(BACKEND, SILENT, links(ETH0), 101.0)

    assert (used.route.mac, bool(used.route.fault), used.look_again) == (None, True, 101.0 + SETTLE)
    assert used.route.is_held


def test_another_mac_of_the_director_is_used_at_once(grace: Grace) -> None:
    changed = replace(BARE, mac=NEW_MAC)

    assert grace.see(BACKEND, NO_ROUTE, links(changed), 1.0).route.source_mac == NEW_MAC


def test_a_backend_that_was_silent_before_the_fault_is_not_revived_by_it(grace: Grace) -> None:
    assert grace.see(BACKEND, SILENT, links(ETH0), 1.0).route == SILENT

    route, look_again = grace.see(BACKEND, NO_ROUTE, links(BARE), 2.0)

    assert (route, look_again) == (NO_ROUTE, None)
    assert grace.faults() == []


def test_what_was_found_is_used_at_once_also_the_directors_own_address(grace: Grace) -> None:
    grace.see(BACKEND, NO_ROUTE, links(BARE), 1.0)
    here = Route("local", ifindex=1, interface="lo", why="an address of this machine")

    assert grace.see(BACKEND, here, links(ETH0), 2.0).route == here


def test_backends_of_one_fault_are_named_together(grace: Grace) -> None:
    grace.see(OTHER, SOUND, links(ETH0), 0.0)
    for address in (BACKEND, OTHER):
        grace.see(address, NO_ROUTE, links(BARE), 1.0)

    [sentence] = grace.faults()

    assert "192.0.2.21, 192.0.2.22: what was known last holds" in sentence


def test_what_was_disturbed_when_is_kept(grace: Grace) -> None:
    blip = grace.disturb(BACKEND, SOUND, 3.0)
    assert grace.see(BACKEND, SOUND, links(ETH0), 4.0).route.disturbed == blip.disturbed == 3.0

    grace.see(BACKEND, NO_ROUTE, links(BARE), 5.0)

    assert grace.see(BACKEND, SOUND, links(ETH0), 6.0).route.disturbed == 6.0
    assert grace.see(BACKEND, SOUND, links(ETH0), 7.0).route.disturbed == 6.0


def test_a_full_neighbour_table_is_named_as_such(grace: Grace) -> None:
    full = replace(SILENT, why="the table is full", fault="the table is full")

    used = grace.see(BACKEND, full, links(ETH0), 1.0)

    assert (used.route.mac, used.route.fault) == (MAC, "the table is full")
