# SPDX-License-Identifier: Apache-2.0
"""One frame in, one verdict and one whole frame out: a row a case. A new case is a new row."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q
from scapy.layers.sctp import SCTP, SCTPChunkInit
from scapy.packet import Packet

import tests.support.world as w
from tests.support.answers import reset, unreachable
from xdpdirector.dataplane.service_plan import Hop, ServicePlan
from xdpdirector.model import Scheduler

WLC = w.service()
RING = w.service(scheduler=Scheduler.MH)
LOCAL = w.service(members=(w.backend("web1", hop=Hop(bytes(6), bytes(6), w.LOOPBACK, local=True)),))
UNRESOLVED = w.service(members=(w.backend("web1", hop=None),))
EMPTY = w.service(members=())
EMPTY_DROP = w.service(members=(), on_empty="drop")
UNKNOWN_DROP = w.service(on_unknown="drop")
UNKNOWN_SCHEDULE = w.service(on_unknown="schedule")
RING_EMPTY = w.service(scheduler=Scheduler.MH, members=())

CLIENT_TO_VIP = IP(src=w.CLIENT, dst=w.VIP)
CLIENT_TO_VIP6 = IPv6(src=w.CLIENT6, dst=w.VIP6)
WEB = TCP(sport=1024, dport=80, flags="S")

CLIENT_TO_ANY = w.ethernet() / IP(src=w.CLIENT, dst=w.VIP, proto=132)
SCTP_INIT = w.ethernet() / CLIENT_TO_VIP / SCTP(sport=1024, dport=80) / SCTPChunkInit(init_tag=7)


def cut(frame: Packet | bytes, length: int) -> bytes:
    """The frame's first `length` bytes; checksums and lengths stay as they were."""
    return bytes(frame)[:length]


def patched(frame: Packet | bytes, offset: int, value: bytes) -> bytes:
    raw = bytes(frame)
    return raw[:offset] + value + raw[offset + len(value) :]


@dataclass(frozen=True)
class Row:
    """`out`: the frame that leaves; None when it leaves as it came."""

    what: str
    given: ServicePlan
    frame: Packet | bytes
    verdict: int
    reason: str
    out: bytes | None = None


def forwarded(what: str, given: ServicePlan, frame: Packet | bytes, reason: str) -> Row:
    return Row(what, given, frame, w.TX, reason, w.to("web1", frame))


TAGGED_DATAGRAM = (
    w.ethernet()
    / Dot1Q(vlan=10)
    / IP(src=w.CLIENT, dst=w.VIP, options=[IPOption(b"\x94\x04\x00\x00")])
    / UDP(sport=1024, dport=53)
    / b"question"
)
TAGGED = w.ethernet() / Dot1Q(vlan=10) / CLIENT_TO_VIP / WEB
QINQ = w.ethernet() / Dot1AD(vlan=100) / Dot1Q(vlan=10) / CLIENT_TO_VIP / WEB
TRIPLE = w.ethernet() / Dot1AD(vlan=1) / Dot1Q(vlan=2) / Dot1Q(vlan=3) / CLIENT_TO_VIP / WEB
OPTIONS = w.ethernet() / IP(src=w.CLIENT, dst=w.VIP, options=[IPOption(b"\x94\x04\x00\x00")]) / WEB
FULL_OPTIONS = w.ethernet() / IP(src=w.CLIENT, dst=w.VIP, options=[IPOption(b"\x01")] * 40) / WEB
DATA = w.tcp("PA", seq=1000, ack=77) / b"GET / HTTP/1.0\r\n\r\n"
DATA6 = w.tcp6("PA", seq=1000, ack=77) / b"GET / HTTP/1.0\r\n\r\n"
EXTENSIONS = w.ethernet() / CLIENT_TO_VIP6 / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / WEB
SEVEN = w.ethernet() / CLIENT_TO_VIP6
for _ in range(7):
    SEVEN /= IPv6ExtHdrDestOpt()
SEVEN /= WEB

IP_AT, TCP_AT = 14, 34
IP6_AT, TCP6_AT = 14, 54

ROWS = [
    # not ours
    Row("ARP passes", WLC, w.ethernet() / ARP(), w.PASS, "pass_not_ip"),
    Row("an empty frame passes", WLC, bytes(w.ethernet())[:12] + b"\x88\xb5", w.PASS, "pass_not_ip"),
    Row("another address passes", WLC, w.ethernet() / IP(dst=w.STRANGER) / WEB, w.PASS, "pass_not_vip"),
    Row(
        "another IPv6 address passes", WLC, w.ethernet() / IPv6(dst=w.STRANGER6) / WEB, w.PASS, "pass_not_vip"
    ),
    Row("another port passes", WLC, w.tcp(dport=81), w.PASS, "pass_no_listener"),
    Row("another IPv6 port passes", WLC, w.tcp6(dport=81), w.PASS, "pass_no_listener"),
    Row("another protocol passes", WLC, w.udp(dport=80), w.PASS, "pass_no_listener"),
    Row("ping to the VIP passes", WLC, w.ethernet() / CLIENT_TO_VIP / ICMP(), w.PASS, "pass_no_listener"),
    Row(
        "ping to the IPv6 VIP passes",
        WLC,
        w.ethernet() / CLIENT_TO_VIP6 / ICMPv6EchoRequest(),
        w.PASS,
        "pass_no_listener",
    ),
    Row("SCTP to no listener passes", WLC, SCTP_INIT, w.PASS, "pass_no_listener"),
    Row("SCTP cut short", WLC, CLIENT_TO_ANY / bytes(15), w.DROP, "drop_malformed_sctp"),
    Row(
        "an SCTP chunk of 3 bytes",
        WLC,
        patched(SCTP_INIT, TCP_AT + 14, b"\0\3"),
        w.DROP,
        "drop_malformed_sctp",
    ),
    Row(
        "an SCTP chunk longer than the packet",
        WLC,
        patched(SCTP_INIT, TCP_AT + 14, b"\0\x15"),
        w.DROP,
        "drop_malformed_sctp",
    ),
    Row("ESP passes", WLC, w.ethernet() / IPv6(dst=w.VIP6, nh=50) / bytes(16), w.PASS, "pass_no_listener"),
    Row(
        "a broadcast passes",
        WLC,
        w.ethernet(destination="ff:ff:ff:ff:ff:ff") / CLIENT_TO_VIP / WEB,
        w.PASS,
        "pass_not_ip",
    ),
    Row(
        "a multicast passes",
        WLC,
        w.ethernet(destination="01:00:5e:00:00:01") / CLIENT_TO_VIP / WEB,
        w.PASS,
        "pass_not_ip",
    ),
    Row("three tags pass", WLC, TRIPLE, w.PASS, "pass_not_ip"),
    Row("IPv4's type with version 6 passes", WLC, patched(w.tcp(), IP_AT, b"\x65"), w.PASS, "pass_not_ip"),
    Row("IPv6's type with version 4 passes", WLC, patched(w.tcp6(), IP6_AT, b"\x40"), w.PASS, "pass_not_ip"),
    # too short to tell whose they are
    Row("cut after Ethernet", WLC, cut(w.tcp(), 14), w.PASS, "pass_not_ip"),
    Row("cut in the tag", WLC, cut(TAGGED, 16), w.PASS, "pass_not_ip"),
    Row("cut after the tag", WLC, cut(TAGGED, 18), w.PASS, "pass_not_ip"),
    Row("cut in the second tag", WLC, cut(QINQ, 20), w.PASS, "pass_not_ip"),
    Row("cut in the IPv4 header", WLC, cut(w.tcp(), 33), w.PASS, "pass_not_ip"),
    Row("cut in the IPv6 header", WLC, cut(w.tcp6(), 53), w.PASS, "pass_not_ip"),
    # for a VIP, and hopeless
    Row("cut after the IPv4 header", WLC, cut(w.tcp(), 34), w.DROP, "drop_malformed_ip"),
    Row("cut in the TCP header", WLC, cut(w.tcp(), 53), w.DROP, "drop_malformed_ip"),
    Row("cut in the IPv4 options", WLC, cut(FULL_OPTIONS, 60), w.DROP, "drop_malformed_ip"),
    Row("cut in the UDP header", WLC, cut(w.udp(), 41), w.DROP, "drop_malformed_ip"),
    Row("cut in the data", WLC, cut(DATA, 60), w.DROP, "drop_malformed_ip"),
    Row("cut after the IPv6 header", WLC, cut(w.tcp6(), 54), w.DROP, "drop_malformed_ip"),
    Row("cut in the TCP header over IPv6", WLC, cut(w.tcp6(), 73), w.DROP, "drop_malformed_ip"),
    Row("cut in an extension header", WLC, cut(EXTENSIONS, 60), w.DROP, "drop_malformed_ip"),
    Row("an IPv4 header of 4 words", WLC, patched(w.tcp(), IP_AT, b"\x44"), w.DROP, "drop_malformed_ip"),
    Row(
        "a length below the header's",
        WLC,
        patched(w.tcp(), IP_AT + 2, b"\0\x13"),
        w.DROP,
        "drop_malformed_ip",
    ),
    Row(
        "a length above the frame's", WLC, patched(w.tcp(), IP_AT + 2, b"\0\x29"), w.DROP, "drop_malformed_ip"
    ),
    Row(
        "an IPv6 length above the frame's",
        WLC,
        patched(w.tcp6(), IP6_AT + 4, b"\0\x15"),
        w.DROP,
        "drop_malformed_ip",
    ),
    Row("no room for TCP", WLC, patched(w.tcp(), IP_AT + 2, b"\0\x27"), w.DROP, "drop_malformed_tcp"),
    Row(
        "no room for TCP over IPv6",
        WLC,
        patched(w.tcp6(), IP6_AT + 4, b"\0\x13"),
        w.DROP,
        "drop_malformed_tcp",
    ),
    Row("a TCP header of 4 words", WLC, patched(w.tcp(), TCP_AT + 12, b"\x40"), w.DROP, "drop_malformed_tcp"),
    Row(
        "a TCP header beyond the packet",
        WLC,
        patched(w.tcp(), TCP_AT + 12, b"\x60"),
        w.DROP,
        "drop_malformed_tcp",
    ),
    Row("a UDP length below 8", WLC, patched(w.udp(), TCP_AT + 4, b"\0\x07"), w.DROP, "drop_malformed_udp"),
    Row(
        "a UDP length beyond the packet",
        WLC,
        patched(w.udp(), TCP_AT + 4, b"\0\x11"),
        w.DROP,
        "drop_malformed_udp",
    ),
    Row("no room for UDP", WLC, patched(w.udp(), IP_AT + 2, b"\0\x1b"), w.DROP, "drop_malformed_udp"),
    Row(
        "an extension header beyond the packet",
        WLC,
        patched(EXTENSIONS, 55, b"\xff"),
        w.DROP,
        "drop_malformed_ip",
    ),
    Row("seven extension headers", WLC, SEVEN, w.DROP, "drop_extension_headers"),
    Row(
        "a later fragment without its first",
        WLC,
        w.ethernet() / IP(src=w.CLIENT, dst=w.VIP, frag=3, proto=17) / bytes(24),
        w.DROP,
        "drop_fragment",
    ),
    Row(
        "a later IPv6 fragment without its first",
        WLC,
        w.ethernet() / CLIENT_TO_VIP6 / IPv6ExtHdrFragment(offset=2, m=1, nh=17) / bytes(16),
        w.DROP,
        "drop_fragment",
    ),
    Row(
        "a first fragment too short for TCP",
        WLC,
        w.ethernet() / IP(src=w.CLIENT, dst=w.VIP, flags="MF", proto=6) / bytes(16),
        w.DROP,
        "drop_malformed_tcp",
    ),
    Row(
        "a later fragment for another address passes",
        WLC,
        w.ethernet() / IP(src=w.CLIENT, dst=w.STRANGER, frag=3, proto=17) / bytes(24),
        w.PASS,
        "pass_not_vip",
    ),
    Row(
        "a malformed packet for another address passes",
        WLC,
        patched(w.ethernet() / IP(dst=w.STRANGER) / WEB, IP_AT + 2, b"\0\x13"),
        w.PASS,
        "pass_not_vip",
    ),
    # forwarded, nothing but the addresses changed
    forwarded("SYN", WLC, w.tcp(), "forward_new"),
    forwarded("SYN over IPv6", WLC, w.tcp6(), "forward_new"),
    forwarded("datagram", WLC, w.udp(), "forward_new"),
    forwarded("datagram over IPv6", WLC, w.udp6(), "forward_new"),
    forwarded("an empty datagram", WLC, w.udp(data=b""), "forward_new"),
    forwarded("SYN with ECN bits", WLC, w.tcp("SEC"), "forward_new"),
    forwarded("SYN with data (TCP Fast Open)", WLC, w.tcp() / b"early", "forward_new"),
    forwarded("SYN with TCP options", WLC, w.tcp(options=[("MSS", 1460), ("SAckOK", b"")]), "forward_new"),
    forwarded("padding after the packet", WLC, bytes(w.tcp()) + bytes(6), "forward_new"),
    forwarded("802.1Q", WLC, TAGGED, "forward_new"),
    forwarded("QinQ", WLC, QINQ, "forward_new"),
    forwarded(
        "a priority tag", WLC, w.ethernet() / Dot1Q(vlan=0, prio=5) / CLIENT_TO_VIP6 / WEB, "forward_new"
    ),
    forwarded("IPv4 options", WLC, OPTIONS, "forward_new"),
    forwarded("40 bytes of IPv4 options", WLC, FULL_OPTIONS, "forward_new"),
    forwarded("IPv6 extension headers", WLC, EXTENSIONS, "forward_new"),
    forwarded(
        "a routing header", WLC, w.ethernet() / CLIENT_TO_VIP6 / IPv6ExtHdrRouting() / WEB, "forward_new"
    ),
    forwarded(
        "a hop limit of 1", WLC, w.ethernet() / IP(src=w.CLIENT, dst=w.VIP, ttl=1) / WEB, "forward_new"
    ),
    forwarded(
        "a wrong checksum is the backend's affair",
        WLC,
        patched(w.tcp(), TCP_AT + 16, b"\xde\xad"),
        "forward_new",
    ),
    forwarded("a large datagram", WLC, w.udp(data=bytes(1400)), "forward_new"),
    forwarded("ring: SYN", RING, w.tcp(), "forward_ring"),
    forwarded("ring: SYN over IPv6", RING, w.tcp6(), "forward_ring"),
    forwarded("ring: mid-stream", RING, DATA, "forward_ring"),
    forwarded("ring: RST", RING, w.tcp("R"), "forward_ring"),
    forwarded("ring: datagram", RING, w.udp(), "forward_ring"),
    forwarded("ring: datagram over IPv6", RING, w.udp6(), "forward_ring"),
    forwarded("unknown is scheduled where the service says so", UNKNOWN_SCHEDULE, DATA, "forward_reopened"),
    # the director itself, and nobody
    Row("the backend is the director", LOCAL, w.tcp(), w.PASS, "pass_local"),
    Row("the backend's MAC is not known", UNRESOLVED, w.tcp(), w.DROP, "drop_unresolved"),
    Row("nobody: datagram", EMPTY, w.udp(), w.TX, "reject_empty", unreachable(w.udp())),
    Row("nobody: datagram over IPv6", EMPTY, w.udp6(), w.TX, "reject_empty", unreachable(w.udp6())),
    Row(
        "nobody: an odd datagram",
        EMPTY,
        w.udp6(data=b"odd"),
        w.TX,
        "reject_empty",
        unreachable(w.udp6(data=b"odd")),
    ),
    *(
        Row(
            f"nobody: {size} bytes over IPv6",
            EMPTY,
            w.udp6(data=bytes(range(256)) * 6 + bytes(size)),
            w.TX,
            "reject_empty",
            unreachable(w.udp6(data=bytes(range(256)) * 6 + bytes(size))),
        )
        for size in (0, 1, 2, 3)
    ),
    *(
        Row(
            f"nobody: {size} bytes quoted whole",
            EMPTY,
            w.udp6(data=bytes(range(1, size - 47))),
            w.TX,
            "reject_empty",
            unreachable(w.udp6(data=bytes(range(1, size - 47)))),
        )
        for size in (111, 112, 113, 127, 128, 129, 191)
    ),
    Row(
        "nobody: a tagged datagram with IP options",
        EMPTY,
        TAGGED_DATAGRAM,
        w.TX,
        "reject_empty",
        unreachable(TAGGED_DATAGRAM),
    ),
    Row(
        "nobody: a datagram with padding",
        EMPTY,
        bytes(w.udp(data=b"x")) + bytes(17),
        w.TX,
        "reject_empty",
        unreachable(w.udp(data=b"x")),
    ),
    Row("nobody, and the service says drop", EMPTY_DROP, w.tcp(), w.DROP, "drop_empty"),
    Row("nobody: SYN", EMPTY, w.tcp(seq=41), w.TX, "reject_empty", reset(w.tcp(), flags="RA", seq=0, ack=42)),
    Row(
        "ring of nobody",
        RING_EMPTY,
        w.tcp(seq=1),
        w.TX,
        "reject_empty",
        reset(w.tcp(), flags="RA", seq=0, ack=2),
    ),
    # mid-stream of no known connection
    Row("unknown is reset", WLC, DATA, w.TX, "reject_unknown", reset(DATA, flags="R", seq=77)),
    Row("unknown over IPv6 is reset", WLC, DATA6, w.TX, "reject_unknown", reset(DATA6, flags="R", seq=77)),
    Row("unknown is dropped where the service says so", UNKNOWN_DROP, DATA, w.DROP, "drop_unknown"),
    Row("a RST is never answered", WLC, w.tcp("R"), w.DROP, "drop_reset"),
    Row("a RST with ACK is never answered", WLC, w.tcp6("RA"), w.DROP, "drop_reset"),
    Row(
        "without ACK the RST acknowledges what came",
        WLC,
        w.tcp("F", seq=9) / b"abc",
        w.TX,
        "reject_unknown",
        reset(w.tcp(), flags="RA", seq=0, ack=13),
    ),
    Row(
        "the RST's sequence wraps",
        WLC,
        w.tcp("F", seq=0xFFFFFFFF) / b"abc",
        w.TX,
        "reject_unknown",
        reset(w.tcp(), flags="RA", seq=0, ack=3),
    ),
    Row(
        "SYN with ACK opens nothing",
        WLC,
        w.tcp("SA", ack=5),
        w.TX,
        "reject_unknown",
        reset(w.tcp(), flags="R", seq=5),
    ),
    Row(
        "no flags at all",
        WLC,
        w.tcp("", seq=8),
        w.TX,
        "reject_unknown",
        reset(w.tcp(), flags="RA", seq=0, ack=8),
    ),
    Row(
        "the RST keeps the tags",
        WLC,
        w.ethernet()
        / Dot1AD(vlan=100)
        / Dot1Q(vlan=10)
        / CLIENT_TO_VIP
        / TCP(sport=1024, dport=80, flags="A", ack=3),
        w.TX,
        "reject_unknown",
        reset(QINQ, flags="R", seq=3),
    ),
    Row(
        "the RST has no IPv4 options",
        WLC,
        w.ethernet()
        / IP(src=w.CLIENT, dst=w.VIP, options=[IPOption(b"\x94\x04\x00\x00")])
        / TCP(sport=1024, dport=80, flags="A", ack=3)
        / b"data",
        w.TX,
        "reject_unknown",
        reset(OPTIONS, flags="R", seq=3),
    ),
    Row(
        "the RST has no extension headers",
        WLC,
        w.ethernet() / CLIENT_TO_VIP6 / IPv6ExtHdrDestOpt() / TCP(sport=1024, dport=80, flags="A", ack=3),
        w.TX,
        "reject_unknown",
        reset(w.tcp6(), flags="R", seq=3),
    ),
    Row(
        "padding does not count as data",
        WLC,
        bytes(w.tcp("F", seq=9)) + bytes(6),
        w.TX,
        "reject_unknown",
        reset(w.tcp(), flags="RA", seq=0, ack=10),
    ),
    # nobody to answer (RFC 1122, 3.2.2; RFC 4443, 2.4 e)
    *(
        Row(
            f"no answer to {source}",
            EMPTY,
            w.ethernet() / IP(src=source, dst=w.VIP) / request,
            w.DROP,
            "drop_unanswerable",
        )
        for source, request in (
            ("224.0.0.1", UDP(dport=53)),
            ("255.255.255.255", UDP(dport=53)),
            ("240.0.0.1", WEB),
            ("127.0.0.1", WEB),
            ("0.0.0.0", WEB),
        )
    ),
    *(
        Row(
            f"no answer to {source}",
            EMPTY,
            w.ethernet() / IPv6(src=source, dst=w.VIP6) / request,
            w.DROP,
            "drop_unanswerable",
        )
        for source, request in (("ff02::1", UDP(dport=53)), ("::", WEB), ("::1", WEB))
    ),
    *(
        Row(
            f"no answer to the station {source}",
            EMPTY,
            w.ethernet(source=source) / CLIENT_TO_VIP / WEB,
            w.DROP,
            "drop_unanswerable",
        )
        for source in ("00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", w.DIRECTOR_MAC)
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_row(world: w.World, row: Row) -> None:
    world.apply(row.given)

    outcome = world.send(row.frame)

    expected = w.Outcome(row.verdict, row.reason, bytes(row.frame) if row.out is None else row.out)
    assert outcome == expected


def test_there_are_enough_rows_and_each_has_its_own_name() -> None:
    names = [row.what for row in ROWS]
    assert len(set(names)) == len(names) >= 60
