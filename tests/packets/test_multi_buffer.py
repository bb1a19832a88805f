# SPDX-License-Identifier: Apache-2.0
"""Frames in several buffers, of which the program can read the first alone: jumbo frames in native mode, merged
segments in generic mode (BPF_F_XDP_HAS_FRAGS, Linux 5.18; the kernel's test run divides a frame after 3.5 kB)."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from scapy.layers.inet import IP, TCP, UDP, IPOption
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop
from scapy.layers.l2 import Dot1Q
from scapy.packet import Packet

import tests.support.world as w
from tests.packets.conftest import SIZES
from tests.support.answers import reset, unreachable
from xdpdirector.loader import attachment, compiler
from xdpdirector.model import Scheduler
from xdpdirector.paths import InstancePaths

RING = w.service(scheduler=Scheduler.MH)
NOBODY = w.service(members=())
FIRST_BUFFER = 3500
"""Octets, at most: a page of 4096 without headroom and skb_shared_info."""
JUMBO = bytes(range(256)) * 35
MERGED = bytes(60_000)
TCP4, TCP6 = TCP(sport=1024, dport=80, flags="PA", seq=1), TCP(sport=1024, dport=80, flags="PA", seq=1)
CLIENT4, CLIENT6 = IP(src=w.CLIENT, dst=w.VIP), IPv6(src=w.CLIENT6, dst=w.VIP6)
OPTIONS = IP(src=w.CLIENT, dst=w.VIP, options=[IPOption(b"\x94\x04\x00\x00")])

FRAMES = {
    "IPv4": w.tcp("PA") / JUMBO,
    "IPv6": w.tcp6("PA") / JUMBO,
    "merged segments": w.tcp("PA") / MERGED,
    "tagged": w.ethernet() / Dot1Q(vlan=7) / CLIENT4 / TCP4 / JUMBO,
    "with IPv4 options": w.ethernet() / OPTIONS / TCP4 / JUMBO,
    "with extension headers": w.ethernet()
    / CLIENT6
    / IPv6ExtHdrHopByHop()
    / IPv6ExtHdrDestOpt()
    / TCP6
    / JUMBO,
}


@pytest.fixture(scope="module")
def loaded_world() -> Iterator[w.World]:
    paths = InstancePaths(f"frags-{os.getpid()}")
    try:
        with w.World(paths, compiler.prepare_in_child(paths, SIZES, has_frags=True)) as world:
            yield world
    finally:
        attachment.unload(paths)


@pytest.mark.parametrize("name", FRAMES)
def test_a_segment_of_a_running_connection(world: w.World, name: str) -> None:
    """It goes to the connection's backend, and its octets are counted."""
    frame = FRAMES[name]
    world.apply(w.service())
    world.send(w.tcp6("S") if IPv6 in frame else w.tcp("S"))
    before = world.plane.counters.total_traffic().bytes

    assert len(frame) > FIRST_BUFFER
    assert world.send(frame) == w.Outcome(w.TX, "forward_connection", w.to("web1", frame))
    tags = 4 if Dot1Q in frame else 0
    assert world.plane.counters.total_traffic().bytes - before == len(frame) - 14 - tags


@pytest.mark.parametrize("name", FRAMES)
def test_a_ring_s_flow(world: w.World, name: str) -> None:
    world.apply(RING)

    assert world.send(FRAMES[name]) == w.Outcome(w.TX, "forward_ring", w.to("web1", FRAMES[name]))


@pytest.mark.parametrize("frame", [w.udp(data=JUMBO), w.udp6(data=JUMBO)], ids=["IPv4", "IPv6"])
def test_a_datagram(world: w.World, frame: Packet) -> None:
    world.apply(w.service())

    assert world.send(frame) == w.Outcome(w.TX, "forward_new", w.to("web1", frame))
    assert world.send(frame) == w.Outcome(w.TX, "forward_connection", w.to("web1", frame))


def test_fragments(world: w.World) -> None:
    """A first fragment of 8,000 octets, and its second one."""
    whole = bytes(UDP(sport=1024, dport=53, len=8 + 16_000)) + bytes(16_000)
    first = w.ethernet() / IP(src=w.CLIENT, dst=w.VIP, id=7, proto=17, flags="MF") / whole[:8000]
    second = w.ethernet() / IP(src=w.CLIENT, dst=w.VIP, id=7, proto=17, frag=1000) / whole[8000:]
    world.apply(w.service())

    assert world.send(first) == w.Outcome(w.TX, "forward_new", w.to("web1", first))
    assert world.send(second) == w.Outcome(w.TX, "forward_fragment", w.to("web1", second))


@pytest.mark.parametrize("version", [4, 6])
def test_a_length_above_the_frame_s(world: w.World, version: int) -> None:
    """The frame's last octet is missing, wherever that would be."""
    frame = bytes(w.tcp("PA") / JUMBO if version == 4 else w.tcp6("PA") / JUMBO)[:-1]
    world.apply(w.service())

    assert world.send(frame) == w.Outcome(w.DROP, "drop_malformed_ip", frame)


@pytest.mark.parametrize(
    "frame", [w.tcp("PA", ack=77) / JUMBO, w.tcp6("PA", ack=77) / JUMBO], ids=["IPv4", "IPv6"]
)
def test_the_reset_is_as_short_as_any(world: w.World, frame: Packet) -> None:
    world.apply(w.service())

    outcome = world.send(frame)

    assert outcome == w.Outcome(w.TX, "reject_unknown", reset(frame, flags="R", seq=77))


@pytest.mark.parametrize("frame", [w.udp(data=JUMBO), w.udp6(data=JUMBO)], ids=["IPv4", "IPv6"])
def test_the_port_unreachable_quotes_what_it_may(world: w.World, frame: Packet) -> None:
    world.apply(NOBODY)

    assert world.send(frame) == w.Outcome(w.TX, "reject_empty", unreachable(frame))


@pytest.mark.parametrize("size", [FIRST_BUFFER, 4096, 4097, 65_000])
def test_sizes(world: w.World, size: int) -> None:
    world.apply(w.service())
    world.send(w.tcp("S"))
    frame = w.tcp("PA") / bytes(size - len(w.tcp("PA")))

    assert world.send(frame) == w.Outcome(w.TX, "forward_connection", w.to("web1", frame))
