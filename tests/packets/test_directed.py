# SPDX-License-Identifier: Apache-2.0
"""Directors that are each other's backends: what one has scheduled is served where it arrives."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import Dot1Q
from scapy.packet import Packet

import tests.support.world as w
from xdpdirector.dataplane.service_plan import Hop, MemberPlan, ServicePlan
from xdpdirector.model import Persistence, Scheduler

HERE = w.backend("web3", hop=Hop(bytes(6), bytes(6), w.LOOPBACK, local=True))
PEER = w.backend("web1")
OTHER = w.backend("web2")
LATER = IP(src=w.CLIENT, dst=w.VIP, frag=8, id=7, proto=17) / bytes(64)
QUOTED = IP(src=w.VIP, dst=w.CLIENT) / TCP(sport=80, dport=1024)

FRAMES: dict[str, Packet] = {
    "a SYN": IP(src=w.CLIENT, dst=w.VIP) / TCP(sport=1, dport=80, flags="S"),
    "of a running connection": IP(src=w.CLIENT, dst=w.VIP) / TCP(sport=1, dport=80, flags="PA"),
    "of a connection that is recorded": IP(src=w.CLIENT, dst=w.VIP) / TCP(sport=1024, dport=80, flags="A"),
    "a datagram": IP(src=w.CLIENT, dst=w.VIP) / UDP(sport=1, dport=53) / b"question",
    "over IPv6": w.tcp6("S", sport=1).payload,
    "tagged": Dot1Q(vlan=7) / IP(src=w.CLIENT, dst=w.VIP) / TCP(sport=1, dport=80, flags="S"),
    "an ICMP error": IP(src="198.51.100.9", dst=w.VIP) / ICMP(type=3, code=4) / QUOTED,
}


def from_backend(member: MemberPlan, rest: Packet) -> Packet:
    """A frame as that backend's director sends it on to this machine."""
    assert member.hop
    return w.ethernet(source=member.hop.mac.hex(":")) / rest


def pair(scheduler: str = "wlc", **changes: object) -> ServicePlan:
    fields = {"scheduler": Scheduler(scheduler), "ring_slots": 251, "members": (PEER, HERE, OTHER)}
    return w.service(**fields | changes)


@pytest.mark.parametrize("scheduler", ["wlc", "rr", "mh", "sh"])
@pytest.mark.parametrize("name", FRAMES)
def test_what_a_backend_has_scheduled_to_this_machine_is_served_here(
    world: w.World, scheduler: str, name: str
) -> None:
    world.apply(pair(scheduler, members=(PEER, OTHER)))
    assert world.send(w.tcp("S")).verdict == w.TX
    world.apply(pair(scheduler))
    frame = bytes(from_backend(PEER, FRAMES[name]))

    assert world.send(frame) == w.Outcome(w.PASS, "pass_directed", frame)


def test_all_fragments_of_a_packet_are_served_here(world: w.World) -> None:
    world.apply(pair())
    whole = IP(src=w.CLIENT, dst=w.VIP, flags="MF", id=7) / UDP(sport=1, dport=53, len=136) / bytes(56)

    first = world.send(from_backend(PEER, whole))
    later = world.send(from_backend(PEER, LATER))

    assert [(each.verdict, each.reason) for each in (first, later)] == [(w.PASS, "pass_directed")] * 2


def test_a_record_is_not_touched(world: w.World) -> None:
    world.apply(pair(members=(OTHER,)))
    world.send(w.tcp("S"))
    world.apply(pair())
    world.shift_connections(by=-30)
    before = [rows["word"].tolist() for rows in world.connections()]

    for flags in ("A", "FA", "R", "S"):
        world.send(from_backend(PEER, w.tcp(flags).payload))

    assert [rows["word"].tolist() for rows in world.connections()] == before


@pytest.mark.parametrize("scheduler", ["wlc", "mh"])
def test_clients_frames_are_scheduled(world: w.World, scheduler: str) -> None:
    world.apply(pair(scheduler))

    reasons = {world.send(w.tcp("S", sport=sport)).reason for sport in range(1, 60)}

    assert reasons == {"forward_ring" if scheduler == "mh" else "forward_new", "pass_local"}


def test_a_backend_that_routes_clients_packets_is_no_director(world: w.World) -> None:
    world.apply(pair(members=(replace(PEER, router=True), HERE, OTHER)))
    frames = [
        from_backend(PEER, IP(src=w.CLIENT, dst=w.VIP) / TCP(sport=n, dport=80, flags="S"))
        for n in range(1, 7)
    ]

    outcomes = [world.send(frame) for frame in frames]

    assert {each.reason for each in outcomes} == {"forward_new", "pass_local"}
    assert {w.owner(each) for each in outcomes if each.verdict == w.TX} == {"web1", "web2"}


@pytest.mark.parametrize("persistence", [None, Persistence()], ids=["each connection", "persistent"])
@pytest.mark.parametrize("scheduler", ["wlc", "rr"])
def test_nothing_is_scheduled_to_the_machine_that_it_came_from(
    world: w.World, scheduler: str, persistence: Persistence | None
) -> None:
    """Also where this machine is no backend, but is one of another director's."""
    world.apply(pair(scheduler, members=(PEER,), persistence=persistence))
    frame = bytes(from_backend(PEER, FRAMES["a SYN"]))

    assert world.send(frame) == w.Outcome(w.PASS, "pass_directed", frame)
    assert world.connections() == []

    world.apply(pair(scheduler, members=(replace(PEER, router=True),), persistence=persistence))
    assert w.owner(world.send(frame)) == "web1"


@pytest.mark.parametrize("scheduler", ["wlc", "rr", "mh", "sh"])
@pytest.mark.parametrize("name", FRAMES)
def test_nothing_goes_back_to_the_machine_that_it_came_from(
    world: w.World, scheduler: str, name: str
) -> None:
    """Whatever is known of its flow: each of two directors may have the other as its only backend."""
    world.apply(pair(scheduler, members=(PEER,)))
    assert world.send(w.tcp("S")).verdict == w.TX
    frame = bytes(from_backend(PEER, FRAMES[name]))
    before = world.plane.counters.traffic([("web", "web1")])

    outcome = world.send(frame)

    if name == "of a running connection" and scheduler in ("wlc", "rr"):
        assert outcome.reason == "reject_unknown"  # to the client
    else:
        assert outcome == w.Outcome(w.PASS, "pass_directed", frame)
    assert world.plane.counters.traffic([("web", "web1")]) == before


@pytest.mark.parametrize("scheduler", ["wlc", "mh"])
def test_what_comes_from_a_router_may_go_back(world: w.World, scheduler: str) -> None:
    world.apply(pair(scheduler, members=(replace(PEER, router=True),)))
    for flags in ("S", "A", "PA"):
        outcome = world.send(from_backend(PEER, w.tcp(flags).payload))

        assert (w.owner(outcome), outcome.verdict) == ("web1", w.TX)


def test_all_fragments_of_a_packet_that_would_go_back_are_served_here(world: w.World) -> None:
    world.apply(pair("mh", members=(PEER,)))
    whole = IP(src=w.CLIENT, dst=w.VIP, flags="MF", id=7) / UDP(sport=1, dport=53, len=136) / bytes(56)

    first = world.send(from_backend(PEER, whole))
    later = world.send(from_backend(PEER, LATER))

    assert [(each.verdict, each.reason) for each in (first, later)] == [(w.PASS, "pass_directed")] * 2


def test_a_packet_of_before_is_not_sent_back(world: w.World) -> None:
    world.apply(pair("mh", members=(PEER,)))
    world.apply(pair("mh", members=(replace(PEER, accepts=False), OTHER)), now=1000)
    assert world.send(w.tcp("A", sport=2)).reason == "forward_before"

    outcome = world.send(from_backend(PEER, w.tcp("A", sport=3).payload))

    assert (outcome.verdict, outcome.reason) == (w.PASS, "pass_directed")


def test_the_senders_follow_the_backends(world: w.World) -> None:
    world.apply(pair())
    moved = replace(PEER, hop=replace(w.hop("web1"), mac=w.mac("02:00:00:00:00:77")))

    world.apply(pair(members=(moved, HERE)))

    syn = FRAMES["a SYN"]
    assert world.send(from_backend(moved, syn)).reason == "pass_directed"
    assert {world.send(from_backend(OTHER, syn)).reason} <= {"forward_new", "pass_local"}
    world.plane.remove("web")
    assert not [keys for keys, _ in world.tables.read("senders") if len(keys)]


def test_senders_that_somebody_deleted_are_repaired(world: w.World) -> None:
    world.apply(pair())
    [keys] = [keys.copy() for keys, _ in world.tables.read("senders")]
    world.tables.delete("senders", keys)
    world.plane.read_again()

    assert world.plane.apply(pair(), 0.0) > 0

    assert world.send(from_backend(PEER, FRAMES["a SYN"])).reason == "pass_directed"
