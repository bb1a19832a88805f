# SPDX-License-Identifier: Apache-2.0
"""How much can be brought about with made-up packets: RSTs, forwarded ICMP errors, and fragments of long ago."""

from __future__ import annotations

import numpy as np
import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

import tests.support.world as w
from xdpdirector.dataplane.writer import REASSEMBLY
from xdpdirector.model import Scheduler

TWO = (w.backend("web1"), w.backend("web2"))
AT_ONCE = 512
ERRORS_A_JIFFY = 16
MANY = 3000


@pytest.fixture(autouse=True)
def unpaid(world: w.World) -> None:
    """Nobody has got a RST yet."""
    world.tables.resets[:] = 0


def stray(client: str = "198.51.100.7", sport: int = 1) -> Packet:
    """Of a connection that nobody knows."""
    if ":" in client:
        return w.ethernet() / IPv6(src=client, dst=w.VIP6) / TCP(sport=sport, dport=80, flags="A")
    return w.tcp("A", sport=sport, client=client)


def sent(world: w.World, frame: Packet, count: int = MANY) -> tuple[int, int]:
    """How many of so many are answered, or forwarded, and the jiffies that this took."""
    raw, before = bytes(frame), world.clock.now()
    verdicts = [world.run(raw) for _ in range(count)]
    assert set(verdicts) <= {w.TX, w.DROP}
    return verdicts.count(w.TX), world.clock.now() - before


@pytest.mark.parametrize("scheduler", ["wlc", "mh"])
@pytest.mark.parametrize("client", ["198.51.100.7", "2001:db8:7::7"], ids=["IPv4", "IPv6"])
def test_one_sender_gets_so_many_resets_and_then_one_a_jiffy(
    world: w.World, client: str, scheduler: str
) -> None:
    world.apply(w.service(scheduler=Scheduler(scheduler), members=()))

    answered, jiffies = sent(world, stray(client))

    assert AT_ONCE <= answered <= AT_ONCE + jiffies + 1
    assert world.recount()["drop_answer"] == MANY - answered


def test_others_get_theirs_meanwhile(world: w.World) -> None:
    world.apply(w.service())
    sent(world, stray())
    world.recount()

    reasons = [world.send(stray(f"203.0.113.{number}")).reason for number in range(1, 100)]

    assert reasons.count("reject_unknown") >= 98  # two in one place by chance


def test_a_sender_earns_resets_again(world: w.World) -> None:
    world.apply(w.service())
    sent(world, stray())
    world.recount()
    world.tables.resets[:] -= np.minimum(world.tables.resets, np.uint64(10))

    reasons = [world.send(stray()).reason for _ in range(5)]

    assert reasons == ["reject_unknown"] * 5


def test_an_ipv6_network_is_one_sender(world: w.World) -> None:
    world.apply(w.service())
    raw = bytes(stray("2001:db8:7::"))
    host = slice(30, 38)  # of the source address
    frames = [
        raw[: host.start] + (number * 0x10001 << 30).to_bytes(8, "big") + raw[host.stop :]
        for number in range(1, MANY)
    ]

    before = world.clock.now()
    verdicts = [world.run(frame) for frame in frames]
    jiffies = world.clock.now() - before
    world.recount()

    assert AT_ONCE <= verdicts.count(w.TX) <= AT_ONCE + jiffies + 1


def error(sport: int) -> Packet:
    """About a packet from the VIP to a client's port."""
    quoted = IP(src=w.VIP, dst="203.0.113.9") / TCP(sport=80, dport=sport)
    return w.ethernet() / IP(src="198.51.100.1", dst=w.VIP) / ICMP(type=3, code=4, nexthopmtu=1400) / quoted


def test_only_so_many_errors_about_made_up_flows_of_a_ring_go_on(world: w.World) -> None:
    world.apply(w.service(scheduler=Scheduler.MH, ring_slots=1021, members=TWO))
    assert world.send(error(1)).reason == "forward_error"

    forwarded, jiffies = sent(world, error(2))

    assert 0 < forwarded <= ERRORS_A_JIFFY * (jiffies + 1)
    counted = world.recount()
    assert (counted["forward_error"], counted["drop_error"]) == (forwarded, MANY - forwarded)


def test_errors_about_a_recorded_connection_all_go_on(world: w.World) -> None:
    world.apply(w.service(members=TWO))
    world.send(w.tcp("S", sport=5, client="203.0.113.9"))

    forwarded, _ = sent(world, error(5))
    world.recount()

    assert forwarded == MANY


def test_a_fragment_of_long_ago_is_no_part_of_a_packet(world: w.World) -> None:
    """Its id was used before: a later fragment would follow the backend of that packet."""
    world.apply(w.service(members=TWO))
    first, second, *_ = fragment(
        w.ethernet() / IP(src=w.CLIENT, dst=w.VIP, id=7) / UDP(sport=7, dport=53) / bytes(3000), 1000
    )
    world.send(first)

    world.age_fragments(by=REASSEMBLY - 1)
    assert world.send(second).reason == "forward_fragment"
    world.age_fragments(by=2)
    assert world.send(second).reason == "drop_fragment"

    world.send(first)
    assert world.send(second).reason == "forward_fragment"


def test_a_fragment_of_long_ago_is_not_the_hosts_either(world: w.World) -> None:
    world.apply(w.service())
    first, second, *_ = fragment(
        w.ethernet() / IP(src=w.CLIENT, dst=w.VIP, id=7) / ICMP() / bytes(3000), 1000
    )
    assert world.send(first).verdict == w.PASS

    world.age_fragments(by=REASSEMBLY + 1)

    assert world.send(second).reason == "drop_fragment"
