# SPDX-License-Identifier: Apache-2.0
"""Drops by service: each packet that is dropped or rejected counts for the service that it is for alone."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.packet import Packet, Raw

import tests.support.world as w
from xdpdirector.dataplane.service_plan import ServicePlan, State
from xdpdirector.model import Listener
from xdpdirector.model.guard import ServiceLimit

OTHER = w.service(
    name="other",
    listeners=(Listener.parse("192.0.2.11:80/tcp"),),
    members=(replace(w.backend("web2"), hop=w.hop("web2")),),
)
NOBODY = w.service(members=())
DOWN = w.backend("web1", state=State.DOWN, accepts=False)
UNRESOLVED = w.backend("web1", hop=None)
SHORT = w.ethernet() / IP(src=w.CLIENT, dst=w.VIP, proto=6) / Raw(bytes(TCP(dport=80))[:12])
CLIENTS = ip_network("192.0.2.100/32")


@pytest.mark.parametrize(
    ("plan", "frame", "reason"),
    [
        pytest.param(NOBODY, w.tcp("S"), "reject_empty", id="no backend, reject"),
        pytest.param(replace(NOBODY, on_empty="drop"), w.tcp("S"), "drop_empty", id="no backend, drop"),
        pytest.param(NOBODY, w.udp(), "reject_empty", id="no backend, a datagram"),
        pytest.param(w.service(), w.tcp("A"), "reject_unknown", id="unknown, reject"),
        pytest.param(w.service(on_unknown="drop"), w.tcp("A"), "drop_unknown", id="unknown, drop"),
        pytest.param(w.service(), w.tcp("R"), "drop_reset", id="a RST that nobody knows"),
        pytest.param(w.service(members=(UNRESOLVED,)), w.tcp("S"), "drop_unresolved", id="no MAC address"),
        pytest.param(w.service(), SHORT, "drop_malformed_tcp", id="cut short"),
    ],
)
def test_a_drop_counts_for_its_service(world: w.World, plan: ServicePlan, frame: Packet, reason: str) -> None:
    world.apply(OTHER)
    world.apply(plan)

    assert [world.send(frame).reason for _ in range(3)] == [reason] * 3

    assert world.plane.counters.drops(["web", "other", "none"]) == {
        "web": {reason: 3},
        "other": {},
        "none": {},
    }
    assert {name: row[3] for name, row in world.plane.counters.of_services().rows().items()} == {
        "web": 3,
        "other": 0,
    }


def test_what_is_forwarded_counts_for_none(world: w.World) -> None:
    world.apply(w.service())

    for flags in ("S", "A", "PA"):
        assert world.send(w.tcp(flags)).verdict == w.TX

    assert world.plane.counters.drops(["web"]) == {"web": {}}


@pytest.mark.parametrize("policy", ["drop", "reject"])
def test_a_backend_that_went_down(world: w.World, policy: str) -> None:
    world.apply(w.service(on_down=policy))
    world.send(w.tcp("S"))
    world.apply(w.service(on_down=policy, members=(DOWN,)))

    world.send(w.tcp("A"))

    assert world.plane.counters.drops(["web"])["web"] == {f"{policy}_down": 1}


def test_a_limit(world: w.World) -> None:
    world.apply(w.service(limit=ServiceLimit(rate=1, burst=1)))

    reasons = [world.send(w.tcp("S", sport=sport)).reason for sport in range(1, 5)]

    assert world.plane.counters.drops(["web"])["web"] == {
        "drop_limited_service": reasons.count("drop_limited_service")
    }
    assert reasons[-1] == "drop_limited_service"


def test_a_denied_client_with_fragments_and_errors(world: w.World) -> None:
    world.apply(w.service())
    world.send(w.tcp("S"))
    first, later = (
        w.ethernet() / IP(src=w.CLIENT, dst=w.VIP, id=7, flags=flags, frag=place, proto=17) / part
        for flags, place, part in (("MF", 0, UDP(dport=53, len=24) / bytes(8)), (0, 2, Raw(bytes(8))))
    )
    assert world.send(first).reason == "forward_new"
    quoted = bytes(IP(src=w.VIP, dst=w.CLIENT) / TCP(sport=80, dport=1024))[:28]
    error = w.ethernet() / IP(src=w.CLIENT, dst=w.VIP) / ICMP(type=3, code=1) / Raw(quoted)
    world.plane.deny([CLIENTS])

    reasons = [world.send(frame).reason for frame in (w.tcp("A"), later, error)]

    assert reasons == ["drop_denied"] * 3
    assert world.plane.counters.drops(["web"])["web"] == {"drop_denied": 3}


def test_who_gets_the_index_of_another_begins_at_nothing(world: w.World) -> None:
    world.apply(w.service())
    world.send(w.tcp("A"))
    world.plane.remove("web")

    world.apply(OTHER)

    assert world.plane.counters.drops(["other"]) == {"other": {}}
