# SPDX-License-Identifier: Apache-2.0
"""The real program against the reference model: generated frames, equal verdicts, bytes, reasons and counters.

XDPDIRECTOR_SEED says which frames; a million in the soak, a tenth of that otherwise. Frames come in epochs, each
from its own seed and from empty tables; within one, connections evolve and the operator changes backends. Counts
are compared by epoch; an epoch in which they differ runs again and is compared frame by frame.
"""

from __future__ import annotations

import os
import subprocess
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from random import Random

import numpy as np
import pytest

import tests.support.world as w
from tests.packets.reference.director import Director, Fate
from tests.packets.reference.frame import SCTP, TCP, UDP, dissect
from tests.packets.reference.grammar import Cast, Grammar, mended
from tests.packets.reference.state import Backend
from tests.packets.reference.tunnel import with_id
from xdpdirector import libbpf
from xdpdirector.dataplane.service_plan import Hop, MemberPlan, ServicePlan, State
from xdpdirector.model import Key, Listener, Persistence, Scheduler
from xdpdirector.model.guard import Prefix, ServiceLimit
from xdpdirector.model.passive import PassiveCounts
from xdpdirector.model.quic import QuicSpec
from xdpdirector.net.tunnel import Tunnel

SEED = os.environ.get("XDPDIRECTOR_SEED", "1")
EPOCH = 5000
ENOUGH_FOR_ALL = 100_000  # frames that lead to every reason
CHANGE_EVERY = 250
ANSWERS_A_JIFFY = 4

# By the hour, so that nothing is earned during an epoch.
WHOLE = ServiceLimit(rate="10/h", burst=40)
EACH = ServiceLimit(per_source={"rate": "10/h", "burst": 4, "prefix": 24})
BOTH = ServiceLimit(rate="10/h", burst=30, per_source={"rate": "10/h", "burst": 6})
LIMITS = (WHOLE, EACH, BOTH)
DENIABLE = tuple(
    ip_network(prefix)
    for prefix in ("203.0.113.0/24", "203.0.113.9", "198.51.100.1", "2001:db8:5::/48", "2001:db8:6::9")
)

LB = QuicSpec(cids="quic-lb", length=2)
LENGTH = QuicSpec(cids="quic-lb", length=2, config_id=1, encodes_length=True)
OFFSET = QuicSpec(cids="offset", length=2, offset=1)

NEAR4, NEAR6, FAR4, FAR6 = map(ip_address, ("192.0.2.1", "2001:db8::1", "203.0.113.77", "2001:db8:f::77"))
SHORT = 120  # bytes: an MTU that some of the frames have no room in
IPIP, GUE = Tunnel("ipip", NEAR4, FAR4, SHORT), Tunnel("gue", NEAR4, FAR4, 1500, port=6080)
IPIP6, GUE6 = Tunnel("ipip", NEAR6, FAR6, 1500), Tunnel("gue", NEAR6, FAR6, SHORT, port=9886)
SPREAD = Tunnel("ipip", ip_address("10.64.0.0"), FAR4, 1500, spread=16)

VIPS = (w.VIP, "192.0.2.11")
VIPS6 = (w.VIP6, "2001:db8::11")
ALL_VIPS = tuple(map(ip_address, VIPS + VIPS6))


def packed(*addresses: str) -> tuple[bytes, ...]:
    return tuple(ip_address(address).packed for address in addresses)


def listeners(*texts: str) -> tuple[Listener, ...]:
    """Each on the first VIP of both families, unless an address stands before it."""
    both = [(f"{VIPS[0]}:{text}", f"[{VIPS6[0]}]:{text}") if text[0] != "." else
            (f"{VIPS[1]}:{text[1:]}", f"[{VIPS6[1]}]:{text[1:]}") for text in texts]  # fmt: skip
    return tuple(Listener.parse(text) for pair in both for text in pair)


def with_quic_ids(*members: MemberPlan) -> tuple[MemberPlan, ...]:
    return tuple(replace(member, quic_id=bytes((0, 1 + i))) for i, member in enumerate(members))


def watched(plan: ServicePlan) -> ServicePlan:
    return replace(plan, passive=True, members=tuple(replace(each, watched=True) for each in plan.members))


WATCHED = ("wlc", "rr", "mh", "flux", "sticky", "stickymh", "nq", "sed", "diameter", "dh")


def named(name: str, scheduler: str, *texts: str, **changes: object) -> ServicePlan:
    return w.service(
        name=name,
        scheduler=Scheduler(scheduler),
        listeners=listeners(*texts),
        **{"members": (w.backend("web1"), w.backend("web2", weight=3), w.backend("web3", weight=2))}
        | changes,
    )


def hop(name: str, vlan: int | None) -> Hop:
    return replace(w.hop(name), vlan=vlan)


def plans(other_interface: int) -> list[ServicePlan]:
    here = Hop(bytes(6), bytes(6), w.LOOPBACK, local=True)
    mixed = (
        w.backend("web1", hop=hop("web1", 7)),
        w.backend("web2", hop=w.hop("web2", other_interface)),
        w.backend("web3", hop=hop("web3", 0)),
    )
    client = Persistence(prefix=24, prefix6=64)
    full = (w.backend("web1", upper=8, lower=5), w.backend("web2", upper=4, lower=4, weight=2))
    caches = (w.backend("web1", weight=2), w.backend("web2", upper=8, lower=5, weight=4), w.backend("web3"))
    far = (
        w.backend("web1", tunnel=IPIP, hop=hop("web1", 7)),
        w.backend("web2", tunnel=GUE6, hop=w.hop("web2", other_interface)),
        w.backend("web3", tunnel=SPREAD, hop=hop("web3", 0)),
    )
    farther = (w.backend("web1", tunnel=GUE), w.backend("web2"), w.backend("web3", tunnel=IPIP6, weight=2))
    odd = (w.backend("web1", hop=here), w.backend("web2", hop=None), w.backend("web3"))
    all_of_them = [
        named("wlc", "wlc", "80/tcp", "53/udp", members=mixed),
        named("wrr", "wrr", "8080/tcp", "8080/udp", on_unknown="drop", on_down="drop", limit=WHOLE),
        named("rr", "rr", "25/tcp", "25/udp", members=full, on_empty="drop"),
        named("mh", "mh", "443/tcp", "443/udp", "*/gre", limit=EACH),
        named("sh", "sh", "22/tcp", "22/udp", members=odd, hashes_port=False, on_down="schedule"),
        named("flux", "mh", "8443/tcp", "8443/udp", ".*/esp", members=mixed, on_down="drop"),
        named("sticky", "wlc", "21/tcp", "20/tcp", "500/udp", persistence=client),
        named(
            "stickymh",
            "mh",
            "1024-2047/tcp",
            "1024-2047/udp",
            members=mixed,
            persistence=replace_keep(client),
            on_down="schedule",
            limit=BOTH,
        ),
        named("once", "rr", "5353/udp", "5353/tcp", one_packet=True, members=mixed),
        named("oncemh", "mh", ".5353/udp", ".5353/tcp", one_packet=True, limit=BOTH),
        named("empty", "wlc", "81/tcp", "81/udp", "*/sctp", members=()),
        named("diameter", "wlc", "3868/sctp", "3868/tcp", "3868/udp", members=mixed),
        named("sigtran", "mh", "2905/sctp", ".2905-2910/sctp", members=mixed, limit=EACH),
        named("s1ap", "rr", ".36412/sctp", persistence=client, members=full, on_unknown="schedule"),
        named("emptymh", "mh", "82/tcp", "82/udp", members=(), on_unknown="schedule"),
        named(
            "nq",
            "nq",
            ".*/tcp",
            ".1000-1999/udp",
            on_unknown="schedule",
            fallback="web3",
            members=(*full, w.backend("web3", accepts=False, upper=6, lower=4)),
        ),
        named("sed", "sed", ".110/tcp", ".110/udp", "110/tcp", members=odd, on_down="schedule"),
        named("ovf", "ovf", ".143/tcp", ".143/udp", on_unknown="schedule"),
        named("fo", "fo", ".1500/udp", ".1024-1151/tcp"),
        named("twos", "twos", "993/tcp", "993/udp", members=full),
        named("dh", "dh", "995/tcp", ".995/tcp", "995/udp", members=full),
        named("lblc", "lblc", "3128/tcp", "3128/udp", members=caches),
        named("lblcr", "lblcr", "3129/tcp", "3129/udp", members=caches, persistence=client),
        named("quic", "wlc", "4433/udp", quic=LB, limit=EACH, members=with_quic_ids(*mixed)),
        named("quicmh", "mh", "4434/udp", quic=LENGTH, members=with_quic_ids(*odd)),
        named("far", "wlc", "7000/tcp", "7000/udp", "*/ah", members=far),
        named("farmh", "mh", "7001/tcp", "7001/udp", ".7001/sctp", members=farther, limit=EACH),
        named("quicflux", "mh", ".4435/udp", quic=OFFSET, persistence=client, members=with_quic_ids(*full)),
    ]
    return [watched(plan) if plan.name in WATCHED else plan for plan in all_of_them]


def replace_keep(persistence: Persistence) -> Persistence:
    return persistence.model_copy(update={"on_drain": "keep"})


PORTS = tuple(
    [(TCP, port) for port in (80, 80, 8080, 25, 443, 22, 8443, 8443, 21, 20, 1030, 5353, 81, 82, 110, 143, 7)]
    + [(protocol, port) for protocol in (TCP, UDP) for port in (993, 995, 3128, 3129)]
    + [(UDP, port) for port in (53, 53, 8080, 25, 443, 22, 8443, 500, 1500, 5353, 82, 110, 143, 7)]
    + [(UDP, 81)] * (1)
    + [(UDP, port) for port in (4433, 4433, 4434, 4434, 4435, 4435)]
    + [(SCTP, port) for port in (3868, 3868, 2905, 2905, 36412, 7)]
    + [(protocol, port) for protocol in (TCP, UDP, SCTP) for port in (7000, 7001)]
    + [(47, 0), (50, 0), (51, 0)]
)

CAST = Cast(
    director_mac=w.mac(w.DIRECTOR_MAC),
    router_mac=w.mac(w.ROUTER_MAC),
    servers=tuple(map(w.mac, w.MACS.values())),
    clients=packed(w.CLIENT, "192.0.2.101", "198.51.100.1", "203.0.113.9"),
    clients6=packed(w.CLIENT6, "2001:db8::101", "2001:db8:5::1", "2001:db8:6::9"),
    vips=packed(*VIPS),
    vips6=packed(*VIPS6),
    strangers=packed(w.STRANGER, "192.0.2.12", "203.0.113.1"),
    strangers6=packed(w.STRANGER6, "2001:db8::12"),
    ports=PORTS,
)


class DifferenceError(AssertionError):
    """The program and the model disagree."""


class Duel:
    """One world, one model, the same frames for both."""

    def __init__(self, world: w.World, plans: list[ServicePlan]) -> None:
        self._world, self._plans = world, plans
        self._run = libbpf.RepeatedRun(world._program, w.LOOPBACK)
        self._errors = world.tables.enums["allowance_kind"]["ALLOWANCE_ERRORS"]
        self._answered: deque[int] = deque(maxlen=ANSWERS_A_JIFFY)
        self.model = Director(w.LOOPBACK, CAST.director_mac)
        self.frames = 0
        self.seen: Counter[str] = Counter()

    def begin(self) -> None:
        """As the plans say, and with empty tables."""
        tables, plane = self._world.tables, self._world.plane
        self._world.forget_connections()
        self._world.fill_buckets()
        tables.resets[:] = 0
        tables.fronts[:]["locality"] = 0
        self._deny([])
        for plan in self._plans:
            plane.apply(plan, 0.0)
        plane.settle(np.zeros(0, np.int64), 1e9)
        for plan in self._plans:
            self._tell(plan)
        for field in ("active", "inactive", "served"):
            tables.loads[field] = 0
            tables.loads[f"{field}_correction"] = 0
        tables.loads["bound"] = tables.loads["upper"]
        for index in plane.indices.backends.values():
            tables.per_cpu_zero("traffic", index)
            tables.per_cpu_zero("passive", index)
        for index in plane.indices.services.values():
            tables.per_cpu_zero("drops", index)
            tables.per_cpu_zero("quic_counts", index)
        self.model.forget()
        self.model.counts.clear()
        self._world.recount()

    def change(self, random: Random) -> None:
        """The operator, or the health check, changes a service's backends, its limit, or who is denied."""
        plan = random.choice(self._plans)
        if random.random() < 0.3:
            self._deny([prefix for prefix in DENIABLE if random.random() < 0.3])
        if plan.limit and random.random() < 0.3:
            plan = replace(plan, limit=random.choice(LIMITS))
        members = [changed for member in plan.members if (changed := _changed(member, random))]
        if plan.fallback and all(member.name != plan.fallback for member in members):
            return
        plan = replace(plan, members=tuple(members))
        self._world.apply(plan)
        self._tell(plan)

    def _deny(self, prefixes: list[Prefix]) -> None:
        self._world.plane.deny(prefixes)
        self.model.guard.deny(prefixes)

    def _tell(self, plan: ServicePlan) -> None:
        plane = self._world.plane
        indices = {
            name: index for (service, name), index in plane.indices.backends.items() if service == plan.name
        }
        entry = plane.tables.services[plane.indices.services[plan.name]]
        start, slots = int(entry["ring_start"]), int(entry["ring_slots"])
        self.model.apply(plan, indices, plane.tables.ring[start : start + slots].tolist())

    def send(self, frame: bytes) -> Fate:
        """One frame for both; DifferenceError when verdict or bytes differ. Of the errors that a ring alone sends
        on the model knows no bound: each is the first of its jiffy."""
        self._world.tables.per_cpu_zero("allowances", self._errors)
        verdict, out = self._run(frame)
        fate = self.model.direct(frame)
        if fate.may_be_silent:
            fate = self._limited(fate, verdict, frame)
        if fate.any_id_at and len(out) == len(fate.frame):
            fate = fate._replace(frame=with_id(fate.frame, fate.any_id_at, out))
        self.model.count(fate.reason)
        self.frames += 1
        if verdict != fate.verdict or out != fate.frame or not _keeps_promises(frame, verdict, out, fate):
            raise DifferenceError(_explained(frame, fate, verdict, out))
        return fate

    def _limited(self, fate: Fate, verdict: int, frame: bytes) -> Fate:
        """An answer may be kept back when as many as go out in a jiffy have just gone out in one."""
        last = self._answered
        if verdict == w.DROP and len(last) == ANSWERS_A_JIFFY and last[0] == last[-1]:
            return Fate(w.DROP, "drop_answer", frame)
        last.append(self._world.clock.now())
        return fate

    def differences(self) -> dict[str, tuple[int, int]]:
        """Where the counts of reasons, and backends' loads and traffic, differ: (expected, counted)."""
        plane, counted = self._world.plane, self._world.recount()
        pairs = {name: (self.model.counts[name], n) for name, n in counted.items()}
        for service in self.model.services.values():
            for name, backend in service.backends.items():
                pairs |= self._counted_of((service.plan.name, name), backend)
        for name, dropped in plane.counters.drops([*self.model.services]).items():
            expected = {reason: n for (service, reason), n in self.model.drops.items() if service == name}
            for reason in expected.keys() | dropped.keys():
                pairs[f"{name} {reason}"] = expected.get(reason, 0), dropped.get(reason, 0)
        for name, cids in plane.counters.cids([*self.model.services]).items():
            for what, number in cids.model_dump().items():
                pairs[f"{name} cids {what}"] = self.model.cids[name, what], number
        for prefix in DENIABLE:
            counted_packets = self._world.plane.guarding.denied_packets(prefix)
            pairs[f"denied {prefix}"] = self.model.guard.counts[prefix], counted_packets
        self.seen += self.model.counts
        self.model.counts.clear()
        return {what: pair for what, pair in pairs.items() if pair[0] != pair[1]}

    def _counted_of(self, key: Key, backend: Backend) -> dict[str, tuple[int, int]]:
        plane, pairs = self._world.plane, {}
        load, traffic = plane.tables.loads[plane.indices.backends[key]], plane.counters.traffic([key])[key]
        for field in LOAD:
            got = int(load[field]) + int(load[f"{field}_correction"])
            pairs[f"{key} {field}"] = getattr(backend, field), got
        for field in TRAFFIC:
            pairs[f"{key} {field}"] = getattr(backend, field), getattr(traffic, field)
        for field, number in _shown(plane.counters.passive([key])[key]).items():
            pairs[f"{key} {field}"] = backend.shown[field], number
        return pairs


LOAD = ("active", "inactive", "served")
TRAFFIC = ("packets", "bytes", "connections")


SHOWN = ("syns", "retransmissions", "retransmitted", "handshakes", "resets")


def _shown(counts: PassiveCounts) -> dict[str, int]:
    """`timed`: handshakes of which the time is known."""
    timed = sum(each.count for each in counts.times or ())
    return {field: getattr(counts, field) or 0 for field in SHOWN} | {"timed": timed}


def _keeps_promises(frame: bytes, verdict: int, out: bytes, fate: Fate) -> bool:
    """The design's invariants, whatever the model says: never XDP_ABORTED, what is not sent is untouched, and what
    is forwarded has new addresses and, in another VLAN, other tags."""
    if verdict in (w.PASS, w.DROP):
        return out == frame
    if verdict not in (w.TX, w.REDIRECT):
        return False
    if fate.reason.startswith("reject_"):
        return verdict == w.TX and out[:6] == frame[6:12]
    packet = dissect(frame) if len(out) != len(frame) or out[12:] != frame[12:] else None
    return packet is None or out.endswith(frame[packet.ip_at :])


def _changed(member: MemberPlan, random: Random) -> MemberPlan | None:
    way = random.randrange(12)
    if way == 0:
        return None
    if way == 1:
        return replace(member, accepts=False, state=State.DOWN)
    if way == 2:
        return replace(member, accepts=False, state=State.MAINTENANCE)
    if way == 3:
        return replace(member, accepts=False)
    if way == 4:
        return replace(member, hop=None)
    if way == 5:
        return replace(member, weight=random.choice((1, 2, 9, 65535)))
    if way == 6 and member.hop and not member.hop.local:
        return replace(member, hop=replace(member.hop, mac=bytes((2, 0, 0, 0, 1, random.randrange(256)))))
    if way in (7, 8):
        return replace(member, out=frozenset(vip for vip in ALL_VIPS if random.random() < 0.3))
    return member


def _explained(frame: bytes, fate: Fate, verdict: int, out: bytes) -> str:
    return (
        f"\nframe    {frame.hex()}\nmeans    {dissect(frame)}"
        f"\nexpected {fate.verdict} {fate.reason} {fate.frame.hex()}\ngot      {verdict} {out.hex()}"
    )


def conversations(random: Random) -> Iterator[bytes]:
    """Frames of few flows, mostly right."""
    grammar = Grammar(CAST, random, 0.05)
    while True:
        yield grammar.frame()


def oddities(random: Random) -> Iterator[bytes]:
    """Strange frames, as they are, mutated, and cut at every byte, with the IP length left and mended."""
    grammar = Grammar(CAST, random, 0.3)
    while True:
        frame = grammar.frame()
        yield frame
        for _ in range(20):
            yield grammar.mutated(frame)
        if len(frame) < 200:
            for length in range(14, len(frame)):
                yield frame[:length]
                yield mended(frame[:length])


def handshakes(random: Random) -> Iterator[bytes]:
    """SYNs, which are sent again, and what follows them, of few flows to services that watch their backends."""
    watched_ports = (80, 25, 443, 8443, 21, 1030, 995)
    made = [
        [bytes(frame(flags, sport=sport, dport=port, seq=number + ("S" not in flags))) for flags in HANDSHAKE]
        for frame in (w.tcp, w.tcp6)
        for sport in (7, 8)
        for port in watched_ports
        for number in (0, 77)
    ]
    while True:
        yield random.choice(random.choice(made))


HANDSHAKE = ("S", "S", "S", "SEC", "A", "PA", "FA", "R", "RA")
KINDS = {"conversations": (conversations, 0.4), "oddities": (oddities, 0.6), "handshakes": (handshakes, 0.1)}


def differs(duel: Duel, kind: str, number: int) -> str | None:
    """What is different in this epoch, and how to make it again."""
    try:
        epoch(duel, kind, number)
    except DifferenceError as difference:
        return f"seed {SEED}, {kind}, epoch {number}: {difference}"
    return None


def epoch(duel: Duel, kind: str, number: int, *, careful: bool = False) -> None:
    """Some thousand frames of one seed; `careful`: counts are compared after each."""
    random = Random(f"{SEED} {kind} {number}")
    duel.begin()
    for count, frame in enumerate(KINDS[kind][0](random)):
        if count == EPOCH:
            break
        if count % CHANGE_EVERY == CHANGE_EVERY - 1:
            duel.change(random)
        fate = duel.send(frame)
        if careful and (different := duel.differences()):
            raise DifferenceError(
                _explained(frame, fate, fate.verdict, fate.frame) + f"\ncounts   {different}"
            )
    if different := duel.differences():
        epoch(duel, kind, number, careful=True)
        raise DifferenceError(f"counts (expected, counted) {different}, but not when run again")


@pytest.fixture
def other_interface() -> Iterator[int]:
    """The index of an interface other than loopback."""
    names = (f"ref{os.getpid()}a", f"ref{os.getpid()}b")
    subprocess.run(["ip", "link", "add", names[0], "type", "veth", "peer", "name", names[1]], check=True)
    try:
        shown = subprocess.run(
            ["ip", "-o", "link", "show", names[0]], check=True, capture_output=True, text=True
        )
        yield int(shown.stdout.split(":")[0])
    finally:
        subprocess.run(["ip", "link", "del", names[0]], check=True)


@pytest.fixture
def one_processor() -> Iterator[None]:
    """Tables that evict keep places for each processor that runs: stay on one."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.usefixtures("one_processor")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames", [ENOUGH_FOR_ALL, pytest.param(1_000_000, marks=pytest.mark.soak)])
def test_the_program_does_what_the_model_says(
    world: w.World, other_interface: int, kind: str, frames: int
) -> None:
    duel = Duel(world, plans(other_interface))
    epochs = max(1, round(frames * KINDS[kind][1] / EPOCH))

    different = next(filter(None, (differs(duel, kind, number) for number in range(epochs))), None)

    assert not different, different
    assert duel.frames == epochs * EPOCH
    if kind == "conversations":
        reasons = {name.lower() for name in world.tables.enums["reason"]} - {"reasons"}
        assert reasons - set(duel.seen) <= {
            "drop_internal",
            "drop_full",
            "pass_other_host",
            "drop_other_host",
            "drop_answer",
            "drop_error",
            "drop_unanswerable",
        }
