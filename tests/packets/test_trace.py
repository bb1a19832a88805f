# SPDX-License-Identifier: Apache-2.0
"""What is told of decisions: of which packets, what, how much, and for how long."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network

import pytest

import tests.support.world as w
from tests.support.world import World
from xdpdirector.dataplane.service_plan import State
from xdpdirector.dataplane.trace_reader import Decisions
from xdpdirector.dataplane.trace_types import Decision, Selection
from xdpdirector.lab.waiting import wait_until
from xdpdirector.model import Listener, Scheduler
from xdpdirector.model.guard import ServiceLimit

ALL = Selection(rate=1000)
LONG = 60.0
PLENTY = 10000
WINDOW = 32  # jiffies: bpf/trace.h
TWO = (w.backend("web1"), w.backend("web2"))
MAIL = w.service(name="mail", listeners=(Listener.parse(f"{w.VIP}:25/tcp"),), members=(w.backend("web3"),))


@pytest.fixture
def decisions(world: World) -> Iterator[Decisions]:
    """Of two services, `web` and `mail`, of which `web` is watched."""
    world.apply(w.service(members=TWO), MAIL)
    world.plane.watch(["web"])
    world.tables.per_cpu_zero("tellings", 0)  # tests that were quick have used up this window's share
    with Decisions(world.tables, world.clock, world.plane.indices) as decisions:
        yield decisions
        world.plane.watch([])


def told(decisions: Decisions) -> list[Decision]:
    return decisions.take(PLENTY)[1]


def reasons(decisions: Decisions) -> list[str]:
    return [each.reason for each in told(decisions)]


def test_a_forwarded_packet(world: World, decisions: Decisions) -> None:
    # given
    decisions.select(ALL, LONG)

    # when
    out = world.send(w.tcp("S", sport=1024))

    # then
    (decision,) = told(decisions)
    assert replace(decision, time=0.0) == Decision(
        time=0.0,
        client=w.ip_address(w.CLIENT),
        client_port=1024,
        vip=w.ip_address(w.VIP),
        port=80,
        protocol="tcp",
        flags="S",
        reason="forward_new",
        service="web",
        backend="web1",
        interface="lo",
        length=len(out.frame),
        frame=out.frame,
    )
    assert decision.verdict == "forward"


def test_ipv6_and_a_frame_that_is_longer_than_what_is_told(world: World, decisions: Decisions) -> None:
    # given
    decisions.select(ALL, LONG)

    # when
    out = world.send(w.udp6(data=bytes(300)))

    # then
    (decision,) = told(decisions)
    assert (str(decision.client), decision.protocol, decision.flags) == (w.CLIENT6, "udp", "")
    assert (decision.length, decision.frame) == (len(out.frame), out.frame[:128])


def test_where_each_way_ends(world: World, decisions: Decisions) -> None:
    """Every reason that is about a service's packet, and each stage that can be the last."""
    # given
    decisions.select(ALL, LONG)
    lost = (w.backend("web1", state=State.DOWN, accepts=False), TWO[1])
    unresolved = (w.backend("web1", hop=None), w.backend("web2", hop=None))

    # when
    sent = [world.send(w.tcp("S", sport=1)), world.send(w.tcp("A", sport=1)), world.send(w.tcp("A", sport=9))]
    world.apply(w.service(members=lost))
    sent += [world.send(w.tcp("A", sport=1)), world.send(w.tcp("R", sport=7))]
    found = told(decisions)
    world.apply(w.service(members=()))
    sent += [world.send(w.tcp("S", sport=2))]
    world.apply(w.service(members=(), on_empty="drop"))
    sent += [world.send(w.tcp("S", sport=2)), world.send(w.udp(sport=2))]
    world.apply(w.service(members=unresolved))
    sent += [world.send(w.tcp("S", sport=3))]
    world.apply(w.service(members=TWO, scheduler=Scheduler.MH))
    sent += [world.send(w.tcp("A", sport=4))]
    world.apply(w.service(members=TWO, limit=ServiceLimit(rate="1/h", burst=1)))
    sent += [world.send(w.tcp("S", sport=5)), world.send(w.tcp("S", sport=6))]
    world.plane.deny([ip_network(w.CLIENT)])
    sent += [world.send(w.tcp("A", sport=1))]
    world.plane.deny([])

    # then
    lost_one = next(each for each in found if each.reason == "reject_down")
    assert lost_one.backend == "web1"
    found += told(decisions)
    assert [each.reason for each in found] == [each.reason for each in sent]
    assert [each.frame for each in found] == [each.frame[:128] for each in sent]
    assert {each.service for each in found} == {"web"}
    assert {each.verdict for each in found} == {"forward", "reject", "drop"}


@pytest.mark.parametrize(
    ("selection", "ports"),
    [
        pytest.param(ALL, [1, 2, 3, 9], id="all"),
        pytest.param(replace(ALL, client=ip_network("192.0.2.0/24")), [1, 2, 3, 9], id="a client's network"),
        pytest.param(replace(ALL, client=ip_network("192.0.2.101")), [], id="another client"),
        pytest.param(replace(ALL, client=ip_network("2001:db8::/64")), [4], id="of IPv6"),
        pytest.param(replace(ALL, backend=("web", "web2")), [2], id="a backend"),
        pytest.param(replace(ALL, reasons=frozenset({"reject"})), [9], id="a verdict"),
        pytest.param(replace(ALL, reasons=frozenset({"forward_new", "drop"})), [1, 2, 3], id="a reason"),
        pytest.param(replace(ALL, reasons=frozenset({"drop_down"})), [], id="a reason that is not there"),
    ],
)
def test_only_what_is_asked_for(
    world: World, decisions: Decisions, selection: Selection, ports: list[int]
) -> None:
    # given
    decisions.select(selection, LONG)
    sixes = [] if selection.client is None or selection.client.version == 4 else [w.tcp6("S", sport=4)]

    # when
    frames = [w.tcp("S", sport=1), w.tcp("S", sport=2), w.tcp("S", sport=3), w.tcp("A", sport=9)]
    for frame in [*frames, *sixes]:
        world.send(frame)

    # then
    found = told(decisions)
    assert [each.client_port for each in found] == ports
    assert all(selection.has(each) for each in found)


def test_services_that_nobody_watches_are_quiet(world: World, decisions: Decisions) -> None:
    # given
    decisions.select(ALL, LONG)

    # when
    world.send(w.tcp("S", dport=25))
    world.send(w.tcp("S", dport=80))
    world.plane.watch(["mail"])
    world.send(w.tcp("S", dport=80, sport=2))
    world.send(w.tcp("S", dport=25, sport=2))
    world.plane.watch([])
    world.send(w.tcp("S", dport=25, sport=3))

    # then
    assert [each.service for each in told(decisions)] == ["web", "mail"]


def test_watching_is_no_drift(world: World, decisions: Decisions) -> None:
    # when
    writes = world.plane.apply(w.service(members=TWO), 0.0)

    # then
    assert writes == 0
    assert int(world.tables.services[world.plane.indices.services["web"]]["guard"])


def test_not_more_than_what_is_asked_for(world: World, decisions: Decisions) -> None:
    # given
    frame = bytes(w.tcp("A"))
    decisions.take(PLENTY)
    earlier = world.clock.now() // WINDOW
    wait_until(lambda: world.clock.now() // WINDOW > earlier, "what was told before counts no more", 5)
    began = world.clock.now()
    decisions.select(Selection(rate=100), LONG)

    # when
    for _ in range(3000):
        world.run(frame)
    windows = ((world.clock.now() - began) // WINDOW) + 2
    missed, found = decisions.take(PLENTY)
    world.recount()

    # then
    most = max(1, round(100 * WINDOW / world.clock.hz))
    assert 0 < len(found) <= most * windows
    assert missed == 3000 - len(found)


def test_one_in_so_many(world: World, decisions: Decisions) -> None:
    # given
    frame = bytes(w.tcp("A"))
    decisions.select(replace(ALL, rate=1_000_000, one_in=10), LONG)

    # when
    for _ in range(2000):
        world.run(frame)
    missed, found = decisions.take(PLENTY)
    world.recount()

    # then
    assert missed == 0
    assert 100 < len(found) < 400


def test_a_full_buffer_is_counted_and_harmless(world: World, decisions: Decisions) -> None:
    # given
    frame = bytes(w.tcp("A"))
    world.send(w.tcp("S"))
    decisions.select(replace(ALL, rate=1_000_000), LONG)

    # when
    verdicts = {world.run(frame) for _ in range(4000)}
    missed, found = decisions.take(PLENTY)
    world.recount()

    # then
    assert verdicts == {w.TX}
    assert missed > 0
    assert missed + len(found) == 4000


def test_nothing_is_told_when_nobody_asks_any_more(world: World, decisions: Decisions) -> None:
    """The mark of the service stays when the daemon dies; its time is over soon."""
    # given
    decisions.select(ALL, 0.01)
    until = world.clock.now() + world.clock.jiffies(0.01)
    while world.clock.now() <= until + 1:
        pass
    decisions.take(PLENTY)

    # when
    outcome = world.send(w.tcp("S"))

    # then
    assert outcome.reason == "forward_new"
    assert reasons(decisions) == []


def test_what_was_told_before_is_forgotten(world: World, decisions: Decisions) -> None:
    # given
    decisions.select(ALL, LONG)
    world.send(w.tcp("S"))

    # when
    decisions.stop()
    world.send(w.tcp("A"))

    # then
    assert reasons(decisions) == []
