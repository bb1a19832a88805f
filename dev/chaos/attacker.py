# SPDX-License-Identifier: Apache-2.0
"""Frames of nobody: floods with made-up sources, and sprays in a client's name. Says how many it sent.

`python -m dev.chaos.attacker KIND INTERFACE TO FROM TARGET PORT RATE SECONDS SEED [CLIENT FIRST LAST]`

    SYN            a SYN each from another source
    two packets    SYN and ACK each from another source
    spray FIN/RST  FIN (or RST), then SYN, from CLIENT and each of its ports: what somebody can send who sees
                   nothing of a connection, and knows its addresses

TO and FROM are MAC addresses; RATE packets a second; it ends after SECONDS at the latest. Runs on any host of the
LAN.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from random import Random

from xdpdirector.net import checksum

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
FLOODS = {"SYN": (SYN,), "two packets": (SYN, ACK)}
SPRAYS = {"spray FIN": (FIN | ACK, SYN), "spray RST": (RST, SYN)}
BENCHMARK4, BENCHMARK6 = 0xC6120000, 0x20010002 << 96  # 198.18.0.0/15, RFC 2544; 2001:2::/48, RFC 5180
_TCP, _TICK = 6, 0.005


@dataclass(frozen=True)
class Target:
    """Where all frames go: made once, so that one frame costs little."""

    ethernet: bytes
    address: IPv4Address | IPv6Address
    port: int

    @classmethod
    def of(cls, to: bytes, source: bytes, address: IPv4Address | IPv6Address, port: int) -> Target:
        kind = 0x0800 if address.version == 4 else 0x86DD
        return cls(to + source + struct.pack("!H", kind), address, port)

    def segment(
        self, client: IPv4Address | IPv6Address, sport: int, flags: int, sequence: int, acknowledged: int
    ) -> bytes:
        """One without data, whole and with the right checksums."""
        acknowledged = acknowledged if flags & ACK else 0
        text = struct.pack("!HHIIBBHHH", sport, self.port, sequence, acknowledged, 0x50, flags, 65535, 0, 0)
        seal = checksum.transport(client, self.address, _TCP, text)
        text = text[:16] + struct.pack("!H", seal) + text[18:]
        ends = client.packed + self.address.packed
        if self.address.version == 6:
            return self.ethernet + struct.pack("!IHBB", 6 << 28, len(text), _TCP, 64) + ends + text
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(text), sport, 0x4000, 64, _TCP, 0)
        seal = checksum.internet(header + ends)
        return self.ethernet + header[:10] + struct.pack("!H", seal) + ends + text


def flood(target: Target, flags: tuple[int, ...], random: Random) -> Iterator[bytes]:
    """Without end."""
    while True:
        number = random.getrandbits(17)
        client = (
            IPv4Address(BENCHMARK4 + number)
            if target.address.version == 4
            else IPv6Address(BENCHMARK6 + number)
        )
        sport, sequence = random.randrange(1024, 65536), random.getrandbits(32)
        for step, each in enumerate(flags):
            yield target.segment(client, sport, each, (sequence + step) & 0xFFFFFFFF, sequence ^ 0x5A5A5A5A)


def spray(
    target: Target, flags: tuple[int, ...], client: IPv4Address | IPv6Address, ports: range, random: Random
) -> Iterator[bytes]:
    """Each port once."""
    for sport in ports:
        for each in flags:
            yield target.segment(client, sport, each, random.getrandbits(32), random.getrandbits(32))


def send(frames: Iterator[bytes], interface: str, rate: float, seconds: float) -> int:
    """How many were sent. A queue that is full is waited for."""
    sent, begun = 0, time.monotonic()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as out:
        out.bind((interface, 0))
        while (passed := time.monotonic() - begun) < seconds:
            for _ in range(max(0, int(passed * rate) - sent)):
                frame = next(frames, None)
                if frame is None:
                    return sent
                try:
                    out.send(frame)
                except OSError:  # ENOBUFS, or a cable that is down for a moment
                    break
                sent += 1
            time.sleep(_TICK)
    return sent


def main(arguments: list[str]) -> int:
    kind, interface, to, source, address, port, rate, seconds, seed, *client = arguments
    target = Target.of(
        bytes.fromhex(to.replace(":", "")),
        bytes.fromhex(source.replace(":", "")),
        ip_address(address),
        int(port),
    )
    random = Random(int(seed))
    if kind in FLOODS:
        frames = flood(target, FLOODS[kind], random)
    else:
        name, first, last = client
        frames = spray(target, SPRAYS[kind], ip_address(name), range(int(first), int(last) + 1), random)
    print(send(frames, interface, float(rate), float(seconds)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
