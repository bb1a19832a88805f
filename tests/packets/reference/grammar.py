# SPDX-License-Identifier: Apache-2.0
"""Frames made by a grammar: mostly right, often strange. Checksums are arbitrary, since a director leaves them to
the backends. Whatever the source of randomness says can be said again with its seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from struct import pack

from tests.packets.reference.frame import (
    ACK,
    DESTINATION,
    FIN,
    FRAGMENT,
    HOP_BY_HOP,
    ICMP,
    ICMPV6,
    ROUTING,
    RST,
    SCTP,
    SYN,
    TCP,
    UDP,
    dissect,
)

PSH = 8
STAGES = (SYN, SYN, SYN, ACK, ACK, ACK | PSH, FIN | ACK, RST, RST | ACK, SYN | ACK, FIN, 0, SYN | 0xC0)
CHUNKS = (1, 1, 1, 10, 0, 0, 0, 3, 4, 5, 2, 6, 7, 8, 9, 11, 14, 64)
OTHERS = (ICMP, ICMPV6, 2, 47, 50, 51, 59, 132, 255)
LAYERS = (DESTINATION, DESTINATION, HOP_BY_HOP, ROUTING, FRAGMENT)
NO_HOSTS = tuple(bytes(a) for a in ((0, 0, 0, 0), (127, 0, 0, 1), (224, 0, 0, 1), (240, 0, 0, 1), (255,) * 4))
NO_HOSTS6 = (bytes(16), bytes(15) + b"\1", b"\xff\2" + bytes(13) + b"\1")
NOISE = bytes(range(256)) * 8


@dataclass(frozen=True)
class Cast:
    """Who talks: addresses as bytes, `ports` as (protocol, port); few, so that flows recur. `servers`: backends'
    MACs. `quic_ids`: what backends have in connection IDs, and one that none has."""

    director_mac: bytes
    router_mac: bytes
    servers: tuple[bytes, ...]
    clients: tuple[bytes, ...]
    clients6: tuple[bytes, ...]
    vips: tuple[bytes, ...]
    vips6: tuple[bytes, ...]
    strangers: tuple[bytes, ...]
    strangers6: tuple[bytes, ...]
    ports: tuple[tuple[int, int], ...]
    client_ports: tuple[int, ...] = tuple(range(1024, 1032))
    quic_ids: tuple[bytes, ...] = (b"\0\1", b"\0\2", b"\0\3", b"\0\4")


class Grammar:
    """`oddity`: how often, between 0 and 1, a rule takes one of its strange ways."""

    def __init__(self, cast: Cast, random: Random, oddity: float) -> None:
        self._cast, self._random, self._oddity = cast, random, oddity

    def frame(self) -> bytes:
        is_ipv6 = self._random.random() < 0.4
        return self._link(is_ipv6) + (self._ipv6() if is_ipv6 else self._ipv4())

    def mutated(self, frame: bytes) -> bytes:
        """With a few bits, bytes or lengths other than they were."""
        random, raw = self._random, bytearray(frame)
        for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
            at = random.randrange(len(raw)) if random.random() < 0.3 else random.randrange(min(len(raw), 80))
            way = random.randrange(5)
            if way < 2:
                raw[at] ^= 1 << random.randrange(8)
            elif way == 2:
                raw[at] = random.choice((0, 1, 4, 5, 6, 17, 44, 0x45, 0x60, 0x7F, 0x80, 0xFF))
            elif way == 3 and len(raw) > 20:
                del raw[at : at + random.choice((1, 2, 4))]
            else:
                raw[at:at] = NOISE[at : at + random.choice((1, 2, 4, 8))]
        return bytes(raw) + bytes(max(0, 14 - len(raw)))

    def _odd(self, times: float = 1.0) -> bool:
        return self._random.random() < self._oddity * times

    # Ethernet

    def _link(self, is_ipv6: bool) -> bytes:
        cast, random = self._cast, self._random
        kind = 0x86DD if is_ipv6 else 0x0800
        if self._odd(0.1):
            kind = random.choice((0x0806, 0x88CC, 0x0800, 0x86DD, 0x8100, 0x9100, 0x05DC))
        macs = (b"\xff" * 6 if self._odd(0.1) else cast.director_mac) + cast.router_mac
        if self._odd(0.1):
            macs = macs[:6] + random.choice((bytes(6), b"\xff" * 6, b"\1\0\x5e\0\0\1", macs[:6]))
        if self._odd(0.7):
            macs = macs[:6] + random.choice(cast.servers)
        tags = random.choice((0, 0, 0, 0, 1, 1, 2, 3)) if self._odd(2) else 0
        link = b"".join(
            pack("!HH", random.choice((0x8100, 0x8100, 0x88A8)), random.randrange(1 << 16))
            for _ in range(tags)
        )
        return macs + link + pack("!H", kind)

    # IPv4

    def _ipv4(self) -> bytes:
        cast, random = self._cast, self._random
        client, vip = random.choice(cast.clients), random.choice(cast.vips)
        if self._odd(0.3):
            vip = random.choice(cast.strangers)
        if self._odd(0.1):
            client = random.choice(NO_HOSTS)
        protocol, body = self._transport(is_ipv6=False, vip=vip, client=client)
        options = random.randrange(11) * 4 if self._odd() else 0
        words = 5 + options // 4
        length = 4 * words + len(body)
        fragment = random.choice((0x4000, 0))
        if self._odd():
            fragment = random.choice((0x2000, 0x2000, 0x2000, 0x2003, 0x2003, 3, 3, 0x1FFF, 0x8000, 0x6000))
        if self._odd(0.2):
            words, length = random.choice(((words, length + 1), (words, length - 1), (words, 19), (4, length),
                                           (15, length), (words, random.randrange(1 << 16))))  # fmt: skip
        header = pack("!BBHHHBBH", 0x40 | words, random.choice((0, 0, 0x10)), length & 0xFFFF,
                      random.randrange(6), fragment, random.choice((1, 64, 255)), protocol, 0)  # fmt: skip
        return header + client + vip + NOISE[:options] + body + self._padding()

    def _padding(self) -> bytes:
        return NOISE[: self._random.choice((1, 6, 18, 40))] if self._odd(0.5) else b""

    # IPv6

    def _ipv6(self) -> bytes:
        cast, random = self._cast, self._random
        client, vip = random.choice(cast.clients6), random.choice(cast.vips6)
        if self._odd(0.3):
            vip = random.choice(cast.strangers6)
        if self._odd(0.1):
            client = random.choice(NO_HOSTS6)
        protocol, body = self._transport(is_ipv6=True, vip=vip, client=client)
        for _ in range(random.choice((1, 1, 1, 2, 2, 3, 6, 7, 8)) if self._odd() else 0):
            protocol, body = self._layer(protocol, body)
        length = len(body)
        if self._odd(0.2):
            length = random.choice((length + 1, length - 1, 0, random.randrange(1 << 16))) & 0xFFFF
        first = 6 << 28 | random.choice((0, 0, 0xABCDE))
        return pack("!IHBB", first, length, protocol, 64) + client + vip + body + self._padding()

    def _layer(self, protocol: int, body: bytes) -> tuple[int, bytes]:
        """An extension header before the body."""
        random, kind = self._random, self._random.choice(LAYERS)
        if kind == FRAGMENT:
            offset = random.choice((0, 1, 1, 1, 0x18, 0x19, 0x19, 6, 0xFFF8))
            return kind, pack("!BBHI", protocol, 0, offset, random.randrange(6)) + body
        size = random.choice((0, 0, 0, 1, 2))
        said = random.randrange(256) if self._odd(0.3) else size
        return kind, bytes((protocol, said)) + NOISE[: 8 * size + 6] + body

    # What IP carries

    def _transport(self, *, is_ipv6: bool, vip: bytes, client: bytes) -> tuple[int, bytes]:
        random = self._random
        protocol, port = random.choice(self._cast.ports)
        if self._odd(0.5):
            protocol = ICMPV6 if is_ipv6 else ICMP
        if self._odd(0.2):
            protocol = random.choice(OTHERS)
        if self._odd(0.2):
            port = random.randrange(1 << 16)
        sport = random.choice(self._cast.client_ports)
        if protocol == TCP:
            return protocol, self._tcp(sport, port)
        if protocol == UDP:
            return protocol, self._udp(sport, port)
        if protocol == SCTP and not self._odd(0.2):
            return protocol, self._sctp(sport, port)
        if protocol in (ICMP, ICMPV6):
            return protocol, self._icmp(is_ipv6, vip, client)
        return protocol, self._data()

    def _data(self) -> bytes:
        random = self._random
        start = random.randrange(256)
        size = random.randrange(64) if random.random() < 0.9 else random.randrange(1500)
        return NOISE[start : start + size]

    def _tcp(self, sport: int, port: int) -> bytes:
        random = self._random
        flags = random.randrange(256) if self._odd(0.5) else random.choice(STAGES)
        options = random.choice((0, 0, 5, 10)) * 4
        offset = random.randrange(16) if self._odd(0.3) else 5 + options // 4
        numbers = random.choice((0, 1, 0xFFFFFFFF, random.getrandbits(32))), random.getrandbits(32)
        header = pack(
            "!HHIIBBHHH", sport, port, *numbers, offset << 4 | random.randrange(16), flags, 512, 7, 0
        )
        data = b"" if flags & SYN and random.random() < 0.8 else self._data()
        return header + NOISE[:options] + data

    def _udp(self, sport: int, port: int) -> bytes:
        random = self._random
        data = self._quic() if random.random() < 0.4 else self._data()
        length = 8 + len(data)
        if self._odd(0.5):
            length = random.choice((length + 1, length - 1, 7, 0, 8, random.randrange(1 << 16)))
        return pack("!HHHH", sport, port, length & 0xFFFF, random.getrandbits(16)) + data

    def _quic(self) -> bytes:
        """A QUIC packet with a connection ID as a server issues it: RFC 9000, 17.2 and 17.3."""
        random = self._random
        raw = random.choice(self._cast.quic_ids)
        rest = NOISE[: random.choice((4, 4, 5, 9, 3) if self._odd() else (4, 4, 5, 9))]
        first = random.choice((0, 0, 0, 1, 7)) << 5 | (len(raw) + len(rest))
        if self._odd():
            first = random.randrange(256)
        cid = bytes((first,)) + raw + rest
        if random.random() < 0.7:
            head = bytes((random.choice((0x40, 0x40, 0x41, 0x5F, 0)),))
        else:
            version = random.choice((b"\0\0\0\1", b"\0\0\0\1", bytes.fromhex("6b3343cf"), bytes(4)))
            size = random.randrange(256) if self._odd() else len(cid)
            head = bytes((random.choice((0xC0, 0xD0, 0xE0, 0xF0, 0xE3, 0xA0)),)) + version + bytes((size,))
        packet = head + cid + NOISE[: random.choice((0, 1, 16, 40))]
        return packet[: random.randrange(len(packet) + 1)] if self._odd() else packet

    def _sctp(self, sport: int, port: int) -> bytes:
        random, data = self._random, self._data()
        chunk = random.randrange(256) if self._odd(0.3) else random.choice(CHUNKS)
        length = 4 + len(data)
        if self._odd(0.3):
            length = random.choice((0, 3, 4, length + 1, random.randrange(1 << 16)))
        tag = 0 if chunk == 1 else random.getrandbits(32)
        return pack("!HHIIBBH", sport, port, tag, 7, chunk, random.randrange(8), length & 0xFFFF) + data

    def _icmp(self, is_ipv6: bool, vip: bytes, client: bytes) -> bytes:
        """An error that quotes a backend's answer, as a rule."""
        random = self._random
        kind = random.choice((1, 2, 3, 4) if is_ipv6 else (3, 3, 11, 12, 4))
        if self._odd():
            kind = random.randrange(256)
        protocol, port = random.choice(self._cast.ports)
        ports = pack("!HHI", port, random.choice(self._cast.client_ports), 99)
        if self._odd(0.3):
            vip = random.choice(self._cast.vips6 if is_ipv6 else self._cast.vips)
        if is_ipv6:
            for _ in range(random.choice((1, 1, 2, 6, 7)) if self._odd(2) else 0):
                protocol, ports = self._layer(protocol, ports)
            length = random.choice((0, 8, 40, 500))
            quote = pack("!IHBB", 6 << 28, length, protocol, 64) + vip + client + ports
        else:
            words = random.choice((4, 6, 15)) if self._odd() else 5
            fragment = random.choice((0x2000, 3)) if self._odd() else 0
            quote = pack("!BBHHHBBH", 0x40 | words, 0, 500, 1, fragment, 64, protocol, 0) + vip + client
            quote += bytes(max(0, words - 5) * 4) + ports
        if self._odd():
            quote = quote[: random.randrange(len(quote) + 1)]
        return pack("!BBHI", kind, random.randrange(5), 0, 0) + quote


def mended(frame: bytes) -> bytes:
    """With the length in its IP header as it fits the frame; as it is where that cannot be found."""
    packet = dissect(frame)
    if packet is None:
        return frame
    at, taken = (packet.ip_at + 4, packet.ip_at + 40) if packet.is_ipv6 else (packet.ip_at + 2, packet.ip_at)
    return frame[:at] + pack("!H", len(frame) - taken) + frame[at + 2 :]
