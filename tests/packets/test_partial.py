# SPDX-License-Identifier: Apache-2.0
"""A backend that is down for some VIPs of its service: out for these alone; what ran elsewhere meanwhile stays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from ipaddress import ip_address

import pytest
from scapy.layers.inet import IP, TCP
from scapy.packet import Packet

import tests.support.world as w
from tests.support.ring_slots import flags, records, settle
from xdpdirector.dataplane import service_plan
from xdpdirector.dataplane.service_plan import MemberPlan, ServicePlan, State
from xdpdirector.dataplane.writer import Dataplane
from xdpdirector.model import Address, Listener, Persistence, Scheduler

NAMES = ("web1", "web2", "web3")
FLOWS = range(1, 61)
V4, V6, OTHER = (ip_address(text) for text in (w.VIP, w.VIP6, "192.0.2.11"))
PREFERRING = ("fo", "ovf", "dh", "lblc", "lblcr")  # they do not share connections among all; test_locality.py
SCHEDULERS = [scheduler.value for scheduler in Scheduler if scheduler not in PREFERRING]
RINGS = ["mh", "sh"]

Frame = Callable[..., Packet]


def other(flags: str = "S", sport: int = 1024) -> Packet:
    """To the service's second IPv4 VIP."""
    return w.ethernet() / IP(src=w.CLIENT, dst=str(OTHER)) / TCP(sport=sport, dport=80, flags=flags)


VIPS: dict[Address, Frame] = {V4: w.tcp, V6: w.tcp6, OTHER: other}
LISTENERS = (*w.LISTENERS, Listener.parse(f"{OTHER}:80/tcp"))


def pool(out: dict[str, Collection[Address]], names: Iterable[str] = NAMES, **changes: object) -> ServicePlan:
    """These backends, up but for the VIPs that `out` says."""
    members = tuple(w.backend(name, out=frozenset(out.get(name, ()))) for name in names)
    plain = {"listeners": LISTENERS, "members": members, "hashes_port": True, "ring_slots": 1021}
    return w.service(**{**plain, **changes})


def opened(world: w.World, frame: Frame, flows: Iterable[int] = FLOWS) -> dict[int, str]:
    """Open flows; who serves them."""
    return {sport: w.owner(world.send(frame("S", sport=sport))) for sport in flows}


def asked(world: w.World, frame: Frame, flows: Iterable[int] = FLOWS) -> dict[int, str]:
    """Who serves these running flows."""
    return {sport: w.owner(world.send(frame("PA", sport=sport))) for sport in flows}


def reasons(world: w.World, frame: Frame, flags: str, flows: Iterable[int]) -> set[str]:
    return {world.send(frame(flags, sport=sport)).reason for sport in flows}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("lost", VIPS, ids=str)
def test_new_connections_avoid_it_for_the_vip_that_it_lacks_alone(
    world: w.World, scheduler: str, lost: Address
) -> None:
    world.apply(pool({"web1": [lost]}, scheduler=Scheduler(scheduler)))

    by_vip = {vip: Counter(opened(world, frame).values()) for vip, frame in VIPS.items()}

    assert set(by_vip[lost]) == {"web2", "web3"}
    assert all("web1" in served for vip, served in by_vip.items() if vip != lost)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_running_connections_stay_when_it_loses_another_vip(world: w.World, scheduler: str) -> None:
    world.apply(pool({}, scheduler=Scheduler(scheduler)))
    before = {vip: opened(world, frame) for vip, frame in VIPS.items()}

    world.apply(pool({"web1": [OTHER]}, scheduler=Scheduler(scheduler)))

    for vip in (V4, V6):
        assert asked(world, VIPS[vip]) == before[vip]
    theirs = [sport for sport, name in before[OTHER].items() if name == "web1"]
    rest = {sport: name for sport, name in before[OTHER].items() if name != "web1"}
    assert reasons(world, other, "PA", theirs) == {"reject_down"}
    assert asked(world, other, rest) == rest


@pytest.mark.parametrize(
    ("on_down", "reason"),
    [("reject", "reject_down"), ("drop", "drop_down"), ("schedule", "forward_reopened")],
)
@pytest.mark.parametrize("scheduler", ["wlc", "mh"])
def test_what_runs_there_is_as_if_the_backend_were_down(
    world: w.World, scheduler: str, on_down: str, reason: str
) -> None:
    changes = {"scheduler": Scheduler(scheduler), "on_down": on_down}
    world.apply(pool({}, NAMES[:2], **changes))
    first, second, *_ = (sport for sport, name in opened(world, w.tcp6).items() if name == "web1")

    world.apply(pool({"web1": [V6]}, NAMES[:2], **changes))

    assert world.send(w.tcp6("PA", sport=first)).reason == reason
    assert w.owner(world.send(w.tcp6("S", sport=second))) == "web2"


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_what_was_opened_meanwhile_stays_when_the_vip_returns(world: w.World, scheduler: str) -> None:
    world.apply(pool({}, scheduler=Scheduler(scheduler)), now=0)
    before = opened(world, w.tcp)
    world.apply(pool({"web1": [V6]}, scheduler=Scheduler(scheduler)), now=1)
    meanwhile = opened(world, w.tcp6)
    settle(world, now=2)
    asked(world, w.tcp6)

    world.apply(pool({}, scheduler=Scheduler(scheduler)), now=3)

    for now in (4, 5):
        assert asked(world, w.tcp6) == meanwhile
        assert asked(world, w.tcp) == before
        settle(world, now)
    assert "web1" in opened(world, w.tcp6, range(1000, 1100)).values()


@pytest.mark.parametrize("scheduler", RINGS)
def test_datagrams_stay_with_who_got_them_meanwhile(world: w.World, scheduler: str) -> None:
    world.apply(pool({"web1": [V6]}, scheduler=Scheduler(scheduler)), now=0)
    meanwhile = {sport: w.owner(world.send(w.udp6(sport=sport))) for sport in FLOWS}

    world.apply(pool({}, scheduler=Scheduler(scheduler)), now=1)
    settle(world, now=2)

    assert set(meanwhile.values()) <= {"web2", "web3"}
    assert {sport: w.owner(world.send(w.udp6(sport=sport))) for sport in FLOWS} == meanwhile


@pytest.mark.parametrize("scheduler", RINGS)
def test_a_ring_needs_no_records_any_more_once_the_vip_is_back_and_they_have_ended(
    world: w.World, scheduler: str
) -> None:
    world.apply(pool({"web1": [V6]}, scheduler=Scheduler(scheduler)), now=0)
    opened(world, w.tcp6)
    settle(world, now=1)
    assert service_plan.EXCEPTIONS in flags(world)

    world.apply(pool({}, scheduler=Scheduler(scheduler)), now=2)
    world.forget_connections()
    settle(world, now=3)

    assert flags(world) == {0}


def test_a_sweep_that_began_before_the_vip_returned_ends_no_mark(world: w.World) -> None:
    """Its owner may have been passed over since."""
    world.apply(pool({"web1": [V6]}, scheduler=Scheduler.MH), now=0)
    writes = world.plane.rings.writes

    world.apply(pool({}, scheduler=Scheduler.MH), now=1)

    assert world.plane.rings.writes != writes


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_vip_that_nobody_has_is_refused_and_costs_the_others_nothing(
    world: w.World, scheduler: str
) -> None:
    world.apply(pool(dict.fromkeys(NAMES, (OTHER,)), scheduler=Scheduler(scheduler)))

    assert reasons(world, other, "S", range(1, 20)) == {"reject_empty"}
    assert set(opened(world, w.tcp, range(1, 100)).values()) == set(NAMES)
    if scheduler in RINGS:
        assert flags(world) == {0}
        assert records(world) == 0
        assert reasons(world, w.tcp, "PA", range(1, 100)) == {"forward_ring"}


def test_others_stand_in_by_their_weights(world: w.World) -> None:
    members = (
        w.backend("web1", out=frozenset([V4]), weight=5),
        w.backend("web2", weight=1),
        w.backend("web3", weight=3),
    )
    world.apply(pool({}, scheduler=Scheduler.MH, members=members))

    served = Counter(opened(world, w.tcp, range(1, 801)).values())

    assert served["web1"] == 0
    assert served["web3"] / 800 == pytest.approx(0.75, abs=0.06)


@pytest.mark.parametrize("scheduler", ["wlc", "mh"])
@pytest.mark.parametrize(
    ("lost", "reason"), [([], "web3"), ([V6], None)], ids=["the fallback has the VIP", "it lacks it, too"]
)
def test_the_fallback_is_asked_for_its_vips_as_well(
    world: w.World, scheduler: str, lost: list[Address], reason: str | None
) -> None:
    members = (
        w.backend("web1", out=frozenset([V6])),
        w.backend("web3", accepts=False, out=frozenset(lost)),
    )
    world.apply(pool({}, scheduler=Scheduler(scheduler), members=members, fallback="web3"))

    outcome = world.send(w.tcp6("S"))

    assert (outcome.reason == "reject_empty") if reason is None else (w.owner(outcome) == reason)
    assert w.owner(world.send(w.tcp("S"))) == "web1"


def test_a_flow_that_the_fallback_got_meanwhile_stays_there(world: w.World) -> None:
    fallback = w.backend("web3", accepts=False)
    lacking, whole = w.backend("web1", out=frozenset([V6])), w.backend("web1")
    changes = {"scheduler": Scheduler.MH, "fallback": "web3"}
    world.apply(pool({}, members=(lacking, fallback), **changes), now=0)
    world.send(w.tcp6("S"))

    world.apply(pool({}, members=(whole, fallback), **changes), now=1)
    settle(world, now=2)

    assert w.owner(world.send(w.tcp6("PA"))) == "web3"


@pytest.mark.parametrize("scheduler", ["wlc", "mh"])
def test_a_client_moves_to_a_backend_that_has_all_its_vips(world: w.World, scheduler: str) -> None:
    changes = {"scheduler": Scheduler(scheduler), "persistence": Persistence()}
    world.apply(pool({}, ["web1"], **changes))
    world.send(w.tcp("S", sport=1))

    world.apply(pool({"web1": [OTHER]}, NAMES[:2], **changes))

    assert w.owner(world.send(w.tcp("S", sport=2))) == "web1"
    assert w.owner(world.send(other("S", sport=3))) == "web2"
    assert w.owner(world.send(w.tcp("S", sport=4))) == "web2"
    assert w.owner(world.send(w.tcp("PA", sport=1))) == "web1"


def test_one_that_had_fewer_vips_is_not_given_all_that_the_others_had_meanwhile(world: w.World) -> None:
    world.apply(pool({"web1": [V6]}, NAMES[:2], scheduler=Scheduler.RR))
    opened(world, w.tcp6)

    world.apply(pool({}, NAMES[:2], scheduler=Scheduler.RR))

    served = Counter(opened(world, w.tcp, range(1, 21)).values())
    assert abs(served["web1"] - served["web2"]) <= 2


@pytest.mark.parametrize("state", [State.DOWN, State.MAINTENANCE], ids=str)
def test_down_is_down_for_all_vips(world: w.World, state: State) -> None:
    lacking = w.backend("web1", out=frozenset([V6]))
    world.apply(pool({}, members=(lacking,)))
    world.send(w.tcp("S"))

    world.apply(pool({}, members=(replace(lacking, state=state, accepts=False),)))

    assert {world.send(frame("PA")).reason for frame in VIPS.values()} == {"reject_down", "reject_unknown"}
    assert world.send(w.tcp("S", sport=7)).reason == "reject_empty"


def test_a_newcomer_in_the_place_of_one_that_went_has_its_own_vips(world: w.World) -> None:
    world.apply(pool({"web2": [V6]}, NAMES[:2]))
    world.apply(pool({}, NAMES[:1]))

    world.apply(pool({}, ["web1", "web3"]))

    assert world.plane.indices.places["web"] == {"web1": 0, "web3": 1}
    assert "web3" in opened(world, w.tcp6, range(1, 20)).values()


def test_a_listener_that_is_new_is_never_open_at_who_lacks_it(world: w.World) -> None:
    """It is named last, when the maps know who is out there."""
    world.apply(pool({}, listeners=w.LISTENERS))
    shown: list[bool] = []
    set_listener = world.tables.set_listener

    def spied(*arguments: object) -> None:
        set_listener(*arguments)  # type: ignore[arg-type]
        shown.append(world.plane.backends.adopted_vips(world.plane.fronts)["web", "web1"][OTHER])

    world.tables.set_listener = spied  # type: ignore[method-assign]
    try:
        world.apply(pool(dict.fromkeys(NAMES, (OTHER,))))
    finally:
        del world.tables.set_listener

    assert shown == [False]


def test_another_daemon_adopts_what_each_lacks(world: w.World) -> None:
    world.apply(pool({"web2": [V6, OTHER]}, NAMES[:2]))

    plane = Dataplane(world.tables, world.clock)
    found = plane.backends.adopted_vips(plane.fronts)

    assert found == {
        ("web", "web1"): {V4: True, V6: True, OTHER: True},
        ("web", "web2"): {V4: True, V6: False, OTHER: False},
    }


def test_another_daemon_changes_nothing_and_repairs_what_somebody_wrote(world: w.World) -> None:
    plan = pool({"web2": [V6]}, scheduler=Scheduler.MH)
    world.apply(plan, now=0)
    settle(world, now=1)
    plane = Dataplane(world.tables, world.clock)
    plane.apply(plan, 2)
    assert plane.apply(plan, 3) == 0
    world.tables.fronts[:]["out"] = 0

    plane.read_again()

    assert plane.apply(plan, 4) > 0
    assert not plane.backends.adopted_vips(plane.fronts)["web", "web2"][V6]


def test_many_backends_each_have_a_place(world: w.World) -> None:
    names = [f"b{number}" for number in range(60)]

    def member(name: str, out: Iterable[Address]) -> MemberPlan:
        address = ip_address("198.51.100.1") + names.index(name)
        return replace(w.backend("web1"), name=name, address=address, out=frozenset(out))

    *most, last = names
    world.apply(pool({}, members=(*(member(name, [V4]) for name in most), member(last, []))))

    world.send(w.tcp("S"))
    world.send(w.tcp6("S"))

    counted = {name: world.plane.counters.load(("web", name)) for name in names}
    assert counted.pop(last) == (1, 0)
    assert sorted(counted.values()) == [(0, 0)] * 58 + [(1, 0)]
