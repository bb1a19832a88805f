# SPDX-License-Identifier: Apache-2.0
"""FIN, RST and SYN that somebody sends who knows a connection's addresses and ports, and nothing else of it."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

import tests.support.world as w
from tests.support.ring_slots import NAMES, asked, planned, settle
from xdpdirector.dataplane.service_plan import State
from xdpdirector.model.guard import ServiceLimit

FLOWS = range(1, 41)
LATER = range(1001, 1041)
SPOOFED = 0x5EED0000  # a sequence number that is nobody's
SPRAYS = [("F", "S"), ("FA", "S"), ("R", "S"), ("RA", "S"), ("S",), ("F",), ("R",), ("F", "R", "S", "S")]
TWO = (w.backend("web1"), w.backend("web2"))


def established(world: w.World) -> dict[int, str]:
    """Flows that run; who serves them."""
    for sport in FLOWS:
        world.run(bytes(w.tcp("S", sport=sport)))
    world.recount()
    return asked(world, FLOWS)


def in_flux(world: w.World) -> None:
    """Some of the slots: their owner drains, and has served before."""
    world.apply(planned(scheduler="mh"), now=0)
    established(world)
    world.apply(planned(NAMES, ("web1",), scheduler="mh"), now=0)


def spray(world: w.World, flags: Iterable[str], flows: Iterable[int] = FLOWS) -> None:
    for each in flags:
        for sport in flows:
            world.run(bytes(w.tcp(each, sport=sport, seq=SPOOFED)))
    world.recount()


@pytest.mark.parametrize("flags", SPRAYS, ids="+".join)
@pytest.mark.parametrize("draining", [(), ("web1",)], ids=["all serve", "one drains"])
@pytest.mark.parametrize("scheduler", ["rr", "wlc", "mh", "sh"])
def test_running_connections_stay(
    world: w.World, scheduler: str, draining: tuple[str, ...], flags: tuple[str, ...]
) -> None:
    world.apply(planned(scheduler=scheduler), now=0)
    owners = established(world)
    world.apply(planned(NAMES, draining, scheduler=scheduler), now=0)

    spray(world, flags)

    assert asked(world, FLOWS) == owners
    assert asked(world, FLOWS) == owners


@pytest.mark.parametrize("flags", [each for each in SPRAYS if each[-1] == "S"], ids="+".join)
def test_idle_connections_stay_for_their_time(world: w.World, flags: tuple[str, ...]) -> None:
    world.apply(w.service(members=TWO))
    owners = established(world)
    spray(world, flags)

    world.shift_connections(by=w.SERVICE.timeouts.tcpfin - w.SERVICE.timeouts.tcp)

    assert asked(world, FLOWS) == owners


@pytest.mark.parametrize("flags", SPRAYS, ids="+".join)
def test_running_connections_stay_that_speak_between_drains(world: w.World, flags: tuple[str, ...]) -> None:
    world.apply(planned(scheduler="mh"), now=0)
    owners = established(world)
    world.apply(planned(NAMES, ("web1",), scheduler="mh"), now=0)
    asked(world, FLOWS)
    spray(world, flags)
    world.apply(planned(scheduler="mh"), now=0)

    spray(world, flags)

    assert asked(world, FLOWS) == owners


@pytest.mark.parametrize(
    ("spoofed", "following", "past"),
    [("R", w.tcp("A"), "the time of a RST"), ("FA", w.tcp("PA") / b"more", "the time of a FIN")],
)
def test_who_goes_on_is_established_again(
    world: w.World, spoofed: str, following: w.Packet, past: str
) -> None:
    world.apply(w.service())
    world.send(w.tcp("S"))
    world.send(w.tcp("A"))
    world.send(w.tcp(spoofed, seq=SPOOFED))

    again = world.send(following)

    assert again.reason == "forward_connection"
    assert world.plane.counters.load(("web", "web1")) == (1, 0)
    world.shift_connections(by=-600.0)
    assert world.send(w.tcp("A")).reason == "forward_connection"


def test_an_ack_after_a_fin_belongs_to_the_end(world: w.World) -> None:
    world.apply(w.service())
    for flags in ("S", "A", "FA", "A"):
        world.send(w.tcp(flags))

    assert world.plane.counters.load(("web", "web1")) == (0, 1)
    world.shift_connections(by=-121.0)
    assert world.send(w.tcp("A")).reason == "reject_unknown"


@pytest.mark.parametrize("ended", ["FA", "R"])
def test_a_syn_after_the_end_opens_where_the_flow_was(world: w.World, ended: str) -> None:
    world.apply(w.service())
    for flags in ("S", "A", ended):
        world.send(w.tcp(flags))
    world.apply(w.service(members=(w.backend("web1", accepts=False), w.backend("web2"))))

    outcome = world.send(w.tcp("S"))

    assert (w.owner(outcome), outcome.reason) == ("web1", "forward_new")
    assert world.plane.counters.load(("web", "web1")) == (1, 0)
    assert world.plane.counters.traffic([("web", "web1")])["web", "web1"].connections == 2


def test_a_syn_after_the_end_goes_elsewhere_when_the_backend_is_down(world: w.World) -> None:
    world.apply(w.service())
    for flags in ("S", "A", "FA"):
        world.send(w.tcp(flags))
    world.apply(w.service(members=(w.backend("web1", accepts=False, state=State.DOWN), w.backend("web2"))))

    outcome = world.send(w.tcp("S"))

    assert (w.owner(outcome), outcome.reason) == ("web2", "forward_new")
    assert world.plane.counters.load(("web", "web1")) == (0, 0)


def test_a_syn_after_the_end_pays_for_a_connection(world: w.World) -> None:
    world.apply(w.service(limit=ServiceLimit(rate="1/h", burst=2)))
    outcomes = [world.send(w.tcp(flags)).reason for flags in ("S", "A", "FA", "S", "A", "FA", "S", "A", "A")]

    assert outcomes[3] == "forward_new"
    assert outcomes[6:] == ["drop_limited_service", "forward_connection", "forward_connection"]
    assert world.plane.counters.load(("web", "web1")) == (0, 1)


def test_a_new_connection_in_flux_is_the_new_owners(world: w.World) -> None:
    world.apply(planned(scheduler="mh"), now=0)
    established(world)
    world.apply(planned(NAMES, ("web1",), scheduler="mh"), now=0)
    opened = {sport: w.owner(world.send(w.tcp("S", sport=sport, seq=sport))) for sport in LATER}
    going_on = {sport: w.owner(world.send(w.tcp("A", sport=sport, seq=sport + 1))) for sport in LATER}

    assert "web1" not in opened.values()
    assert going_on == opened


def test_a_connection_that_is_opened_after_a_made_up_syn(world: w.World) -> None:
    """Its client knows nothing of that: the SYN that came last counts."""
    in_flux(world)
    spray(world, ("S",), LATER)
    opened = {sport: w.owner(world.send(w.tcp("S", sport=sport, seq=9))) for sport in LATER}

    assert {sport: w.owner(world.send(w.tcp("A", sport=sport, seq=10))) for sport in LATER} == opened


@pytest.mark.parametrize("spoofed", [1, 20])
def test_made_up_syns_between_a_syn_and_its_ack_move_nothing(world: w.World, spoofed: int) -> None:
    in_flux(world)
    spray(world, ("S",), LATER)
    opened = {sport: w.owner(world.send(w.tcp("S", sport=sport, seq=9))) for sport in LATER}
    for number in range(spoofed):
        for sport in LATER:
            world.send(w.tcp("S", sport=sport, seq=SPOOFED + (number << 17)))

    assert {sport: w.owner(world.send(w.tcp("A", sport=sport, seq=10))) for sport in LATER} == opened
    assert asked(world, LATER) == opened


def test_what_follows_the_first_syn_may_have_come_before_it(world: w.World) -> None:
    """An ACK and a segment were lost on their way."""
    in_flux(world)
    opened = {sport: w.owner(world.send(w.tcp("S", sport=sport, seq=9))) for sport in LATER}
    spray(world, ("S",), LATER)

    assert {sport: w.owner(world.send(w.tcp("PA", sport=sport, seq=1458))) for sport in LATER} == opened


def test_flows_that_were_given_back_are_counted_where_they_run(world: w.World) -> None:
    world.apply(planned(scheduler="mh"), now=0)
    owners = established(world)
    world.apply(planned(NAMES, ("web1",), scheduler="mh"), now=0)
    spray(world, ("S",))
    asked(world, FLOWS)
    counted = world.plane.counters.load(("web", "web1"))

    settle(world, now=1)

    assert counted == world.plane.counters.load(("web", "web1")) == (list(owners.values()).count("web1"), 0)
