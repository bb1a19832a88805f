# SPDX-License-Identifier: Apache-2.0
"""What clients' packets show of a backend: SYNs, SYNs sent again, handshakes, resets. Of TCP alone."""

from __future__ import annotations

from tests.packets.reference.frame import ACK, FIN, RST, SYN, TCP, Packet
from tests.packets.reference.state import MASK, Backend, spread

OPENING = ("syn", "reopened")
PLACES = 1 << 16


class Watch:
    """Remembers SYNs, each in the place that its hash names, until another one takes it."""

    def __init__(self) -> None:
        self._syns: dict[int, tuple[int, bool]] = {}
        """By place: tag, and whether it was sent again."""

    def forget(self) -> None:
        self._syns.clear()

    def opened(self, packet: Packet, backend: Backend) -> None:
        """A packet without a record is forwarded, or one that begins anew after the end."""
        if not backend.plan.watched or packet.protocol != TCP or not packet.opens:
            return
        place, tag = _place(packet, backend, packet.number)
        if self._knows(place, tag):
            self._again(place, backend)
            return
        backend.shown["syns"] += 1
        self._syns[place] = tag, False

    def followed(self, packet: Packet, backend: Backend, stage: str, *, has_ring: bool) -> None:
        """A packet of a recorded flow is forwarded; `stage`: of the record before."""
        if not backend.plan.watched or packet.protocol != TCP or (has_ring and not packet.opens):
            return
        if packet.flags & RST:
            backend.shown["resets"] += stage not in ("fin", "closed")
        elif stage in OPENING and packet.opens:
            place, tag = _place(packet, backend, packet.number)
            if self._knows(place, tag):
                self._again(place, backend)
            else:
                backend.shown["retransmissions"] += 1
        elif stage in OPENING and packet.flags & (ACK | FIN | SYN) == ACK:
            backend.shown["handshakes"] += 1
            backend.shown["timed"] += self._knows(*_place(packet, backend, packet.number - 1))

    def _knows(self, place: int, tag: int) -> bool:
        return place in self._syns and self._syns[place][0] == tag

    def _again(self, place: int, backend: Backend) -> None:
        tag, was_again = self._syns[place]
        backend.shown["retransmissions"] += 1
        backend.shown["retransmitted"] += not was_again
        self._syns[place] = tag, True


def _place(packet: Packet, backend: Backend, number: int) -> tuple[int, int]:
    """Taken over from bpf/passive.h, as an oracle: any hash would do."""
    words = [int.from_bytes(packet.client[i : i + 4], "little") for i in range(0, len(packet.client), 4)]
    ports = int.from_bytes(packet.client_port.to_bytes(2, "big") + packet.port.to_bytes(2, "big"), "little")
    value = spread(backend.index << 32 | number % (1 << 32))
    if len(words) == 1:
        value = spread(((value ^ words[0]) + (ports << 32)) & MASK)
    else:
        value = spread(value ^ (words[0] << 32 | words[1]))
        value = spread(spread(value ^ (words[2] << 32 | words[3])) ^ ports)
    return value % PLACES, value >> 32
