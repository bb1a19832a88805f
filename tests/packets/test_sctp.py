# SPDX-License-Identifier: Apache-2.0
"""SCTP by ports (RFC 9260): associations and their states, what is answered, ICMP errors. Scapy makes the packets,
and the checksums that answers must have.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.layers.l2 import Dot1Q
from scapy.layers.sctp import (
    SCTP,
    SCTPChunkAbort,
    SCTPChunkCookieAck,
    SCTPChunkCookieEcho,
    SCTPChunkData,
    SCTPChunkHeartbeatReq,
    SCTPChunkInit,
    SCTPChunkInitAck,
    SCTPChunkSACK,
    SCTPChunkShutdown,
    SCTPChunkShutdownAck,
    SCTPChunkShutdownComplete,
)
from scapy.packet import Packet, Raw

import tests.support.world as w
from xdpdirector.dataplane.service_plan import ServicePlan, State
from xdpdirector.model import Listener, Persistence, Scheduler
from xdpdirector.model.guard import ServiceLimit

PORT, TAG, CLIENTS_TAG = 3868, 0x01020304, 0xA0B0C0D0
TWO = (w.backend("web1"), w.backend("web2"))
LISTENERS = (Listener.parse(f"{w.VIP}:{PORT}/sctp"), Listener.parse(f"[{w.VIP6}]:{PORT}/sctp"))
RING = {"scheduler": Scheduler.MH, "ring_slots": 1021}

INIT = SCTPChunkInit(init_tag=CLIENTS_TAG, a_rwnd=65536, n_out_streams=1, n_in_streams=1, init_tsn=1)
COOKIE = SCTPChunkCookieEcho(cookie=b"made by the backend of it")
DATA = SCTPChunkData(data=b"a request", tsn=1)
SACK = SCTPChunkSACK(cumul_tsn_ack=1)
SHUTDOWN, SHUTDOWN_ACK = SCTPChunkShutdown(cumul_tsn_ack=1), SCTPChunkShutdownAck()
COMPLETE, ABORT = SCTPChunkShutdownComplete(), SCTPChunkAbort()
HEARTBEAT = SCTPChunkHeartbeatReq()


def diameter(**changes: object) -> ServicePlan:
    return w.service(**{"listeners": LISTENERS, "members": TWO} | changes)


def packet(
    chunk: Packet, sport: int = 40000, *, ipv6: bool = False, dport: int = PORT, client: str = w.CLIENT
) -> Packet:
    """An INIT has no tag, all else that of the backend."""
    head = SCTP(sport=sport, dport=dport, tag=0 if isinstance(chunk, SCTPChunkInit) else TAG)
    ip = IPv6(src=w.CLIENT6, dst=w.VIP6) if ipv6 else IP(src=client, dst=w.VIP)
    return w.ethernet() / ip / head / chunk


def answer(to: Packet, chunk: Packet, tag: int) -> bytes:
    turned = w.ethernet(source=w.DIRECTOR_MAC, destination=w.ROUTER_MAC)
    if Dot1Q in to:
        turned /= Dot1Q(vlan=to[Dot1Q].vlan)
    if IP in to:
        turned /= IP(src=w.VIP, dst=to[IP].src, id=0, flags="DF", ttl=64)
    else:
        turned /= IPv6(src=w.VIP6, dst=w.CLIENT6, hlim=64)
    return bytes(turned / SCTP(sport=to[SCTP].dport, dport=to[SCTP].sport, tag=tag) / chunk)


def states(world: w.World) -> list[str]:
    names = {number: name for name, number in world.tables.enums["connection_state"].items()}
    return [
        names[int(state)].removeprefix("CONNECTION_")
        for rows in world.connections()
        for state in rows["state"]
    ]


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
def test_an_association_keeps_its_backend_from_init_to_shutdown(world: w.World, ipv6: bool) -> None:
    world.apply(diameter())
    frame = packet(INIT, ipv6=ipv6)
    first = world.send(frame)
    name = w.owner(first)

    assert first == w.Outcome(w.TX, "forward_new", w.to(name, frame))
    for number in range(5):
        world.send(packet(INIT, 40001 + number, ipv6=ipv6))
    for chunk in (COOKIE, DATA, SACK, HEARTBEAT, DATA, SHUTDOWN, COMPLETE):
        frame = packet(chunk, ipv6=ipv6)
        assert world.send(frame) == w.Outcome(w.TX, "forward_connection", w.to(name, frame)), chunk.name


def test_ports_tell_listeners_and_associations_apart(world: w.World) -> None:
    world.apply(diameter())
    owners = {w.owner(world.send(packet(INIT, 41000 + number))) for number in range(4)}

    assert owners == {"web1", "web2"}
    assert world.send(packet(INIT, dport=PORT + 1)).reason == "pass_no_listener"
    assert world.send(w.tcp(dport=PORT)).reason == "pass_no_listener"


@pytest.mark.parametrize("ports", ["*", "3860-3869"])
def test_any_port_and_ranges(world: w.World, ports: str) -> None:
    world.apply(diameter(listeners=(Listener.parse(f"{w.VIP}:{ports}/sctp"),)))

    assert world.send(packet(INIT)).reason == "forward_new"
    assert world.send(packet(DATA)).reason == "forward_connection"
    assert world.send(packet(DATA, 40001)).reason == "reject_unknown"


STAGES = [
    ([INIT], "SYN"),
    ([INIT, INIT], "SYN"),
    ([INIT, COOKIE], "ESTABLISHED"),
    ([INIT, COOKIE, DATA], "USED_ESTABLISHED"),
    ([INIT, COOKIE, SHUTDOWN], "FIN"),
    ([INIT, COOKIE, SHUTDOWN_ACK], "FIN"),
    ([INIT, COOKIE, SHUTDOWN, SACK], "FIN"),
    ([INIT, COOKIE, SHUTDOWN, COMPLETE], "FIN"),
    ([INIT, COOKIE, SHUTDOWN, HEARTBEAT], "FIN"),
    ([INIT, COOKIE, SHUTDOWN, DATA], "ESTABLISHED"),  # who sends data has not sent the SHUTDOWN
    ([INIT, COOKIE, ABORT], "CLOSED"),
    ([INIT, COOKIE, ABORT, HEARTBEAT], "CLOSED"),
    ([INIT, COOKIE, ABORT, SACK], "ESTABLISHED"),  # nor the ABORT
    ([INIT, COOKIE, SHUTDOWN, INIT], "REOPENED"),
    ([INIT, COOKIE, SHUTDOWN, INIT, COOKIE], "USED_ESTABLISHED"),
    ([INIT, COOKIE, INIT], "ESTABLISHED"),  # a restart; anybody could have made it up
]


@pytest.mark.parametrize(
    ("chunks", "state"),
    STAGES,
    ids=[" ".join(each.name.removeprefix("SCTPChunk") for each in row[0]) for row in STAGES],
)
def test_states_of_the_clients_half(world: w.World, chunks: list[Packet], state: str) -> None:
    world.apply(diameter())
    for chunk in chunks:
        world.send(packet(chunk))

    assert states(world) == [state]


REFUSED = {
    "INIT": (INIT, SCTPChunkAbort(), CLIENTS_TAG),
    "DATA": (DATA, SCTPChunkAbort(TCB=1), TAG),
    "COOKIE ECHO": (COOKIE, SCTPChunkAbort(TCB=1), TAG),
    "SHUTDOWN": (SHUTDOWN, SCTPChunkAbort(TCB=1), TAG),
    "SHUTDOWN ACK": (SHUTDOWN_ACK, SCTPChunkShutdownComplete(TCB=1), TAG),
}


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_served_gets_an_abort_that_its_sender_takes(
    world: w.World, what: str, ipv6: bool
) -> None:
    chunk, refusal, tag = REFUSED[what]
    world.apply(diameter(members=()))
    frame = packet(chunk, ipv6=ipv6)

    reason = "reject_empty" if what == "INIT" else "reject_unknown"
    assert world.send(frame) == w.Outcome(w.TX, reason, answer(frame, refusal, tag))


def test_an_abort_is_as_long_as_it_is_and_keeps_the_vlan(world: w.World) -> None:
    world.apply(diameter())
    link, rest = w.ethernet(), packet(DATA)[IP]
    frame = link / Dot1Q(vlan=7) / rest

    assert world.send(bytes(frame) + bytes(9)).frame == answer(frame, SCTPChunkAbort(TCB=1), TAG)
    small = packet(SHUTDOWN_ACK)
    assert len(bytes(small)) < 14 + 20 + 20
    assert world.send(small).frame == answer(small, SCTPChunkShutdownComplete(TCB=1), TAG)


@pytest.mark.parametrize(
    "chunk", [ABORT, COMPLETE, SCTPChunkCookieAck(), HEARTBEAT], ids=lambda each: each.name
)
def test_what_is_never_answered(world: w.World, chunk: Packet) -> None:
    world.apply(diameter())
    frame = packet(chunk)

    assert world.send(frame) == w.Outcome(w.DROP, "drop_reset", bytes(frame))


def test_an_abort_goes_to_one_host_only(world: w.World) -> None:
    world.apply(diameter())

    assert world.send(packet(DATA, client="224.0.0.5")).reason == "drop_unanswerable"


def test_policies(world: w.World) -> None:
    world.apply(diameter(on_unknown="drop"))
    assert world.send(packet(DATA)).reason == "drop_unknown"
    world.apply(diameter(on_unknown="schedule"))
    assert world.send(packet(ABORT)).reason == "drop_unknown"
    assert world.send(packet(DATA)).reason == "forward_reopened"
    assert world.send(packet(DATA)).reason == "forward_connection"


@pytest.mark.parametrize(
    ("policy", "reason"), [("reject", "reject_down"), ("drop", "drop_down"), ("schedule", "forward_reopened")]
)
def test_a_backend_that_is_lost(world: w.World, policy: str, reason: str) -> None:
    world.apply(diameter(on_down=policy))
    name = w.owner(world.send(packet(INIT)))
    world.send(packet(COOKIE))
    down = w.backend(name, accepts=False, state=State.DOWN)
    world.apply(diameter(on_down=policy, members=(down, *(each for each in TWO if each.name != name))))

    assert world.send(packet(DATA)).reason == reason


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
def test_a_ring_records_nothing(world: w.World, ipv6: bool) -> None:
    world.apply(diameter(**RING))
    owners = []
    for sport in range(40000, 40020):
        outcomes = [world.send(packet(chunk, sport, ipv6=ipv6)) for chunk in (INIT, COOKIE, DATA)]
        assert {each.reason for each in outcomes} == {"forward_ring"}
        owners.append({w.owner(each) for each in outcomes})

    assert all(len(each) == 1 for each in owners)
    assert len(set().union(*owners)) == 2
    assert states(world) == []


def test_in_flux_a_cookie_echo_proves_the_init(world: w.World) -> None:
    """Without it the packet behind the INIT is of an association that runs at the slot's former owner."""
    world.apply(diameter(**RING, members=(w.backend("web1"),)))
    for sport in range(40000, 40060):
        world.send(packet(INIT, sport))
    world.apply(diameter(**RING))

    moved = []
    for sport in range(40000, 40060):
        first = world.send(packet(INIT, sport))
        if w.owner(first) == "web2":
            moved.append(sport)
    assert moved
    for number, sport in enumerate(moved):
        chunk, owner = (COOKIE, "web2") if number % 2 else (DATA, "web1")
        assert [w.owner(world.send(packet(each, sport))) for each in (chunk, DATA)] == [owner, owner]


def test_limits_count_inits(world: w.World) -> None:
    limit = ServiceLimit(rate="1/h", burst=3)
    for plan in (diameter(limit=limit), diameter(limit=limit, **RING)):
        world.fill_buckets()
        world.apply(plan)
        reasons = [world.send(packet(INIT, sport)).reason for sport in range(40000, 40004)]
        assert reasons[3] == "drop_limited_service"
        assert all(each.startswith("forward") for each in reasons[:3])
        assert world.send(packet(DATA, 40000)).reason.startswith("forward")
        world.empty()


def test_persistence_and_the_other_sides_init(world: w.World) -> None:
    """An association that a backend opens shows as its client's INIT ACK."""
    world.apply(diameter(persistence=Persistence()))
    name = w.owner(world.send(packet(INIT)))
    world.send(packet(COOKIE))

    for sport in range(40001, 40010):
        assert w.owner(world.send(packet(INIT, sport))) == name
    theirs = world.send(packet(SCTPChunkInitAck(init_tag=5), 50000))
    assert (w.owner(theirs), theirs.reason) == (name, "forward_new")
    stranger = packet(SCTPChunkInitAck(init_tag=5), client="198.51.100.77")
    assert world.send(stranger).reason == "reject_unknown"


@pytest.mark.parametrize("scheduler", [{}, RING], ids=["wlc", "mh"])
@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
def test_an_icmp_error_goes_to_the_associations_backend(
    world: w.World, scheduler: dict[str, object], ipv6: bool
) -> None:
    world.apply(diameter(**scheduler))
    owners = set()
    for sport in range(40000, 40012):
        name = w.owner(world.send(packet(INIT, sport, ipv6=ipv6)))
        owners.add(name)
        theirs = bytes(SCTP(sport=PORT, dport=sport, tag=CLIENTS_TAG) / DATA)[:8]
        if ipv6:
            quoted = IPv6(src=w.VIP6, dst=w.CLIENT6, nh=132, plen=1400)
            frame = w.ethernet() / IPv6(src="2001:db8::fe", dst=w.VIP6) / ICMPv6PacketTooBig(mtu=1280)
        else:
            quoted = IP(src=w.VIP, dst=w.CLIENT, proto=132, len=1400)
            frame = w.ethernet() / IP(src="192.0.2.254", dst=w.VIP) / ICMP(type=3, code=4, nexthopmtu=1280)
        frame /= Raw(bytes(quoted) + theirs)

        assert world.send(frame) == w.Outcome(w.TX, "forward_error", w.to(name, frame))
    assert owners == {"web1", "web2"}


def test_fragments_follow_the_one_with_the_ports(world: w.World) -> None:
    world.apply(diameter())
    name = w.owner(world.send(packet(INIT)))
    world.send(packet(COOKIE))
    whole = bytes(packet(SCTPChunkData(data=bytes(1200), tsn=1))[IP].payload)
    head = IP(src=w.CLIENT, dst=w.VIP, proto=132, id=7)
    first = w.ethernet() / head.copy() / Raw(whole[:800])
    first[IP].flags = "MF"
    later = w.ethernet() / head.copy() / Raw(whole[800:])
    later[IP].frag = 100

    assert world.send(first) == w.Outcome(w.TX, "forward_connection", w.to(name, first))
    assert world.send(later) == w.Outcome(w.TX, "forward_fragment", w.to(name, later))


def test_the_counts_of_a_backend(world: w.World) -> None:
    world.apply(diameter(members=(w.backend("web1"),)))
    index = world.plane.indices.backends["web", "web1"]

    def counts() -> list[int]:
        world.sweep()  # what earlier tests left is corrected
        rows = world.tables.loads
        return [int(rows[each][index] + rows[f"{each}_correction"][index]) for each in ("active", "inactive")]

    for sport in range(40000, 40003):
        world.send(packet(INIT, sport))
        world.send(packet(COOKIE, sport))
    assert counts() == [3, 0]

    world.send(packet(SHUTDOWN, 40000))

    assert counts() == [2, 1]


def test_thresholds(world: w.World) -> None:
    full = replace(w.backend("web1"), upper=2, lower=2)
    world.apply(diameter(members=(full,)))

    reasons = [world.send(packet(INIT, sport)).reason for sport in range(40000, 40003)]

    assert reasons == ["forward_new", "forward_new", "reject_empty"]
