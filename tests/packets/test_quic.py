# SPDX-License-Identifier: Apache-2.0
"""QUIC connection IDs that name backends: who is named, who is not, and what is remembered of it.

A client that moves is one that sends from another port.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.l2 import Dot1Q

import tests.support.world as w
from xdpdirector.dataplane.service_plan import ServicePlan, State
from xdpdirector.dataplane.writer import Dataplane
from xdpdirector.model import Persistence, Scheduler
from xdpdirector.model.guard import ServiceLimit
from xdpdirector.model.quic import QuicSpec
from xdpdirector.model.status import CidPackets

LB = QuicSpec(cids="quic-lb", length=2)
IDS = {"web1": b"\1\1", "web2": b"\2\2", "web3": b"\3\3"}
UNKNOWN = b"\4\4"
NONCE = bytes(range(6))
V1, V2, DRAFT = b"\0\0\0\1", bytes.fromhex("6b3343cf"), bytes.fromhex("ff00001d")
SEALED = bytes(24)
"""Packet number, data and tag: nobody but client and server can read them."""
NEW_FLOWS = {Scheduler.WLC: "forward_new", Scheduler.MH: "forward_ring"}
schedulers = pytest.mark.parametrize("scheduler", NEW_FLOWS)


def service(scheduler: Scheduler = Scheduler.WLC, quic: QuicSpec = LB, **changes: object) -> ServicePlan:
    members = tuple(w.backend(name, quic_id=raw) for name, raw in IDS.items())
    return w.service(**{"scheduler": scheduler, "quic": quic, "members": members} | changes)


def cid(raw: bytes, config: int = 0, nonce: bytes = NONCE) -> bytes:
    """As QUIC-LB makes it, with its length in the first octet."""
    return bytes([config << 5 | len(raw) + len(nonce)]) + raw + nonce


def short(connection_id: bytes) -> bytes:
    return b"\x40" + connection_id + SEALED


def long(connection_id: bytes, first: int = 0xE0, version: bytes = V1) -> bytes:
    """A Handshake packet, unless `first` says something else, with an empty source connection ID."""
    return bytes([first]) + version + bytes([len(connection_id)]) + connection_id + b"\0" + SEALED


def elsewhere(world: w.World, data: bytes) -> tuple[int, str]:
    """A client's port from which this datagram goes to another backend than web2, and that one."""
    for sport in range(5000, 5100):
        went = w.owner(world.send(w.udp(sport=sport, data=data)))
        if went != "web2":
            return sport, went
    raise AssertionError("all flows go to web2")


def moved(world: w.World) -> int:
    """A port of which nothing is known, and whose slot in a ring is not web2's."""
    sport, _ = elsewhere(world, b"no QUIC")
    world.forget_connections()
    return sport


# Who is named


@schedulers
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(short(cid(IDS["web2"])), id="short header"),
        pytest.param(b"\x7f" + cid(IDS["web2"]) + SEALED, id="all bits of a short header"),
        pytest.param(short(cid(IDS["web2"], nonce=NONCE[:4])), id="shortest nonce"),
        pytest.param(long(cid(IDS["web2"])), id="Handshake, version 1"),
        pytest.param(long(cid(IDS["web2"]), 0xF0, V2), id="Handshake, version 2"),
    ],
)
def test_a_client_that_moves_stays_with_the_backend_that_its_connection_id_names(
    world: w.World, scheduler: Scheduler, data: bytes
) -> None:
    world.apply(service(scheduler))
    sport = moved(world)

    frame = w.udp(sport=sport, data=data)
    first, second = world.send(frame), world.send(frame)

    assert (first.verdict, first.reason, first.frame) == (w.TX, "forward_cid", w.to("web2", frame))
    assert (second.reason, w.owner(second)) == ("forward_connection", "web2")


@pytest.mark.parametrize(
    ("quic", "connection_id"),
    [
        pytest.param(LB, cid(b"\2\2"), id="QUIC-LB"),
        pytest.param(LB.model_copy(update={"config_id": 6}), cid(b"\2\2", 6), id="another configuration"),
        pytest.param(LB.model_copy(update={"encodes_length": True}), cid(b"\2\2"), id="its length in it"),
        pytest.param(QuicSpec(cids="quic-lb", length=1), cid(b"\2"), id="ID of one octet"),
        pytest.param(QuicSpec(cids="quic-lb", length=15), cid(b"\2" * 15, nonce=NONCE[:4]), id="QUIC-LB, longest"),
        pytest.param(QuicSpec(cids="offset", length=2), b"\2\2" + NONCE, id="at the beginning"),
        pytest.param(QuicSpec(cids="offset", length=2, offset=3), NONCE[:3] + b"\2\2", id="in the middle"),
        pytest.param(QuicSpec(cids="offset", length=18, offset=2), b"ab" + b"\2" * 18, id="at an offset, longest"),
        pytest.param(QuicSpec(cids="offset", length=2, offset=1), b"\xff\2\0" + NONCE, id="zeros behind"),
    ],
)  # fmt: skip
def test_each_scheme_finds_the_id(world: w.World, quic: QuicSpec, connection_id: bytes) -> None:
    raw = connection_id[quic.begin : quic.begin + quic.length]
    world.apply(service(quic=quic, members=(w.backend("web1"), w.backend("web2", quic_id=raw))))

    for data in (short(connection_id), long(connection_id)):
        outcome = world.send(w.udp(sport=3000 + len(data), data=data))
        assert (outcome.reason, w.owner(outcome)) == ("forward_cid", "web2")


def test_ids_of_ipv6_of_tagged_frames_and_of_first_fragments_are_read(world: w.World) -> None:
    world.apply(service())
    data = short(cid(IDS["web2"]))
    tagged = w.ethernet() / Dot1Q(vlan=5) / IP(src=w.CLIENT, dst=w.VIP) / UDP(sport=3000, dport=53) / data
    large = IP(src=w.CLIENT, dst=w.VIP) / UDP(sport=3001, dport=53) / (data + bytes(600))
    first, later = (w.ethernet() / part for part in fragment(large, 320)[:2])

    assert world.send(w.udp6(data=data)).frame == w.to("web2", w.udp6(data=data))
    assert w.owner(world.send(tagged)) == "web2"
    assert w.owner(world.send(first)) == "web2"
    assert (world.send(later).reason, w.owner(world.send(later))) == ("forward_fragment", "web2")


# Who is not


NAMELESS = {
    "no QUIC": b"question",
    "the bit that QUIC fixes is 0": b"\0" + cid(IDS["web2"]) + SEALED,
    "another configuration": short(cid(IDS["web2"], 1)),
    "no configuration": short(cid(IDS["web2"], 7)),
    "an ID of nobody": short(cid(UNKNOWN)),
    "cut short": short(cid(IDS["web2"]))[:6],
    "too short for a nonce": short(cid(IDS["web2"]))[: 1 + 3 + 3],
    "Initial": long(cid(IDS["web2"]), 0xC0),
    "0-RTT": long(cid(IDS["web2"]), 0xD0),
    "Retry": long(cid(IDS["web2"]), 0xF0),
    "Initial, version 2": long(cid(IDS["web2"]), 0xD0, V2),
    "0-RTT, version 2": long(cid(IDS["web2"]), 0xE0, V2),
    "a version that is not known": long(cid(IDS["web2"]), 0xE0, DRAFT),
    "version negotiation": long(cid(IDS["web2"]), 0xE0, bytes(4)),
    "no connection ID": long(b""),
    "a connection ID longer than the packet": long(cid(IDS["web2"]))[:5] + b"\x14" + cid(IDS["web2"]),
    "a connection ID longer than any": long(cid(IDS["web2"], nonce=bytes(18))),
    "a connection ID too short for the nonce": long(cid(IDS["web2"], nonce=NONCE[:3])),
}


@schedulers
@pytest.mark.parametrize("data", NAMELESS.values(), ids=NAMELESS)
def test_what_names_nobody_goes_by_its_flow(world: w.World, scheduler: Scheduler, data: bytes) -> None:
    world.apply(service(scheduler))

    sport, _ = elsewhere(world, data)
    world.forget_connections()

    outcome = world.send(w.udp(sport=sport, data=data))
    assert outcome.reason == NEW_FLOWS[scheduler]


LENGTH = LB.model_copy(update={"encodes_length": True})


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x40\x05" + IDS["web2"] + NONCE + SEALED, id="too short for a nonce"),
        pytest.param(b"\x40\x14" + IDS["web2"] + NONCE + SEALED, id="longer than any"),
        pytest.param(b"\x40\x13" + IDS["web2"] + NONCE, id="longer than the packet"),
        pytest.param(long(b"\x09" + IDS["web2"] + NONCE), id="longer than the header says"),
        pytest.param(long(b"\x07" + IDS["web2"] + NONCE), id="shorter than the header says"),
    ],
)
def test_a_length_in_the_first_octet_must_be_right(world: w.World, data: bytes) -> None:
    world.apply(service(quic=LENGTH))

    assert world.send(w.udp(data=data)).reason == "forward_new"
    assert world.send(w.udp(sport=3000, data=short(cid(IDS["web2"])))).reason == "forward_cid"


def test_bytes_behind_the_datagram_name_nobody(world: w.World) -> None:
    """Ethernet pads short frames."""
    world.apply(service())
    data = short(cid(IDS["web2"]))
    frame = bytes(w.udp(data=data[:6])) + data[6:]

    assert world.send(frame).reason == "forward_new"


def test_tcp_and_services_without_quic_are_left_alone(world: w.World) -> None:
    world.apply(service())
    assert world.send(w.tcp("S") / short(cid(IDS["web2"]))).reason == "forward_new"
    assert world.plane.counters.cids(["web"]) == {"web": CidPackets()}

    world.apply(service(quic=None, members=(w.backend("web1"), w.backend("web2"))))
    assert world.send(w.udp(sport=3000, data=short(cid(IDS["web2"])))).reason == "forward_new"


# Flows that are known


def test_a_recorded_flow_keeps_its_backend_whatever_the_id_says(world: w.World) -> None:
    world.apply(service())
    sport, went = elsewhere(world, b"no QUIC")

    outcomes = [world.send(w.udp(sport=sport, data=short(cid(IDS["web2"])))) for _ in range(3)]

    assert {(each.reason, w.owner(each)) for each in outcomes} == {("forward_connection", went)}


def test_on_a_ring_the_id_decides_before_a_record(world: w.World) -> None:
    """The address and port of a connection that has ended are another's now."""
    world.apply(service(Scheduler.MH))
    sport, owner = elsewhere(world, b"no QUIC")
    world.send(w.udp(sport=sport, data=short(cid(IDS["web2"]))))

    (other,) = {"web1", "web3"} - {owner}
    frames = [world.send(w.udp(sport=sport, data=short(cid(IDS[other])))) for _ in range(2)]

    assert [(each.reason, w.owner(each)) for each in frames] == [
        ("forward_cid", other),
        ("forward_connection", other),
    ]
    assert active(world) == {other: 1}


def active(world: w.World) -> dict[str, int]:
    """Connections by backend, where there are some."""
    world.sweep()
    counts = {name: world.plane.counters.load(("web", name))[0] for name in IDS}
    return {name: count for name, count in counts.items() if count}


def test_on_a_ring_a_flow_at_its_slots_owner_needs_no_record(world: w.World) -> None:
    world.apply(service(Scheduler.MH))
    went = w.owner(world.send(w.udp(data=b"no QUIC")))

    outcome = world.send(w.udp(data=short(cid(IDS[went]))))

    assert (outcome.reason, w.owner(outcome)) == ("forward_ring", went)
    assert active(world) == {}


def test_on_a_ring_a_client_that_moved_is_counted_while_its_backend_drains(world: w.World) -> None:
    plan = service(Scheduler.MH)
    world.apply(plan)
    frame = w.udp(sport=moved(world), data=short(cid(IDS["web2"])))
    drained = tuple(replace(member, accepts=member.name != "web2") for member in plan.members)
    world.apply(replace(plan, members=drained))

    assert [w.owner(world.send(frame)) for _ in range(3)] == ["web2"] * 3
    assert active(world) == {"web2": 1}


def test_a_client_that_moves_opens_no_connection_and_is_recorded_as_one(world: w.World) -> None:
    world.apply(service())

    for _ in range(3):
        world.send(w.udp(data=short(cid(IDS["web2"]))))

    traffic = world.plane.counters.traffic([("web", "web2")])["web", "web2"]
    assert (traffic.packets, traffic.connections) == (3, 0)
    assert active(world) == {"web2": 1}


def test_persistence_does_not_keep_a_client_from_the_backend_that_it_names(world: w.World) -> None:
    world.apply(service(persistence=Persistence()))
    _, went = elsewhere(world, b"no QUIC")
    named = next(name for name in IDS if name != went)

    outcome = world.send(w.udp(sport=4000, data=short(cid(IDS[named]))))

    assert (outcome.reason, w.owner(outcome)) == ("forward_cid", named)
    assert w.owner(world.send(w.udp(sport=4001, data=b"no QUIC"))) == went


# Backends that come and go


@schedulers
@pytest.mark.parametrize(
    ("changes", "named"),
    [
        pytest.param({"accepts": False}, True, id="drains"),
        pytest.param({"accepts": False, "state": State.DOWN}, False, id="down"),
        pytest.param({"accepts": False, "state": State.MAINTENANCE}, False, id="in maintenance"),
        pytest.param({"out": frozenset([w.LISTENERS[0].address])}, False, id="down for this VIP"),
        pytest.param({"out": frozenset([w.LISTENERS[1].address])}, True, id="down for another VIP"),
    ],
)
def test_a_backend_is_named_while_it_serves(
    world: w.World, scheduler: Scheduler, changes: dict[str, object], named: bool
) -> None:
    plan = service(scheduler)
    world.apply(plan)
    sport = moved(world)
    web1, web2, web3 = plan.members
    world.apply(replace(plan, members=(web1, replace(web2, **changes), web3)))

    outcome = world.send(w.udp(sport=sport, data=short(cid(IDS["web2"]))))

    assert (w.owner(outcome) == "web2", outcome.reason == "forward_cid") == (named, named)
    assert world.plane.counters.cids(["web"])["web"] == CidPackets(named=named, down=not named)


def test_the_id_of_a_removed_backend_names_nobody_and_may_be_anothers(world: w.World) -> None:
    plan = service()
    world.apply(plan)
    web1, web2, web3 = plan.members
    frame = w.udp(data=short(cid(IDS["web2"])))

    world.apply(replace(plan, members=(web1, web3)))
    assert world.send(frame).reason == "forward_new"
    assert world.plane.counters.cids(["web"])["web"] == CidPackets(unknown=1)

    world.forget_connections()
    world.apply(replace(plan, members=(web1, replace(web3, quic_id=web2.quic_id))))
    assert w.owner(world.send(frame)) == "web3"


def test_an_id_belongs_to_its_service(world: w.World) -> None:
    other = w.Listener.parse(f"{w.VIP}:54/udp")
    world.apply(service(), w.service(name="other", listeners=(other,), quic=LB, members=(w.backend("web1"),)))

    assert world.send(w.udp(dport=54, data=short(cid(IDS["web2"])))).reason == "forward_new"
    assert world.send(w.udp(data=short(cid(IDS["web2"])))).reason == "forward_cid"


def test_a_packet_from_the_backend_that_it_names_has_arrived(world: w.World) -> None:
    world.apply(service())
    back = w.ethernet(source=w.WEB2_MAC) / w.udp(data=short(cid(IDS["web2"])))[IP]

    assert world.send(back).reason == "pass_directed"
    assert active(world) == {}


def test_a_client_that_moves_pays_for_its_record(world: w.World) -> None:
    """Who knows an ID could otherwise fill the table with flows that no limit holds."""
    world.fill_buckets()
    world.apply(service(limit=ServiceLimit(rate="1/h", burst=2)))

    frames = [w.udp(sport=3000 + number, data=short(cid(IDS["web2"]))) for number in range(3)]

    assert [world.send(frame).reason for frame in frames] == ["forward_cid"] * 2 + ["drop_limited_service"]
    assert world.send(frames[0]).reason == "forward_connection"


# The maps


def test_another_daemon_goes_on_and_repairs_what_somebody_changed(world: w.World) -> None:
    plan = service()
    world.apply(plan)
    successor = Dataplane(world.tables, world.clock)
    assert successor.apply(plan, 0.0) == 0

    for keys in [keys.copy() for keys, _ in world.tables.read("quic_ids")]:
        world.tables.delete("quic_ids", keys)
    assert world.send(w.udp(data=short(cid(IDS["web2"])))).reason == "forward_new"
    successor.read_again()

    assert successor.apply(plan, 0.0) == len(IDS)
    assert world.send(w.udp(sport=3000, data=short(cid(IDS["web2"])))).reason == "forward_cid"


def test_ids_go_with_their_service(world: w.World) -> None:
    world.apply(service())
    index = world.plane.indices.services["web"]
    world.send(w.udp(data=short(cid(IDS["web2"]))))
    world.plane.remove("web")
    assert not [keys for keys, _ in world.tables.read("quic_ids") if len(keys)]

    world.apply(service(name="shop"))

    assert world.plane.indices.services["shop"] == index
    assert world.plane.counters.cids(["shop", "none"]) == {"shop": CidPackets(), "none": CidPackets()}


def test_other_flags_of_the_service_leave_connection_ids_on(world: w.World) -> None:
    world.apply(service())

    world.plane.watch(["web"])
    world.plane.watch([])

    assert world.send(w.udp(data=short(cid(IDS["web2"])))).reason == "forward_cid"
