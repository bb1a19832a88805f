# SPDX-License-Identifier: Apache-2.0
"""What a service may be: port ranges, any port, other protocols, persistence, one-packet scheduling, VLANs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from scapy.layers.inet import GRE, IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Packet

import tests.support.world as w
from xdpdirector.dataplane.service_plan import Hop, ServicePlan, State
from xdpdirector.model import Listener, Persistence, Scheduler

TWO = (w.backend("web1"), w.backend("web2"))


def listening(*texts: str, **changes: object) -> ServicePlan:
    return w.service(listeners=tuple(Listener.parse(text) for text in texts), **changes)


@pytest.mark.parametrize(
    ("ports", "inside", "outside"),
    [
        ("1000-1999", (1000, 1023, 1024, 1500, 1999), (999, 2000, 65535, 80)),
        ("1-65535", (1, 2, 80, 32768, 65535), ()),
        ("*", (1, 80, 65535), ()),
        ("7-8", (7, 8), (6, 9)),
        ("32767-32769", (32767, 32768, 32769), (32766, 32770)),
    ],
    ids=str,
)
def test_a_range_of_ports(
    world: w.World, ports: str, inside: tuple[int, ...], outside: tuple[int, ...]
) -> None:
    world.apply(listening(f"{w.VIP}:{ports}/tcp", f"[{w.VIP6}]:{ports}/tcp"))

    for frame in (w.tcp, w.tcp6):
        assert {world.send(frame("S", dport=port)).reason for port in inside} == {"forward_new"}
        assert {world.send(frame("S", dport=port)).reason for port in outside} <= {"pass_no_listener"}
    assert world.send(w.udp(dport=inside[0])).reason == "pass_no_listener"


def test_the_narrower_listener_counts(world: w.World) -> None:
    wide = listening(f"{w.VIP}:*/tcp", name="wide", members=(w.backend("web1"),))
    middle = listening(f"{w.VIP}:1024-2047/tcp", name="middle", members=(w.backend("web2"),))
    exact = listening(f"{w.VIP}:1500/tcp", name="exact", members=(w.backend("web3"),))
    world.apply(exact, wide, middle)

    owners = {port: w.owner(world.send(w.tcp("S", dport=port))) for port in (80, 1024, 1500, 2047, 2048)}
    assert owners == {80: "web1", 1024: "web2", 1500: "web3", 2047: "web2", 2048: "web1"}

    world.plane.remove("middle")
    assert w.owner(world.send(w.tcp("S", sport=9, dport=1024))) == "web1"


def test_ranges_that_share_a_prefix(world: w.World) -> None:
    wide = listening(f"{w.VIP}:1024-2049/tcp", name="wide", members=(w.backend("web1"),))
    narrow = listening(f"{w.VIP}:1024-2047/tcp", name="narrow", members=(w.backend("web2"),))
    world.apply(narrow, wide)

    owners = {port: w.owner(world.send(w.tcp("S", dport=port))) for port in (1024, 2047, 2048)}
    assert owners == {1024: "web2", 2047: "web2", 2048: "web1"}

    world.plane.remove("narrow")
    assert w.owner(world.send(w.tcp("S", sport=9, dport=1024))) == "web1"


def gre(client: str = w.CLIENT) -> Packet:
    return w.ethernet() / IP(src=client, dst=w.VIP) / GRE() / IP() / TCP()


def test_a_protocol_without_ports_by_addresses(world: w.World) -> None:
    world.apply(listening(f"{w.VIP}:*/gre", f"[{w.VIP6}]:*/esp", members=TWO))
    over6 = w.ethernet() / IPv6(src=w.CLIENT6, dst=w.VIP6, nh=50) / bytes(32)

    first = world.send(gre())
    again = world.send(gre())

    assert (first.reason, again.reason) == ("forward_new", "forward_connection")
    assert first.frame == again.frame == w.to(w.owner(first), gre())
    assert world.send(over6).reason == "forward_new"
    assert Counter(w.owner(world.send(gre(f"198.51.100.{n}"))) for n in range(1, 9)) == {"web1": 4, "web2": 4}


def persistent(scheduler: str = "wlc", **changes: object) -> ServicePlan:
    return w.service(
        scheduler=Scheduler(scheduler),
        ring_slots=1021,
        members=changes.pop("members", TWO),
        persistence=Persistence.model_validate(changes),
    )


@pytest.mark.parametrize("scheduler", ["wlc", "rr", "mh"])
@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_a_client_keeps_its_backend_over_all_listeners(world: w.World, family: str, scheduler: str) -> None:
    world.apply(persistent(scheduler))
    tcp, udp = (w.tcp, w.udp) if family == "IPv4" else (w.tcp6, w.udp6)

    frames = [tcp("S", sport=sport) for sport in range(1, 20)] + [udp(sport=sport) for sport in range(1, 20)]

    assert len({w.owner(world.send(frame)) for frame in frames}) == 1


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_a_running_connection_keeps_its_client(world: w.World, family: str) -> None:
    world.apply(persistent("rr"))
    tcp = w.tcp if family == "IPv4" else w.tcp6
    first = w.owner(world.send(tcp("S", sport=1)))
    world.send(tcp("A", sport=1))
    world.age_clients(by=200)

    world.sweep()
    world.age_clients(by=200)

    assert {w.owner(world.send(tcp("S", sport=sport))) for sport in range(2, 6)} == {first}


@pytest.mark.parametrize("jiffies", [None, 1 << 31, (1 << 31) + (1 << 30)], ids=["just", "half", "more"])
def test_an_old_client_is_nobodys(world: w.World, jiffies: int | None) -> None:
    """Jiffies have 32 bits in its entry: what is older than half of that is no more in the future."""
    world.apply(persistent("rr"))
    first = w.owner(world.send(w.tcp("S", sport=1)))

    world.age_clients(by=jiffies / world.clock.hz if jiffies else 301)

    assert w.owner(world.send(w.tcp("S", sport=2))) != first


def test_persistence_that_is_switched_on_hides_no_running_flow(world: w.World) -> None:
    plain = w.service(scheduler=Scheduler.MH, ring_slots=1021, members=TWO)
    world.apply(plain, now=0)
    owners = {sport: w.owner(world.send(w.tcp("S", sport=sport))) for sport in range(1, 40)}

    world.apply(persistent("mh"), now=0)

    assert not world.plane.rings.is_settled("web")
    assert {sport: w.owner(world.send(w.tcp("PA", sport=sport))) for sport in owners} == owners
    world.plane.settle(world.sweep().exceptions, now=plain.flux_seconds + 1)
    assert world.plane.rings.is_settled("web")
    assert len({w.owner(world.send(w.tcp("S", sport=sport))) for sport in range(100, 120)}) == 1

    world.apply(plain, now=2000)
    assert not world.plane.rings.is_settled("web")
    assert {sport: w.owner(world.send(w.tcp("PA", sport=sport))) for sport in owners} == owners


def test_a_new_persistent_service_is_settled_at_once(world: w.World) -> None:
    world.apply(persistent("mh"))

    assert world.plane.rings.is_settled("web")


def test_clients_under_one_prefix_are_one_client(world: w.World) -> None:
    world.apply(persistent("rr", prefix=24))

    near = {w.owner(world.send(w.tcp("S", client=f"198.51.100.{n}"))) for n in range(1, 20)}
    far = {w.owner(world.send(w.tcp("S", client=f"198.51.{n}.1"))) for n in range(1, 20)}

    assert len(near) == 1
    assert len(far) == 2


@pytest.mark.parametrize(("on_drain", "stays"), [("keep", True), ("leave", False)])
def test_what_a_drain_means_for_persistence(world: w.World, on_drain: str, stays: bool) -> None:
    world.apply(persistent(on_drain=on_drain))
    first = w.owner(world.send(w.tcp("S", sport=1)))
    members = tuple(w.backend(name, accepts=name != first) for name in ("web1", "web2"))

    world.apply(persistent(on_drain=on_drain, members=members))

    assert (w.owner(world.send(w.tcp("S", sport=2))) == first) is stays


def test_a_backend_that_is_down_keeps_nobody(world: w.World) -> None:
    world.apply(persistent(on_drain="keep"))
    first = w.owner(world.send(w.tcp("S", sport=1)))

    world.apply(persistent(on_drain="keep", members=tuple(b for b in TWO if b.name != first)))

    second = {w.owner(world.send(w.tcp("S", sport=sport))) for sport in range(2, 9)}
    assert second == {"web1", "web2"} - {first}


def test_the_answer_to_a_servers_own_connection_follows_the_client(world: w.World) -> None:
    """Active FTP: the server opens the data connection, the client's SYN and ACK come through the director."""
    plan = persistent("rr")
    world.apply(
        listening(f"{w.VIP}:*/tcp", scheduler=Scheduler.RR, members=TWO, persistence=plan.persistence)
    )
    control = w.owner(world.send(w.tcp("S", sport=1, dport=21)))

    data = world.send(w.tcp("SA", sport=2, dport=20))

    assert (w.owner(data), data.reason) == (control, "forward_new")
    assert world.send(w.tcp("PA", sport=2, dport=20)).reason == "forward_connection"


def test_the_answer_to_the_connection_of_a_server_that_drains_reaches_it(world: w.World) -> None:
    """It has opened it itself; new ones of the client go elsewhere."""
    world.apply(persistent())
    draining = w.owner(world.send(w.tcp("S", sport=1)))
    members = tuple(replace(each, accepts=each.name != draining) for each in TWO)
    world.apply(persistent(members=members))

    assert w.owner(world.send(w.tcp("SA", sport=2))) == draining
    assert w.owner(world.send(w.tcp("S", sport=3))) != draining


@pytest.mark.parametrize(
    ("policy", "reason"),
    [("reject", "reject_unknown"), ("drop", "drop_unknown"), ("schedule", "forward_reopened")],
)
@pytest.mark.parametrize("is_persistent", [True, False], ids=["persistent", "plain"])
def test_a_syn_and_ack_from_somebody_unknown_opens_nothing(
    world: w.World, is_persistent: bool, policy: str, reason: str
) -> None:
    """Only what says schedule does."""
    plan = w.service(on_unknown=policy)
    world.apply(replace(plan, persistence=Persistence()) if is_persistent else plan)

    assert world.send(w.tcp("SA")).reason == reason
    assert (len(world.connections()) > 0) == (policy == "schedule")


@pytest.mark.parametrize("flags", ["R", "RA", "RPA", "SR"])
@pytest.mark.parametrize("is_persistent", [True, False], ids=["persistent", "plain"])
def test_a_reset_of_no_known_connection_is_never_scheduled(
    world: w.World, is_persistent: bool, flags: str
) -> None:
    plan = w.service(on_unknown="schedule")
    world.apply(replace(plan, persistence=Persistence()) if is_persistent else plan)
    frame = w.tcp(flags)

    assert world.send(frame) == w.Outcome(w.DROP, "drop_unknown", bytes(frame))
    assert world.connections() == []


@pytest.mark.parametrize("scheduler", [Scheduler.WLC, Scheduler.MH], ids=str)
def test_a_reset_whose_backend_is_down_is_never_scheduled(world: w.World, scheduler: Scheduler) -> None:
    plan = w.service(scheduler=scheduler, on_down="schedule", members=TWO)
    world.apply(plan)
    lost = w.owner(world.send(w.tcp("S")))
    down = tuple(
        replace(each, state=State.DOWN, accepts=False) if each.name == lost else each for each in TWO
    )
    world.apply(replace(plan, members=down))

    assert world.send(w.tcp("R")).reason == "drop_down"
    assert w.owner(world.send(w.tcp("S"))) != lost


@pytest.mark.parametrize("scheduler", ["rr", "wlc"])
def test_one_packet_scheduling_remembers_nothing(world: w.World, scheduler: str) -> None:
    world.apply(w.service(scheduler=Scheduler(scheduler), members=TWO, one_packet=True))

    outcomes = [world.send(w.udp(sport=7)) for _ in range(6)]

    assert {outcome.reason for outcome in outcomes} == {"forward_unrecorded"}
    assert world.connections() == []
    if scheduler == "rr":
        assert Counter(map(w.owner, outcomes)) == {"web1": 3, "web2": 3}


PAYLOAD = IP(src=w.CLIENT, dst=w.VIP) / TCP(sport=1024, dport=80, flags="S")
CAME = {
    "untagged": w.ethernet() / PAYLOAD,
    "tagged": w.ethernet() / Dot1Q(vlan=5) / PAYLOAD,
    "QinQ": w.ethernet() / Dot1AD(vlan=9) / Dot1Q(vlan=5) / PAYLOAD,
}


@pytest.mark.parametrize("came", list(CAME))
@pytest.mark.parametrize("vlan", [0, 7, None], ids=["to none", "to 7", "as it came"])
def test_a_backend_in_another_vlan(world: w.World, vlan: int | None, came: str) -> None:
    hop = Hop(w.mac(w.WEB1_MAC), w.mac(w.DIRECTOR_MAC), w.LOOPBACK, vlan=vlan)
    world.apply(w.service(members=(w.backend("web1", hop=hop),)))

    outcome = world.send(CAME[came])

    link = Ether(dst=w.WEB1_MAC, src=w.DIRECTOR_MAC)
    expected = (
        w.to("web1", CAME[came])
        if vlan is None
        else bytes((link / Dot1Q(vlan=7) if vlan else link) / PAYLOAD)
    )
    assert outcome == w.Outcome(w.TX, "forward_new", expected)


def test_the_vlan_of_an_ipv6_packet(world: w.World) -> None:
    hop = Hop(w.mac(w.WEB1_MAC), w.mac(w.DIRECTOR_MAC), w.LOOPBACK, vlan=7)
    world.apply(w.service(members=(w.backend("web1", hop=hop),)))

    outcome = world.send(w.tcp6("S"))

    expected = Ether(dst=w.WEB1_MAC, src=w.DIRECTOR_MAC) / Dot1Q(vlan=7) / w.tcp6("S")[IPv6]
    assert outcome.frame == bytes(expected)
