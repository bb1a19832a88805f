# SPDX-License-Identifier: Apache-2.0
"""A question about a packet, the frame that represents it, and the packet program's answer. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from xdpdirector.model.fields import NUMBER, Frozen, HostAddress
from xdpdirector.model.listener import PROTOCOLS, Listener, Ports

_FLAGS = "FSRPAU"  # from the lowest bit (RFC 9293, 3.1)
_TTL = 64
_WINDOW = 64240
_DATA = bytes(12)
_LONGEST_PAYLOAD = 1200  # bytes
_CHUNKS = {"R": 6, "F": 7, "A": 0, "S": 1}
"""RFC 9260, 3.2: ABORT, SHUTDOWN, DATA, INIT; the first that the flags have."""

Port = Annotated[int, Field(ge=1, le=65535), NUMBER]


class Question(Frozen):
    """`flags`: TCP flags by first letter: `S` opens a connection, `A` belongs to an established one. An SCTP
    packet has the chunk that does the same: INIT, DATA, for `F` SHUTDOWN, for `R` ABORT.
    `payload`: of a UDP datagram, in hex, such as a QUIC packet with its connection ID.
    `interface`: the ingress interface, by default the first with the program attached."""

    client: HostAddress
    client_port: Port
    vip: HostAddress
    port: Port
    protocol: Literal["tcp", "udp", "sctp", "esp", "ah", "gre"] = "tcp"
    flags: Annotated[str, Field(pattern=r"^[FSRPAU]*$", max_length=6)] = "S"
    payload: Annotated[str, Field(pattern=r"^([0-9A-Fa-f]{2})*$", max_length=2 * _LONGEST_PAYLOAD)] = ""
    interface: str | None = None

    @model_validator(mode="after")
    def _of_one_family(self) -> Question:
        if self.client.version != self.vip.version:
            raise ValueError(f"{self.client} and {self.vip} are of different IP versions")
        if self.payload and self.protocol != "udp":
            raise ValueError(
                f"payload is that of a datagram, and the protocol is {self.protocol}: leave it out"
            )
        return self

    @property
    def listener(self) -> Listener:
        """The destination of the packet."""
        return Listener(self.vip, Ports(self.port, self.port), self.protocol)


@dataclass(frozen=True)
class Slot:
    """A flow's slot in a service's ring. `number` is relative to the start of the ring."""

    number: int
    backend: str | None
    before: str | None
    in_flux: bool


@dataclass(frozen=True)
class Finding:
    """The program's answer. `action`: the XDP action. `reason`: `enum reason`, `facts`: `enum fact` of
    bpf/types.h, in lower case. `backend`: the last one that was considered. `frame`: as it would be sent.
    `interface`: ingress; `way_out`: egress."""

    action: str
    reason: str
    facts: frozenset[str]
    service: str | None
    backend: str | None
    slot: Slot | None
    frame: bytes
    interface: str
    way_out: str | None


def frame_of(question: Question, source: bytes, destination: bytes) -> bytes:
    """The frame between these MAC addresses. Checksums are zero: the packet path does not verify them."""
    payload = _transport(question)
    if question.client.version == 6:
        kind, header = 0x86DD, _ipv6(question, len(payload))
    else:
        kind, header = 0x0800, _ipv4(question, len(payload))
    return destination + source + struct.pack(">H", kind) + header + payload


def _ipv4(question: Question, length: int) -> bytes:
    addresses = question.client.packed + question.vip.packed
    protocol = PROTOCOLS[question.protocol]
    return struct.pack(">BBHHHBBH", 0x45, 0, 20 + length, 0, 0, _TTL, protocol, 0) + addresses


def _ipv6(question: Question, length: int) -> bytes:
    addresses = question.client.packed + question.vip.packed
    return struct.pack(">IHBB", 6 << 28, length, PROTOCOLS[question.protocol], _TTL) + addresses


def _transport(question: Question) -> bytes:
    ports = struct.pack(">HH", question.client_port, question.port)
    if question.protocol == "tcp":
        flags = sum(1 << _FLAGS.index(letter) for letter in set(question.flags))
        return ports + struct.pack(
            ">IIBBHHH", 1, 1 if "A" in question.flags else 0, 5 << 4, flags, _WINDOW, 0, 0
        )
    if question.protocol == "sctp":
        return ports + bytes(8) + struct.pack(">BBH", _chunk(question.flags), 0, 4 + len(_DATA)) + _DATA
    if question.protocol == "udp":
        data = bytes.fromhex(question.payload) or _DATA
        return ports + struct.pack(">HH", 8 + len(data), 0) + data
    return _DATA


def _chunk(flags: str) -> int:
    """An INIT ACK for `SA`."""
    if set("SA") <= set(flags) and not set("RF") & set(flags):
        return 2
    return next((chunk for letter, chunk in _CHUNKS.items() if letter in flags), _CHUNKS["A"])
