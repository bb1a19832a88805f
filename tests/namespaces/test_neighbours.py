# SPDX-License-Identifier: Apache-2.0
"""Neighbours over the real kernel: what is watched is resolved, and each change arrives while it is fresh."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address

import pytest

from tests.support.veth_pair import (
    ABSENT4,
    ABSENT6,
    DIRECTOR4,
    DIRECTOR6,
    DIRECTOR_MAC,
    FAR4,
    FAR6,
    OTHER_MAC,
    PEER4,
    PEER6,
    PEER_MAC,
    Pair,
    until,
)
from tests.support.watched_neighbours import FRESH, Watch, entry, story
from xdpdirector.model import Address
from xdpdirector.net.garp import announcement

pytestmark = [pytest.mark.root, pytest.mark.smoke]

both_families = pytest.mark.parametrize("peer", [PEER4, PEER6], ids=["IPv4", "IPv6"])


@both_families
def test_watched_neighbour_is_resolved_and_kept_by_the_kernel(pair: Pair, peer: Address) -> None:
    async def tell(watch: Watch) -> None:
        await watch.resolves(peer)

        route = watch.table.get(peer)
        assert (route.kind, route.mac, route.source_mac) == ("neighbour", PEER_MAC, DIRECTOR_MAC)
        assert (route.interface, route.why) == ("eth0", "")
        assert route.ifindex > 1
        assert "managed" in entry(pair.director, peer)

    story(pair.director, tell)

    assert "managed" not in entry(pair.director, peer)


@both_families
def test_unwatched_neighbour_becomes_ordinary(pair: Pair, peer: Address) -> None:
    async def tell(watch: Watch) -> None:
        await watch.resolves(peer)
        watch.table.unwatch(peer)
        watch.table.unwatch(peer)

        assert "managed" not in entry(pair.director, peer)
        assert PEER_MAC.hex(":") in entry(pair.director, peer)
        assert watch.table.get(peer).mac == PEER_MAC

    story(pair.director, tell)


@both_families
def test_changed_mac_is_news_at_once(pair: Pair, peer: Address) -> None:
    async def tell(watch: Watch) -> None:
        await watch.resolves(peer)
        pair.peer.set_mac(OTHER_MAC)

        pair.peer.send(announcement(peer, OTHER_MAC))

        assert await watch.becomes(peer, lambda route: route.mac == OTHER_MAC) < FRESH

    story(pair.director, tell)


@both_families
def test_silent_neighbour_becomes_unresolved_and_returns(pair: Pair, peer: Address) -> None:
    pair.quick_neighbours()
    length = 24 if peer.version == 4 else 64

    async def tell(watch: Watch) -> None:
        await watch.resolves(peer)

        pair.peer.ip("address", "delete", f"{peer}/{length}", "dev", "eth0")
        await watch.becomes(peer, lambda route: route.kind == "unresolved")
        assert str(peer) in watch.table.get(peer).why
        assert watch.table.get(peer).mac is None

        pair.peer.ip("address", "add", f"{peer}/{length}", "dev", "eth0")
        await watch.becomes(peer, lambda route: route.mac == PEER_MAC)

    story(pair.director, tell)


@dataclass(frozen=True)
class Loss:
    """Something that the director's own network loses: how, how it returns, and the words for it. `until_seen`: the
    kernel itself lets a second pass between two carrier events (net/core/link_watch.c)."""

    lose: Callable[[Pair], object]
    mend: Callable[[Pair], object]
    why: str
    is_cut: bool = False
    until_seen: Callable[[Pair], bool] = lambda pair: True


def add_own_addresses(pair: Pair) -> None:
    for address in (f"{DIRECTOR4}/24", f"{DIRECTOR6}/64"):
        pair.director.ip("address", "replace", address, "dev", "eth0")


def bring_up(pair: Pair) -> None:
    pair.director.ip("link", "set", "eth0", "up")
    add_own_addresses(pair)


def add_routes(pair: Pair) -> None:
    for network in ("192.0.2.0/24", "2001:db8::/64"):
        pair.director.ip("route", "add", network, "dev", "eth0")


def delete_routes(pair: Pair) -> None:
    for network in ("192.0.2.0/24", "2001:db8::/64"):
        pair.director.ip("route", "delete", network, "dev", "eth0")


def flush(pair: Pair) -> None:
    pair.director.ip("address", "flush", "dev", "eth0")


def flush_beside_a_default_route(pair: Pair) -> None:
    """The kernel would send all to the gateway then."""
    pair.director.ip("link", "add", "other", "type", "veth", "peer", "name", "end")
    for name in ("other", "end"):
        pair.director.ip("link", "set", name, "up")
    pair.director.ip("address", "add", "203.0.113.1/24", "dev", "other")
    pair.director.ip("route", "add", "default", "via", "203.0.113.2")
    pair.director.ip("-6", "address", "add", "2001:db8:1::1/64", "dev", "other", "nodad")
    pair.director.ip("-6", "route", "add", "default", "via", "2001:db8:1::2")
    flush(pair)


def has_no_carrier(pair: Pair) -> bool:
    return "LOWER_UP" not in pair.director.ip("link", "show", "eth0")


LOSSES = {
    "address": Loss(flush, add_own_addresses, "is gone from eth0"),
    "address beside a default route": Loss(
        flush_beside_a_default_route, add_own_addresses, "is gone from eth0"
    ),
    "route": Loss(delete_routes, add_routes, "by eth0 any more"),
    "carrier": Loss(
        lambda pair: pair.peer.ip("link", "set", "eth0", "down"),
        lambda pair: (
            pair.peer.ip("link", "set", "eth0", "up"),
            pair.peer.ip("address", "replace", f"{PEER6}/64", "dev", "eth0"),
        ),
        "eth0 is down or has no carrier",
        is_cut=True,
        until_seen=has_no_carrier,
    ),
    "interface down": Loss(
        lambda pair: pair.director.ip("link", "set", "eth0", "down"),
        bring_up,
        "eth0 is down or has no carrier",
        is_cut=True,
    ),
}
losses = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


@losses
@both_families
def test_what_the_director_itself_lost_is_no_verdict_on_a_neighbour(
    pair: Pair, loss: Loss, peer: Address
) -> None:
    """Its last MAC serves, and it is asked for anew as soon as that makes sense."""

    async def tell(watch: Watch) -> None:
        await watch.resolves(peer)

        loss.lose(pair)
        await until(lambda: loss.until_seen(pair), "the kernel noticing")
        assert await watch.becomes(peer, lambda route: loss.why in route.fault) < FRESH
        route = watch.table.get(peer)
        assert (route.kind, route.mac, route.is_cut) == ("neighbour", PEER_MAC, loss.is_cut)
        [sentence] = watch.table.faults()
        assert loss.why in sentence
        assert str(peer) in sentence

        seen = len(watch.changes)
        loss.mend(pair)
        await watch.becomes(peer, lambda route: not route.fault)
        assert "managed" in entry(pair.director, peer)
        assert all(route.mac == PEER_MAC for _, route in watch.changes[seen:])
        assert watch.table.faults() == []

    story(pair.director, tell)


def test_after_the_grace_no_frame_leaves_and_it_is_still_the_directors_fault(pair: Pair) -> None:
    async def tell(watch: Watch) -> None:
        await watch.resolves(PEER4)

        flush(pair)
        await watch.becomes(PEER4, lambda route: route.fault and route.mac is None)
        assert [route.mac for address, route in watch.changes if route.fault][:1] == [PEER_MAC]

        add_own_addresses(pair)
        await watch.becomes(PEER4, lambda route: route.mac == PEER_MAC and not route.fault)

    story(pair.director, tell, grace=0.5)


def test_an_address_that_is_back_at_once_leaves_a_mark(pair: Pair) -> None:
    """As when a network manager configures an interface anew: nobody sees it missing, and a check fails all the
    same."""

    async def tell(watch: Watch) -> None:
        await watch.resolves(PEER4)
        begun = asyncio.get_running_loop().time()
        assert watch.table.get(PEER4).disturbed < begun

        pair.director.ip("address", "delete", f"{DIRECTOR4}/24", "dev", "eth0")
        pair.director.ip("address", "add", f"{DIRECTOR4}/24", "dev", "eth0")

        await until(lambda: watch.table.get(PEER4).disturbed >= begun, "the mark")
        assert watch.table.get(PEER4).mac == PEER_MAC

    story(pair.director, tell)


def test_own_mac_change_is_news_at_once(pair: Pair) -> None:
    async def tell(watch: Watch) -> None:
        await watch.resolves(PEER4)

        pair.director.set_mac(OTHER_MAC)

        assert await watch.becomes(PEER4, lambda route: route.source_mac == OTHER_MAC) < FRESH

    story(pair.director, tell)


def test_directors_own_mac_is_never_given(pair: Pair) -> None:
    async def tell(watch: Watch) -> None:
        pair.director.ip(
            "neighbour",
            "add",
            str(ABSENT4),
            "lladdr",
            DIRECTOR_MAC.hex(":"),
            "dev",
            "eth0",
            "nud",
            "permanent",
        )

        watch.table.watch(ABSENT4)

        route = watch.table.get(ABSENT4)
        assert (route.kind, route.mac) == ("unresolved", None)
        assert "the director's own" in route.why

    story(pair.director, tell)


@pytest.mark.parametrize(
    ("address", "kind", "why"),
    [
        pytest.param(DIRECTOR4, "local", "an address of this machine", id="own IPv4"),
        pytest.param(DIRECTOR6, "local", "an address of this machine", id="own IPv6"),
        pytest.param(FAR4, "off-link", "behind the gateway 192.0.2.21 on eth0", id="IPv4 behind a gateway"),
        pytest.param(FAR6, "off-link", "behind the gateway 2001:db8::21 on eth0", id="IPv6 behind a gateway"),
        pytest.param(IPv4Address("203.0.113.5"), "off-link", "no route leads to", id="no route"),
        pytest.param(IPv4Address("203.0.113.129"), "off-link", "no route leads to", id="black hole"),
        pytest.param(
            IPv4Address("203.0.113.200"), "off-link", "not an Ethernet interface", id="loopback route"
        ),
        pytest.param(
            ABSENT4, "unresolved", "asking for its MAC address (ARP on eth0)", id="IPv4 without a host"
        ),
        pytest.param(
            ABSENT6,
            "unresolved",
            "asking for its MAC address (neighbour discovery on eth0)",
            id="IPv6 without a host",
        ),
    ],
)
def test_route_decides(pair: Pair, address: Address, kind: str, why: str) -> None:
    pair.director.ip("route", "add", "198.51.100.0/24", "via", str(PEER4))
    pair.director.ip("route", "add", "2001:db8:ffff::/48", "via", str(PEER6))
    pair.director.ip("route", "add", "blackhole", "203.0.113.128/26")
    pair.director.ip("route", "add", "203.0.113.192/26", "dev", "lo")

    async def tell(watch: Watch) -> None:
        unwatched = watch.table.get(address)
        watch.table.watch(address)

        route = watch.table.get(address)
        assert route.kind == unwatched.kind == kind
        assert why in route.why
        assert (route.mac, route.source_mac) == (None, None)

    story(pair.director, tell)


@pytest.mark.parametrize("absent", [ABSENT4, ABSENT6], ids=["IPv4", "IPv6"])
def test_who_is_asked_for_the_first_time_has_not_failed_yet(pair: Pair, absent: Address) -> None:
    async def tell(watch: Watch) -> None:
        watch.table.watch(absent)
        assert watch.table.get(absent).is_asked

        await watch.becomes(absent, lambda route: not route.is_asked)

        assert "does not answer" in watch.table.get(absent).why

    story(pair.director, tell)


@pytest.mark.parametrize("present", [PEER4, PEER6], ids=["IPv4", "IPv6"])
def test_of_who_answers_nobody_hears_that_it_does_not(pair: Pair, present: Address) -> None:
    async def tell(watch: Watch) -> None:
        await watch.resolves(present)

        assert [route for _, route in watch.changes if not (route.is_asked or route.mac)] == []

    story(pair.director, tell)


def test_changed_routes_are_followed(pair: Pair) -> None:
    async def tell(watch: Watch) -> None:
        watch.table.watch(FAR4)
        await watch.becomes(FAR4, lambda route: route.kind == "off-link")

        pair.director.ip("route", "add", "198.51.100.0/24", "dev", "eth0")
        assert await watch.becomes(FAR4, lambda route: route.kind == "unresolved") < FRESH

        pair.director.ip("address", "add", f"{FAR4}/32", "dev", "lo")
        assert await watch.becomes(FAR4, lambda route: route.kind == "local") < FRESH

    story(pair.director, tell)


def test_watching_twice_and_steady_state_are_no_news(pair: Pair) -> None:
    pair.quick_neighbours()

    async def tell(watch: Watch) -> None:
        await watch.resolves(PEER4)
        watch.table.watch(PEER4)
        states: set[str] = set()

        def probed() -> bool:
            states.update({"STALE", "DELAY", "PROBE", "REACHABLE"} & set(entry(pair.director, PEER4).split()))
            return len(states) > 1

        await until(probed, "the entry passing from state to state")
        pair.director.ip("route", "add", "198.51.100.0/24", "dev", "eth0")
        watch.table.watch(ABSENT4)
        await watch.becomes(ABSENT4, lambda route: route.kind == "unresolved")

        assert [address for address, _ in watch.changes] == [PEER4, PEER4, ABSENT4]

    story(pair.director, tell)
