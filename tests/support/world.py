# SPDX-License-Identifier: Apache-2.0
"""A data plane of its own with named hosts, for frames sent through the real program by test-run.

No interface carries the program. Frames come in on `lo` (index 1), so a backend on index 1 is answered by XDP_TX.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address
from types import TracebackType

import numpy as np
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from xdpdirector import libbpf
from xdpdirector.dataplane.conntrack import TABLES, Records
from xdpdirector.dataplane.conntrack_gc import SweepResult, sweep
from xdpdirector.dataplane.jiffies import Clock
from xdpdirector.dataplane.maps import Array, Tables, network16
from xdpdirector.dataplane.service_plan import Hop, MemberPlan, ServicePlan, State
from xdpdirector.dataplane.writer import Dataplane
from xdpdirector.loader import attachment, compiler
from xdpdirector.loader.layout import Loaded
from xdpdirector.model import Listener, Scheduler, Sizes, Timeouts
from xdpdirector.net import own_macs
from xdpdirector.paths import InstancePaths

LOOPBACK = 1
PASS, DROP, TX, REDIRECT = 2, 1, 3, 4

CLIENT, CLIENT6 = "192.0.2.100", "2001:db8::100"
VIP, VIP6 = "192.0.2.10", "2001:db8::10"
STRANGER, STRANGER6 = "198.51.100.7", "2001:db8:7::7"

ROUTER_MAC = "02:00:00:00:00:99"
DIRECTOR_MAC = "02:00:00:00:00:01"
WEB1_MAC = "02:00:00:00:00:21"
WEB2_MAC = "02:00:00:00:00:22"

MACS = {"web1": WEB1_MAC, "web2": WEB2_MAC, "web3": "02:00:00:00:00:23"}
WEB1 = MemberPlan("web1", ip_address("192.0.2.21"), 1, State.SERVING, True, None)


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def hop(name: str, ifindex: int = LOOPBACK) -> Hop:
    return Hop(mac(MACS[name]), mac(DIRECTOR_MAC), ifindex)


def backend(name: str, **changes: object) -> MemberPlan:
    """Up, weight 1, on loopback; `changes` are fields of MemberPlan."""
    number = list(MACS).index(name) + 1
    plain = replace(WEB1, name=name, address=ip_address(f"192.0.2.{20 + number}"), hop=hop(name))
    return replace(plain, **changes)  # type: ignore[arg-type]


LISTENERS = tuple(
    Listener.parse(text)
    for text in (f"{VIP}:80/tcp", f"[{VIP6}]:80/tcp", f"{VIP}:53/udp", f"[{VIP6}]:53/udp")
)

SERVICE = ServicePlan(
    name="web",
    listeners=LISTENERS,
    scheduler=Scheduler.WLC,
    ring_slots=251,
    on_empty="reject",
    on_down="reject",
    on_unknown="reject",
    timeouts=Timeouts(),
    members=(backend("web1"),),
)


def service(**changes: object) -> ServicePlan:
    """`wlc` with web1 alone, on the VIPs' 80/tcp and 53/udp; `changes` are fields of ServicePlan."""
    return replace(SERVICE, **changes)  # type: ignore[arg-type]


def ethernet(source: str = ROUTER_MAC, destination: str = DIRECTOR_MAC) -> Ether:
    return Ether(src=source, dst=destination)


def tcp(
    flags: str = "S", sport: int = 1024, dport: int = 80, client: str = CLIENT, **fields: object
) -> Packet:
    """A frame from the client to the VIP's web port. A SYN has the sequence number 0, others go on from it."""
    fields = {"seq": 0 if "S" in flags else 1} | fields
    return ethernet() / IP(src=client, dst=VIP) / TCP(sport=sport, dport=dport, flags=flags, **fields)


def tcp6(flags: str = "S", sport: int = 1024, dport: int = 80, **fields: object) -> Packet:
    fields = {"seq": 0 if "S" in flags else 1} | fields
    return ethernet() / IPv6(src=CLIENT6, dst=VIP6) / TCP(sport=sport, dport=dport, flags=flags, **fields)


def udp(sport: int = 1024, dport: int = 53, data: bytes = b"question") -> Packet:
    return ethernet() / IP(src=CLIENT, dst=VIP) / UDP(sport=sport, dport=dport) / data


def udp6(sport: int = 1024, dport: int = 53, data: bytes = b"question") -> Packet:
    return ethernet() / IPv6(src=CLIENT6, dst=VIP6) / UDP(sport=sport, dport=dport) / data


def to(name: str, frame: Packet | bytes) -> bytes:
    """The frame as the director sends it to a backend: its Ethernet addresses, and nothing else, are new."""
    return mac(MACS[name]) + mac(DIRECTOR_MAC) + bytes(frame)[12:]


def owner(outcome: Outcome) -> str:
    """Which backend a frame went to."""
    return {mac(text): name for name, text in MACS.items()}[outcome.frame[:6]]


@dataclass(frozen=True)
class Outcome:
    """What came of a frame: XDP verdict, the reason that was counted, the frame as it left."""

    verdict: int
    reason: str
    frame: bytes


class World:
    """One loaded program and its maps. A context manager."""

    def __init__(self, paths: InstancePaths, loaded: Loaded) -> None:
        self.tables = Tables(loaded)
        self.clock = Clock(paths.pins / "clock")
        self.records = Records(self.tables, paths.pins / "reap")
        self.plane = Dataplane(self.tables, self.clock)
        self.syns = self.tables.shared("syns")
        own_macs.write(self.tables.stations, [mac(DIRECTOR_MAC)])
        self._program = libbpf.obj_get(loaded.program)
        self._counted = self.plane.counters.verdicts()

    def __enter__(self) -> World:
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.empty()
        del self.syns
        self.tables.close()
        self.records.close()
        self.clock.close()
        os.close(self._program)

    def empty(self) -> None:
        """No services, no connections, nobody denied; no packet that `recount` has not seen."""
        for name in list(self.plane.services()):
            self.plane.remove(name)
        self.plane.deny(())
        self.forget_connections()
        self.recount()

    def connections(self) -> list[Array]:
        """All records, a family at a time."""
        return list(self.records.read())

    def forget_connections(self) -> None:
        """As if every connection had timed out long ago, and every client's place and fragmented packet with it."""
        for rows in self.connections():
            self.records.forget(rows)
        for name in ("clients", "newcomers", "fragments"):
            for keys in [keys.copy() for keys, _ in self.tables.read(name)]:
                self.tables.delete(name, keys)
        self.syns[:] = 0

    def end_connection(self, sport: int) -> None:
        """As if the client's connection from that port had timed out."""
        self.send(tcp("A", sport=sport))
        for rows in self.connections():
            self.records.forget(rows[rows["client_port"] == network16(sport)])
        self.sweep()

    def sweep(self) -> SweepResult:
        return sweep(self.tables, self.records, self.clock)

    def shift_connections(self, by: float) -> None:
        """As if each recorded connection had shown its last packet so many seconds later."""
        numbers = self.tables.enums["tick_numbers"]
        shift, bits = np.uint64(64 - numbers["SEEN_BITS"]), np.uint64((1 << numbers["SEEN_BITS"]) - 1)
        ticks = round(by * self.clock.hz) >> numbers["TICK_SHIFT"]
        for name in TABLES:
            for keys, buckets in [(k.copy(), v.copy()) for k, v in self.tables.read(name)]:
                words = buckets.view(np.uint64).reshape(*buckets["entries"].shape, -1)[..., -1]
                seen = (words >> shift) + np.uint64(ticks & (1 << 64) - 1) & bits
                words[:] = np.where(words == 0, words, words & ~(bits << shift) | seen << shift)
                self.tables.write(name, keys, buckets)

    def age_clients(self, by: float) -> None:
        """As if the entries of persistence had been renewed so many seconds earlier."""
        self._age(("clients", "newcomers"), by)

    def age_fragments(self, by: float) -> None:
        """As if the first fragments had come so many seconds earlier."""
        self._age(("fragments",), by)

    def _age(self, names: tuple[str, ...], by: float) -> None:
        for name in names:
            for keys, values in [(k.copy(), v.copy()) for k, v in self.tables.read(name)]:
                for field in {"seen", "since"} & set(values.dtype.names):
                    values[field] -= np.uint32(self.clock.jiffies(by))
                self.tables.write(name, keys, values)

    def fill_buckets(self) -> None:
        """As if nobody had opened a connection for long."""
        self._earn(None)

    def earn(self, seconds: float) -> None:
        """As if so much time had passed for the limits of new connections."""
        self._earn(seconds)

    def _earn(self, seconds: float | None) -> None:
        shift = self.tables.enums["fixed_point"]["JIFFY_SHIFT"]
        for name in ("paid", "sources"):
            for keys, values in [(k.copy(), v.copy()) for k, v in self.tables.read(name)]:
                earned = values if seconds is None else np.uint64(self.clock.jiffies(seconds) << shift)
                self.tables.write(name, keys, values - np.minimum(values, earned))

    def apply(self, *plans: ServicePlan, now: float = 0.0) -> None:
        for plan in plans:
            self.plane.apply(plan, now)

    def send(self, frame: Packet | bytes, ifindex: int = LOOPBACK) -> Outcome:
        """Run the program once. Exactly one reason must have been counted."""
        result = libbpf.prog_test_run(self._program, bytes(frame), ifindex)
        grown = self.recount()
        reasons = [name for name, by in grown.items() if by]
        assert sum(grown.values()) == 1, f"one packet was counted as {reasons}"
        return Outcome(result.verdict, reasons[0], result.frame)

    def run(self, frame: bytes) -> int:
        """Run the program once and look at the verdict only; call `recount` before the next `send`."""
        return libbpf.prog_test_run(self._program, frame, LOOPBACK).verdict

    def recount(self) -> dict[str, int]:
        """Packets by reason since the last time."""
        counted = self.plane.counters.verdicts()
        grown = {name: counted[name] - self._counted[name] for name in counted}
        self._counted = counted
        return grown


@contextlib.contextmanager
def worlds(name: str, count: int, sizes: Sizes) -> Iterator[list[World]]:
    """So many loaded programs, each with maps of its own."""
    with contextlib.ExitStack() as stack:
        found = []
        for number in range(count):
            paths = InstancePaths(f"{name}{number}-{os.getpid()}")
            stack.callback(attachment.unload, paths)
            found.append(stack.enter_context(World(paths, compiler.prepare_in_child(paths, sizes))))
        yield found
