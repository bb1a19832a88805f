# SPDX-License-Identifier: Apache-2.0
"""Frames described for people, and those of which a capture has only a part."""

from __future__ import annotations

import numpy as np
import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.layers.sctp import SCTP, SCTPChunkData, SCTPChunkInit
from scapy.packet import Packet, Raw

from xdpdirector.replay.batch import ROOM, Batch, runnable
from xdpdirector.replay.describe import described, flow_of, is_judgeable

CLIENT, VIP = "198.51.100.7", "192.0.2.10"
CLIENT6, VIP6 = "2001:db8:7::7", "2001:db8::10"
ETHER = Ether(src="02:00:00:00:00:99", dst="02:00:00:00:00:01")
TO_VIP, TO_VIP6 = IP(src=CLIENT, dst=VIP), IPv6(src=CLIENT6, dst=VIP6)
SYN = TCP(sport=40000, dport=80, flags="S")
DATAGRAM = UDP(sport=40000, dport=53)
INIT = SCTP(sport=40000, dport=3868) / SCTPChunkInit()
CHUNK = SCTP(sport=40000, dport=3868) / SCTPChunkData(data=bytes(20))
NULL = TCP(sport=1, dport=80, flags=0)
OPTIONS, TOO_BIG = IPv6ExtHdrDestOpt(), ICMP(type=3, code=4)
QUOTED = IP(src=VIP, dst=CLIENT) / TCP(sport=80, dport=40000)


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        pytest.param(ETHER / TO_VIP / SYN, "198.51.100.7:40000 > 192.0.2.10:80/tcp S", id="tcp"),
        pytest.param(ETHER / TO_VIP / NULL, "198.51.100.7:1 > 192.0.2.10:80/tcp -", id="no flags"),
        pytest.param(ETHER / TO_VIP6 / SYN, "[2001:db8:7::7]:40000 > [2001:db8::10]:80/tcp S", id="tcp6"),
        pytest.param(ETHER / TO_VIP / DATAGRAM, "198.51.100.7:40000 > 192.0.2.10:53/udp", id="udp"),
        pytest.param(ETHER / TO_VIP / INIT, "198.51.100.7:40000 > 192.0.2.10:3868/sctp INIT", id="sctp"),
        pytest.param(ETHER / TO_VIP6 / CHUNK, "[2001:db8:7::7]:40000 > [2001:db8::10]:3868/sctp DATA", id="sctp6"),
        pytest.param(ETHER / Dot1Q(vlan=7) / TO_VIP / SYN, "198.51.100.7:40000 > 192.0.2.10:80/tcp S", id="vlan"),
        pytest.param(
            ETHER / Dot1AD(vlan=7) / Dot1Q(vlan=8) / TO_VIP / SYN,
            "198.51.100.7:40000 > 192.0.2.10:80/tcp S",
            id="qinq",
        ),
        pytest.param(
            ETHER / TO_VIP6 / IPv6ExtHdrDestOpt() / SYN,
            "[2001:db8:7::7]:40000 > [2001:db8::10]:80/tcp S",
            id="extension header",
        ),
        pytest.param(
            ETHER / IP(src=CLIENT, dst=VIP, frag=100, proto=17) / Raw(bytes(20)),
            "198.51.100.7 > 192.0.2.10/udp fragment",
            id="fragment",
        ),
        pytest.param(
            ETHER / TO_VIP6 / IPv6ExtHdrFragment(offset=100, nh=17) / Raw(bytes(20)),
            "2001:db8:7::7 > 2001:db8::10/udp fragment",
            id="fragment6",
        ),
        pytest.param(ETHER / TO_VIP / ICMP(), "198.51.100.7 > 192.0.2.10/icmp 8/0", id="ping"),
        pytest.param(
            ETHER / TO_VIP6 / ICMPv6PacketTooBig(), "2001:db8:7::7 > 2001:db8::10/icmp6 2/0", id="too big"
        ),
        pytest.param(ETHER / ARP(), "arp", id="arp"),
        pytest.param(Ether(type=0x88B5) / Raw(bytes(46)), "ethertype 0x88b5", id="unknown"),
        pytest.param(ETHER / IP(src=CLIENT, dst=VIP, proto=99), "198.51.100.7 > 192.0.2.10/99", id="protocol"),
    ],
)  # fmt: skip
def test_a_frame_is_described(frame: Packet, said: str) -> None:
    assert described(bytes(frame)) == said


def test_no_beginning_of_a_frame_is_too_short_to_be_described() -> None:
    for frame in (ETHER / TO_VIP6 / IPv6ExtHdrDestOpt() / SYN, ETHER / Dot1Q() / TO_VIP / SYN, ETHER / ARP()):
        for length in range(len(frame)):
            assert described(bytes(frame)[:length])


def test_packets_of_one_connection_are_one_flow() -> None:
    syn, ack = ETHER / TO_VIP / SYN, ETHER / TO_VIP / TCP(sport=40000, dport=80, flags="A") / Raw(b"data")
    other = ETHER / TO_VIP / TCP(sport=40001, dport=80)

    assert flow_of(bytes(syn)) == flow_of(bytes(ack)) != flow_of(bytes(other))
    assert flow_of(bytes(ETHER / TO_VIP / ICMP())) is None


@pytest.mark.parametrize(
    ("frame", "needed"),
    [
        pytest.param(ETHER / TO_VIP / SYN / Raw(bytes(100)), 14 + 20 + 20, id="tcp"),
        pytest.param(ETHER / TO_VIP6 / SYN / Raw(bytes(100)), 14 + 40 + 20, id="tcp6"),
        pytest.param(ETHER / TO_VIP / CHUNK / Raw(bytes(100)), 14 + 20 + 12 + 4 + 4, id="sctp"),
        pytest.param(ETHER / Dot1Q() / TO_VIP / DATAGRAM / Raw(bytes(100)), 18 + 20 + 8, id="udp in a VLAN"),
        pytest.param(ETHER / TO_VIP6 / OPTIONS / DATAGRAM / Raw(bytes(9)), 14 + 40 + 8 + 8, id="extension"),
        pytest.param(ETHER / TO_VIP / TOO_BIG / QUOTED / Raw(bytes(9)), 14 + 20 + 8 + 20 + 8, id="error"),
        pytest.param(ETHER / IP(src=CLIENT, dst=VIP, frag=9, proto=17) / Raw(bytes(99)), 14 + 20, id="fragment"),
        pytest.param(ETHER / ARP(), 14, id="arp"),
    ],
)  # fmt: skip
def test_a_frame_is_judged_when_all_headers_are_captured(frame: Packet, needed: int) -> None:
    raw = bytes(frame)

    assert [length for length in range(len(raw)) if is_judgeable(raw[:length], len(raw))] == list(
        range(needed, len(raw))
    )


def batch(*frames: tuple[bytes, int]) -> Batch:
    """Of captured bytes and lengths on the wire; behind them is what an earlier batch left."""
    rows = np.full((len(frames), ROOM), 0xEE, np.uint8)
    for row, (captured, _) in zip(rows, frames, strict=True):
        row[: len(captured)] = np.frombuffer(captured, np.uint8)
    return Batch(
        1,
        np.zeros(len(frames), np.int64),
        np.array([len(captured) for captured, _ in frames]),
        np.array([length for _, length in frames]),
        rows,
    )


def test_whole_frames_are_given_as_they_are() -> None:
    raw = bytes(ETHER / TO_VIP / SYN)

    given = runnable(batch((raw, len(raw)), (raw + b"x", len(raw) + 1)))

    assert given.places.tolist() == [0, 1]
    assert given.lengths.tolist() == [len(raw), len(raw) + 1]
    assert given.frames[0, : len(raw)].tobytes() == raw


def test_a_cut_frame_is_filled_up_with_zeros() -> None:
    whole = bytes(ETHER / TO_VIP / SYN / Raw(b"data" * 100))

    given = runnable(batch((whole[:60], len(whole))))

    assert given.lengths.tolist() == [len(whole)]
    assert given.frames[0, : len(whole)].tobytes() == whole[:60] + bytes(len(whole) - 60)


def test_a_frame_whose_headers_were_cut_is_left_out() -> None:
    whole = bytes(ETHER / TO_VIP / SYN)

    given = runnable(batch((whole[:40], len(whole)), (whole, len(whole)), (b"short", 5)))

    assert given.places.tolist() == [1]
    assert given.frames[0, : len(whole)].tobytes() == whole


@pytest.mark.parametrize("network", [TO_VIP, TO_VIP6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("transport", [SYN, DATAGRAM], ids=["tcp", "udp"])
def test_a_long_frame_is_made_shorter_and_says_so(network: Packet, transport: Packet) -> None:
    """As segmentation offload makes them: longer than any network card sends."""
    whole, expected = (
        bytes(ETHER / network / transport / Raw(bytes(length - len(ETHER / network / transport))))
        for length in (20_000, ROOM)
    )

    given = runnable(batch((whole[:ROOM], len(whole))))

    left = given.frames[0].tobytes()
    assert given.lengths.tolist() == [ROOM]
    assert Ether(left)[type(network)].version  # it can be read
    assert without_checksums(left) == without_checksums(expected)


@pytest.mark.parametrize("network", [TO_VIP, TO_VIP6], ids=["IPv4", "IPv6"])
def test_the_chunk_of_a_long_sctp_packet_ends_with_it(network: Packet) -> None:
    head = ETHER / network / SCTP(sport=40000, dport=3868)
    whole, expected = (
        bytes(head / SCTPChunkData(data=bytes(length - len(head) - 16))) for length in (20_000, ROOM)
    )

    left = runnable(batch((whole[:ROOM], len(whole)))).frames[0].tobytes()

    at = len(head)
    assert left[at : at + 4] == expected[at : at + 4]


def without_checksums(frame: bytes) -> bytes:
    packet = Ether(frame)
    for layer in (IP, TCP, UDP):
        if layer in packet:
            packet[layer].chksum = 0
    return bytes(packet)
