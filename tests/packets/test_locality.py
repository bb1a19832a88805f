# SPDX-License-Identifier: Apache-2.0
"""lblc and lblcr: who has a VIP's new connections, as net/netfilter/ipvs/ip_vs_lblc.c and ip_vs_lblcr.c say."""

from __future__ import annotations

from collections import Counter

import pytest
from scapy.layers.inet import IP
from scapy.packet import Packet

import tests.support.world as w
from xdpdirector.dataplane.service_plan import MemberPlan, ServicePlan
from xdpdirector.model import Listener, Scheduler

OTHER_VIP = "192.0.2.11"
A_DAY, AN_HOUR = 24 * 3600.0, 3600.0
BOTH = ["lblc", "lblcr"]


def member(name: str, **changes: object) -> MemberPlan:
    return w.backend(name, **{"weight": 4} | changes)


ALL = tuple(member(name) for name in ("web1", "web2", "web3"))


def plan(scheduler: str, members: tuple[MemberPlan, ...] = ALL, **changes: object) -> ServicePlan:
    listeners = tuple(Listener.parse(f"{vip}:80/tcp") for vip in (w.VIP, OTHER_VIP))
    return w.service(scheduler=Scheduler(scheduler), listeners=listeners, members=members, **changes)


def syn(sport: int, vip: str = w.VIP) -> Packet:
    frame = w.tcp("S", sport=sport)
    frame[IP].dst = vip
    return frame


def opened(world: w.World, count: int, first: int = 1, vip: str = w.VIP) -> list[str]:
    return [w.owner(world.send(syn(sport, vip))) for sport in range(first, first + count)]


def let_pass(world: w.World, seconds: float) -> None:
    """As if the sets of all VIPs had last changed so much earlier."""
    world.tables.fronts[:]["locality_changed"] -= world.clock.jiffies(seconds)


def test_a_vip_has_one_backend_until_it_is_overloaded(world: w.World) -> None:
    """More active connections than weight, 4, while somebody has less than half of that."""
    world.apply(plan("lblc"))

    owners = opened(world, 20)

    assert owners == ["web1"] * 5 + ["web2"] * 5 + ["web3"] * 10


def test_replication_spreads_a_vip_over_those_that_it_needed(world: w.World) -> None:
    """Who is added helps those that were there, and the least loaded of them has each connection."""
    world.apply(plan("lblcr"))
    assert opened(world, 5) == ["web1"] * 5

    owners = opened(world, 10, first=10)

    assert owners == ["web2"] * 5 + ["web3"] * 5
    world.end_connection(1)  # of web1, which has the least then
    assert opened(world, 1, first=30) == ["web1"]
    assert Counter(opened(world, 6, first=40)) == {"web1": 2, "web2": 2, "web3": 2}


@pytest.mark.parametrize("scheduler", BOTH)
def test_each_vip_has_its_own(world: w.World, scheduler: str) -> None:
    """The other VIP's first connection is wlc's choice: not who has one already."""
    world.apply(plan(scheduler))

    assert opened(world, 1) == ["web1"]
    assert opened(world, 1, first=2, vip=OTHER_VIP) == ["web2"]

    assert opened(world, 2, first=10) == ["web1"] * 2
    assert opened(world, 2, first=20, vip=OTHER_VIP) == ["web2"] * 2


@pytest.mark.parametrize(("scheduler", "afterwards"), [("lblc", "web2"), ("lblcr", "web1")])
def test_a_backend_that_returns(world: w.World, scheduler: str, afterwards: str) -> None:
    """lblc has forgotten it. With lblcr it is one of two, and the one with less load."""
    world.apply(plan(scheduler))
    assert opened(world, 1) == ["web1"]

    world.apply(plan(scheduler, (member("web1", accepts=False), *ALL[1:])))
    assert opened(world, 2, first=10) == ["web2"] * 2
    world.apply(plan(scheduler))

    assert opened(world, 1, first=20) == [afterwards]


@pytest.mark.parametrize("scheduler", BOTH)
def test_a_full_backend_is_passed_over(world: w.World, scheduler: str) -> None:
    world.apply(plan(scheduler, (member("web1", upper=2, lower=2), *ALL[1:])))

    assert opened(world, 4) == ["web1"] * 2 + ["web2"] * 2


@pytest.mark.parametrize("scheduler", BOTH)
def test_who_is_down_for_a_vip_has_none_of_its_connections(world: w.World, scheduler: str) -> None:
    world.apply(plan(scheduler))
    assert opened(world, 1) == ["web1"]

    [vip] = [each.address for each in plan(scheduler).listeners if str(each.address) == w.VIP]
    world.apply(plan(scheduler, (member("web1", out=frozenset({vip})), *ALL[1:])))

    assert opened(world, 2, first=10) == ["web2"] * 2
    assert opened(world, 1, first=20, vip=OTHER_VIP) == ["web3"]  # wlc's: it has none yet


@pytest.mark.parametrize("scheduler", BOTH)
def test_who_takes_the_place_of_a_removed_backend_does_not_take_its_vip(
    world: w.World, scheduler: str
) -> None:
    world.apply(plan(scheduler, ALL[:2]))
    assert opened(world, 1) == ["web1"]
    world.apply(plan(scheduler, ALL[1:2]))

    world.apply(plan(scheduler, (ALL[1], member("web3"))))

    assert world.plane.indices.places["web"] == {"web2": 1, "web3": 0}  # web1's
    assert opened(world, 2, first=10) == ["web2"] * 2


def test_a_set_that_has_not_changed_for_a_day_loses_the_one_with_the_highest_load(world: w.World) -> None:
    world.apply(plan("lblcr", ALL[:2]))
    assert Counter(opened(world, 7)) == {"web1": 5, "web2": 2}
    let_pass(world, A_DAY - AN_HOUR)
    assert opened(world, 1, first=20) == ["web2"]
    assert sorted(world.tables.fronts[:]["locality"].sum(axis=1))[-1] == 0b11

    let_pass(world, 2 * AN_HOUR)
    assert opened(world, 1, first=30) == ["web2"]

    assert sorted(world.tables.fronts[:]["locality"].sum(axis=1))[-1] == 0b10  # web1 had 5 of 4
    for sport in (1, 2, 3, 4, 5):
        world.end_connection(sport)
    assert opened(world, 1, first=40) == ["web2"]  # though web1 has no connection
    let_pass(world, 2 * A_DAY)
    assert opened(world, 1, first=50) == ["web1"]  # web2 has 5: it joins again, as the last one never leaves
    assert sorted(world.tables.fronts[:]["locality"].sum(axis=1))[-1] == 0b11


@pytest.mark.parametrize("scheduler", BOTH)
def test_the_fallback_serves_when_nobody_else_does(world: w.World, scheduler: str) -> None:
    fallback = w.backend("web3", accepts=False)
    gone = tuple(member(name, accepts=False) for name in ("web1", "web2"))
    world.apply(plan(scheduler, (*gone, fallback), fallback="web3"))

    assert opened(world, 2) == ["web3"] * 2
    world.apply(plan(scheduler, gone))
    assert world.send(syn(10)).reason == "reject_empty"


@pytest.mark.parametrize("scheduler", BOTH)
def test_a_running_connection_stays_when_its_vip_goes_elsewhere(world: w.World, scheduler: str) -> None:
    world.apply(plan(scheduler))
    owners = opened(world, 8)

    acknowledged = [world.send(w.tcp("A", sport=sport)) for sport in range(1, 9)]

    assert set(owners) == {"web1", "web2"}
    assert [w.owner(outcome) for outcome in acknowledged] == owners
    assert {outcome.reason for outcome in acknowledged} == {"forward_connection"}
