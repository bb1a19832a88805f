# SPDX-License-Identifier: Apache-2.0
"""Passive health: what is counted of a backend's clients, of which packets, and what is not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scapy.layers.inet import IP
from scapy.packet import Packet

import tests.support.world as w
from xdpdirector.dataplane.service_plan import ServicePlan, State
from xdpdirector.model import Scheduler
from xdpdirector.model.passive import PassiveCounts

WEB1 = ("web", "web1")
RECORDING = [scheduler for scheduler in Scheduler if not scheduler.is_ring]
RINGS = [scheduler for scheduler in Scheduler if scheduler.is_ring]
NO_TIMES = {"seconds": None, "times": None}


def service(*names: str, **changes: object) -> ServicePlan:
    members = tuple(w.backend(name, watched=True) for name in names or ("web1",))
    return w.service(**{"members": members, "passive": True} | changes)


def counted(world: w.World, name: str = "web1") -> PassiveCounts:
    """Without times, which no test can know."""
    found = world.plane.counters.passive([("web", name)])["web", name]
    return found.model_copy(update=NO_TIMES)


def counts(**fields: int) -> PassiveCounts:
    """Of a service that records its flows."""
    return PassiveCounts(**{"handshakes": 0, "resets": 0, "unanswered": 0, "idle": 0} | fields)


def send(world: w.World, *frames: Packet) -> list[str]:
    return [world.send(frame).reason for frame in frames]


def timed(world: w.World) -> int:
    """How many handshakes are in the histogram, whose sum must agree."""
    found = world.plane.counters.passive([WEB1])[WEB1]
    assert found.times is not None
    assert found.seconds is not None
    total = sum(each.count for each in found.times)
    slowest = next((each.at_most for each in reversed(found.times) if each.count), 0.0)
    assert slowest is None or found.seconds <= total * slowest
    return total


ROWS = {
    "a SYN": ("S", counts(syns=1)),
    "sent again": ("S S", counts(syns=1, retransmissions=1, retransmitted=1)),
    "sent again thrice": ("S S S S", counts(syns=1, retransmissions=3, retransmitted=1)),
    "a handshake": ("S A", counts(syns=1, handshakes=1)),
    "a late handshake": ("S S A", counts(syns=1, retransmissions=1, retransmitted=1, handshakes=1)),
    "data behind the SYN": ("S PA", counts(syns=1, handshakes=1)),
    "an established flow": ("S A A PA A", counts(syns=1, handshakes=1)),
    "an end": ("S A FA A", counts(syns=1, handshakes=1)),
    "FIN in place of the ACK": ("S FA", counts(syns=1)),
    "a reset": ("S A R", counts(syns=1, handshakes=1, resets=1)),
    "a reset, and another": ("S A RA R", counts(syns=1, handshakes=1, resets=1)),
    "a reset of a handshake": ("S R", counts(syns=1, resets=1)),
    "a reset after the end": ("S A FA R", counts(syns=1, handshakes=1)),
    "a SYN on a running flow": ("S A S", counts(syns=1, handshakes=1)),
    "an ACK of nothing known": ("A", counts()),
}


@pytest.mark.parametrize(("flags", "expected"), ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("frame", [w.tcp, w.tcp6], ids=["IPv4", "IPv6"])
def test_what_a_client_shows(world: w.World, frame: object, flags: str, expected: PassiveCounts) -> None:
    world.apply(service())

    send(world, *(frame(each) for each in flags.split()))  # type: ignore[operator]

    assert counted(world) == expected
    assert timed(world) == expected.handshakes


@pytest.mark.parametrize("scheduler", RECORDING)
def test_each_scheduler_that_records_flows(world: w.World, scheduler: Scheduler) -> None:
    world.apply(service(scheduler=scheduler))

    send(world, w.tcp("S"), w.tcp("S"), w.tcp("A"), w.tcp("R"))

    assert counted(world) == counts(syns=1, retransmissions=1, retransmitted=1, handshakes=1, resets=1)


@pytest.mark.parametrize("scheduler", RINGS)
def test_a_ring_shows_syns_and_that_they_are_sent_again(world: w.World, scheduler: Scheduler) -> None:
    world.apply(service(scheduler=scheduler))

    reasons = send(world, w.tcp("S"), w.tcp("S"), w.tcp("S"), w.tcp("A"), w.tcp("R"), w.tcp("S", sport=9))

    assert counted(world) == PassiveCounts(syns=2, retransmissions=2, retransmitted=1)
    assert set(reasons) == {"forward_ring"}


@pytest.mark.parametrize("scheduler", [Scheduler.WLC, Scheduler.MH])
def test_another_connection_from_the_same_port_is_no_retransmission(
    world: w.World, scheduler: Scheduler
) -> None:
    world.apply(service(scheduler=scheduler))

    send(world, w.tcp("S"), w.tcp("A"), w.tcp("FA"), w.tcp("S", seq=7000))

    assert counted(world).syns == 2
    assert counted(world).retransmissions == 0


def test_a_reopened_connection_has_a_handshake_too(world: w.World) -> None:
    world.apply(service())

    send(
        world, w.tcp("S"), w.tcp("A"), w.tcp("R"), w.tcp("S", seq=70), w.tcp("S", seq=70), w.tcp("A", seq=71)
    )

    assert counted(world) == counts(syns=2, retransmissions=1, retransmitted=1, handshakes=2, resets=1)
    assert timed(world) == 2


def test_a_ring_in_flux_counts_what_it_counts_at_rest(world: w.World) -> None:
    """Flows are recorded then."""
    world.apply(service("web1", "web2", scheduler=Scheduler.MH))
    plan = service("web1", scheduler=Scheduler.MH)
    world.apply(plan, now=1.0)

    for sport in range(1, 40):
        send(world, *(w.tcp(flags, sport=sport) for flags in ("S", "S", "A", "R")))

    assert counted(world) == PassiveCounts(syns=39, retransmissions=39, retransmitted=39)


def test_a_syn_that_goes_elsewhere_is_no_retransmission_there(world: w.World) -> None:
    """The first one is on its account who did not answer."""
    world.apply(service("web1", "web2"))
    first = w.owner(world.send(w.tcp("S")))
    other = {"web1": "web2", "web2": "web1"}[first]
    plan = service("web1", "web2")
    members = (
        replace(each, accepts=False, state=State.DOWN) if each.name == first else each
        for each in plan.members
    )
    world.apply(replace(plan, members=tuple(members)))

    assert w.owner(world.send(w.tcp("S"))) == other

    assert (counted(world, first), counted(world, other)) == (counts(syns=1), counts(syns=1))


@pytest.mark.parametrize("scheduler", [Scheduler.WLC, Scheduler.MH])
def test_who_is_not_watched_is_not_counted(world: w.World, scheduler: Scheduler) -> None:
    world.apply(w.service(scheduler=scheduler))

    send(world, w.tcp("S"), w.tcp("S"), w.tcp("A"), w.tcp("R"))

    assert set(counted(world).model_dump(exclude_none=True).values()) == {0}


@pytest.mark.parametrize("scheduler", [Scheduler.WLC, Scheduler.MH])
def test_frames_go_where_they_go_without_it(world: w.World, scheduler: Scheduler) -> None:
    frames = [
        frame(flags, sport=sport) for sport in range(1, 30) for frame in (w.tcp, w.tcp6) for flags in "SSAR"
    ]
    world.apply(w.service(scheduler=scheduler, members=(w.backend("web1"), w.backend("web2"))))
    plain = [world.send(frame) for frame in frames]
    world.forget_connections()
    world.sweep()

    world.apply(service("web1", "web2", scheduler=scheduler))

    assert [world.send(frame) for frame in frames] == plain
    assert world.plane.counters.traffic([WEB1])[WEB1].connections > 0


def test_connections_are_counted_as_without_it(world: w.World) -> None:
    world.apply(service())

    send(world, w.tcp("S"), w.tcp("S"), w.tcp("A"), w.tcp("A"))

    assert world.plane.counters.traffic([WEB1])[WEB1].connections == 1


def test_datagrams_and_fragments_are_not_counted(world: w.World) -> None:
    world.apply(service())

    first = w.tcp("S")
    first[IP].flags = "MF"
    send(world, w.udp(), w.udp(), first)

    assert counted(world) == counts(syns=1)


def test_a_connection_that_nobody_answered(world: w.World) -> None:
    world.apply(service())
    send(world, w.tcp("S"), w.tcp("S", sport=2), w.tcp("A", sport=2))
    world.shift_connections(by=-61.0)
    world.sweep()
    assert counted(world) == counts(syns=2, handshakes=1, unanswered=1)

    world.shift_connections(by=-1000.0)
    world.sweep()

    assert counted(world) == counts(syns=2, handshakes=1, unanswered=1, idle=1)


def test_connections_that_end_or_lose_their_backend_are_not_idle(world: w.World) -> None:
    world.apply(service("web1", "web2"))
    for sport in range(1, 20):
        send(world, *(w.tcp(flags, sport=sport) for flags in ("S", "A", "FA")))
    for sport in range(20, 40):
        send(world, *(w.tcp(flags, sport=sport) for flags in ("S", "A")))
    world.apply(service("web2"))
    world.sweep()
    world.shift_connections(by=-600.0)
    world.sweep()

    assert counted(world, "web2").idle == 0


def test_a_backend_that_comes_anew_begins_at_zero(world: w.World) -> None:
    world.apply(service("web1", "web2"))
    send(world, *(w.tcp("S", sport=sport) for sport in range(1, 9)))
    world.shift_connections(by=-61.0)
    world.sweep()
    assert counted(world).unanswered

    world.apply(service("web2"))
    world.apply(service("web1", "web2"))

    assert counted(world) == counts()


@pytest.mark.parametrize(("power", "bucket"), [(29, 7), (31, 8), (33, 9)])
def test_a_time_falls_into_its_bucket(world: w.World, power: int, bucket: int) -> None:
    """As if the SYN had come 2^`power` nanoseconds earlier: the middle of a bucket, for a slow machine."""
    world.apply(service())
    send(world, w.tcp("S"))
    (place,) = world.syns.nonzero()[0]
    tag, time = divmod(int(world.syns[place]), 1 << 32)
    world.syns[place] = tag << 32 | (time - (1 << power - 10)) % (1 << 32) & ~1

    send(world, w.tcp("A"))

    found = world.plane.counters.passive([WEB1])[WEB1]
    assert found.times is not None
    assert found.seconds is not None
    assert [each.at_most for each in found.times] == [*((1 << each) / 1e9 for each in range(16, 33, 2)), None]
    assert [number for number, each in enumerate(found.times) if each.count] == [bucket]
    assert found.seconds >= (1 << power) / 1e9
