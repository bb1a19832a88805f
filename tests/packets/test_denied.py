# SPDX-License-Identifier: Apache-2.0
"""Denied prefixes: whose packets are dropped, by which rule they are counted, and what stays as it was."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, fragment
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.packet import Packet, Raw

import tests.support.world as w
from xdpdirector.dataplane import guard_maps as guarding_module
from xdpdirector.dataplane.service_plan import ServicePlan
from xdpdirector.dataplane.writer import Dataplane
from xdpdirector.errors import CapacityError
from xdpdirector.model import Scheduler
from xdpdirector.model.guard import Prefix

WLC = w.service()
RING = w.service(scheduler=Scheduler.MH)
ROUTER = "198.51.100.1"

CLIENT = ip_network(w.CLIENT)
CLIENTS = ip_network("192.0.2.0/24")
CLIENT6 = ip_network(w.CLIENT6)
CLIENTS6 = ip_network("2001:db8::/48")
NEIGHBOUR = ip_network("192.0.2.101")
OTHERS = ip_network("203.0.113.0/24")
ALL, ALL6 = ip_network("0.0.0.0/0"), ip_network("::/0")


@pytest.mark.parametrize("plan", [WLC, RING], ids=["wlc", "mh"])
@pytest.mark.parametrize(
    ("denied", "frame", "is_dropped"),
    [
        pytest.param([CLIENT], w.tcp("S"), True, id="an address"),
        pytest.param([CLIENTS], w.tcp("S"), True, id="a prefix"),
        pytest.param([ALL], w.tcp("S"), True, id="everybody"),
        pytest.param([CLIENTS], w.tcp("A"), True, id="mid-stream"),
        pytest.param([CLIENTS], w.udp(), True, id="a datagram"),
        pytest.param([CLIENT6], w.tcp6("S"), True, id="an IPv6 address"),
        pytest.param([CLIENTS6], w.tcp6("S"), True, id="an IPv6 prefix"),
        pytest.param([CLIENTS6], w.udp6(), True, id="an IPv6 datagram"),
        pytest.param([ALL6], w.tcp6("S"), True, id="everybody of IPv6"),
        pytest.param([OTHERS, NEIGHBOUR], w.tcp("S"), False, id="others"),
        pytest.param([ALL6], w.tcp("S"), False, id="IPv6 only"),
        pytest.param([ALL], w.tcp6("S"), False, id="IPv4 only"),
    ],
)
def test_who_is_denied(
    world: w.World, plan: ServicePlan, denied: list[Prefix], frame: Packet, is_dropped: bool
) -> None:
    world.apply(plan)

    world.plane.deny(denied)

    outcome = world.send(frame)
    if is_dropped:
        assert outcome == w.Outcome(w.DROP, "drop_denied", bytes(frame))
    else:
        assert outcome.reason.startswith("forward_")


def test_a_service_that_comes_later_is_guarded_too(world: w.World) -> None:
    world.plane.deny([CLIENT])

    world.apply(WLC)

    assert world.send(w.tcp("S")).reason == "drop_denied"


@pytest.mark.parametrize(
    "frame",
    [w.tcp(dport=81), w.ethernet() / IP(src=w.CLIENT, dst=w.VIP) / ICMP()],
    ids=["another port", "ping"],
)
def test_what_is_for_the_host_is_the_hosts(world: w.World, frame: Packet) -> None:
    world.apply(WLC)

    world.plane.deny([CLIENT])

    assert world.send(frame).reason == "pass_no_listener"


@pytest.mark.parametrize("plan", [WLC, RING], ids=["wlc", "mh"])
def test_a_running_connection_ends_and_goes_on(world: w.World, plan: ServicePlan) -> None:
    world.apply(plan)
    for flags in ("S", "A"):
        world.send(w.tcp(flags))

    world.plane.deny([CLIENT])
    assert world.send(w.tcp("A")).reason == "drop_denied"

    world.plane.deny([])
    assert world.send(w.tcp("A")) == w.Outcome(
        w.TX, "forward_ring" if plan is RING else "forward_connection", w.to("web1", w.tcp("A"))
    )


def test_the_longest_prefix_counts(world: w.World) -> None:
    world.apply(WLC)
    guarding = world.plane.guarding
    world.plane.deny([ALL, CLIENTS, CLIENT])

    for client in (w.CLIENT, "192.0.2.101", "192.0.2.102", w.STRANGER):
        world.send(w.tcp("S", client=client))

    assert [guarding.denied_packets(prefix) for prefix in (CLIENT, CLIENTS, ALL)] == [1, 2, 1]


def test_a_prefix_keeps_its_count_as_long_as_it_is_denied(world: w.World) -> None:
    world.apply(WLC)
    world.plane.deny([CLIENT])
    world.send(w.tcp("S"))

    world.plane.deny([OTHERS, CLIENT])
    world.plane.deny([CLIENT])
    assert world.plane.guarding.denied_packets(CLIENT) == 1

    world.plane.deny([OTHERS])
    assert world.plane.guarding.denied_packets(CLIENT) == 0
    world.plane.deny([CLIENT])
    assert world.plane.guarding.denied_packets(CLIENT) == 0


def test_later_fragments_are_denied_too(world: w.World) -> None:
    whole = IP(src=w.CLIENT, dst=w.VIP, id=7) / TCP(sport=1024, dport=80, flags="S") / Raw(bytes(2000))
    first, second = (w.ethernet() / piece for piece in fragment(whole, 1400))
    world.apply(WLC)
    world.send(first)

    world.plane.deny([CLIENT])

    assert world.send(second) == w.Outcome(w.DROP, "drop_denied", bytes(second))


@pytest.mark.parametrize(("denied", "reason"), [(ROUTER, "drop_denied"), (w.CLIENT, "forward_error")])
def test_an_icmp_error_is_its_senders(world: w.World, denied: str, reason: str) -> None:
    answer = IP(src=w.VIP, dst=w.CLIENT) / TCP(sport=80, dport=1024)
    error = w.ethernet() / IP(src=ROUTER, dst=w.VIP) / ICMP(type=3, code=4) / answer
    world.apply(WLC)
    world.send(w.tcp("S"))

    world.plane.deny([ip_network(denied)])

    assert world.send(error).reason == reason


def test_an_icmpv6_error_is_its_senders(world: w.World) -> None:
    answer = IPv6(src=w.VIP6, dst=w.CLIENT6) / TCP(sport=80, dport=1024)
    error = w.ethernet() / IPv6(src=w.STRANGER6, dst=w.VIP6) / ICMPv6PacketTooBig(mtu=1280) / answer
    world.apply(WLC)
    world.send(w.tcp6("S"))

    world.plane.deny([ip_network(w.STRANGER6)])

    assert world.send(error).reason == "drop_denied"


def test_denying_the_same_again_writes_nothing(world: w.World) -> None:
    world.apply(WLC)
    world.plane.deny([CLIENT, CLIENTS6])

    assert world.plane.deny([CLIENTS6, CLIENT]) == 0


def test_a_new_daemon_takes_over_what_is_denied(world: w.World) -> None:
    world.apply(WLC)
    world.plane.deny([CLIENT, CLIENTS6])
    world.send(w.tcp("S"))

    successor = Dataplane(world.tables, world.clock)

    assert successor.deny([CLIENT, CLIENTS6]) == 0
    assert successor.guarding.denied_packets(CLIENT) == 1


def test_drift_is_repaired(world: w.World) -> None:
    world.apply(WLC)
    world.plane.deny([CLIENT, CLIENTS6])
    for name in ("denied4", "denied6"):
        for keys in [keys.copy() for keys, _ in world.tables.read(name)]:
            world.tables.delete(name, keys)
    assert world.send(w.tcp("S")).reason == "forward_new"

    world.plane.read_again()

    assert world.plane.deny([CLIENT, CLIENTS6]) == 2
    assert world.send(w.tcp("S")).reason == "drop_denied"


def test_one_more_and_one_less_cost_no_look_at_the_others(
    world: w.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.apply(WLC)
    world.plane.deny([CLIENTS6, OTHERS])
    written: list[str] = []
    write, delete = world.tables.write, world.tables.delete
    monkeypatch.setattr(world.tables, "write", lambda name, *rest: written.append(name) or write(name, *rest))
    monkeypatch.setattr(
        world.tables, "delete", lambda name, *rest: written.append(name) or delete(name, *rest)
    )

    assert world.plane.deny_some([CLIENT], [CLIENTS6]) == 2

    assert written == ["denied4", "denied6"]
    assert world.plane.guarding.denied() == {OTHERS, CLIENT}
    assert world.send(w.tcp("S")).reason == "drop_denied"
    assert world.plane.deny_some([], [CLIENT, OTHERS]) == 2
    assert world.send(w.tcp("S")).reason == "forward_new"
    assert world.plane.deny_some([], [CLIENT]) == 0


@pytest.mark.parametrize("touched", ["lost", "come", "none"])
def test_a_survey_finds_what_somebody_else_changed(world: w.World, touched: str) -> None:
    guarding = world.plane.guarding
    world.plane.deny([CLIENT, CLIENTS6])
    guarding.check()
    if touched != "none":
        name = "denied4"
        keys, values = next((keys.copy(), values.copy()) for keys, values in world.tables.read(name))
        if touched == "lost":
            world.tables.delete(name, keys)
        else:
            keys["prefix"] = 8
            world.tables.write(name, keys, values)

    found = [guarding.survey() for _ in range(12)]

    assert all(found) == (touched == "none")
    guarding.check()


def test_a_survey_looks_at_a_part_each_time(world: w.World, monkeypatch: pytest.MonkeyPatch) -> None:
    room = world.tables.entries("denials")
    monkeypatch.setattr(guarding_module, "AT_ONCE", room // 4)
    world.plane.deny([ip_network(f"10.1.{n >> 8}.{n & 255}") for n in range(room)])
    world.plane.guarding.check()
    looked: list[int] = []
    read = world.tables.read

    def counted(name: str, *rest: int) -> Any:
        for keys, values in read(name, *rest):
            looked.append(len(keys))
            yield keys, values

    monkeypatch.setattr(world.tables, "read", counted)

    assert world.plane.guarding.survey()

    assert looked == [room // 4]


def test_as_many_as_there_is_room_for_can_be_exchanged_at_once(world: w.World) -> None:
    room = world.tables.entries("denials")
    some, others = ([ip_network(f"10.{half}.{n >> 8}.{n & 255}") for n in range(room)] for half in (1, 2))
    world.plane.deny(some)

    assert world.plane.deny(others) == 2 * room

    with pytest.raises(CapacityError, match=r"sizes\.denied"):
        world.plane.deny([*others, CLIENT])
    assert world.plane.deny(others) == 0
