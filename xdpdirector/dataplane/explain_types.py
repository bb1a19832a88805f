# SPDX-License-Identifier: Apache-2.0
"""A packet that somebody asks about, the frame that it would be, and what the packet program says of it. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from xdpdirector.model.fields import NUMBER, Frozen, HostAddress
from xdpdirector.model.listener import Listener, Ports

_PROTOCOLS = {"tcp": 6, "udp": 17, "esp": 50, "ah": 51, "gre": 47, "sctp": 132}
_FLAGS = "FSRPAU"  # from the lowest bit on (RFC 9293, 3.1)
_TTL = 64
_WINDOW = 64240
_DATA = bytes(12)

Port = Annotated[int, Field(ge=1, le=65535), NUMBER]


class Question(Frozen):
    """`flags` are TCP's, by their first letters: `S` opens a connection, `A` is of a running one. `interface`:
    where it comes in; by default the first that carries the program."""

    client: HostAddress
    client_port: Port
    vip: HostAddress
    port: Port
    protocol: Literal["tcp", "udp", "esp", "ah", "gre", "sctp"] = "tcp"
    flags: Annotated[str, Field(pattern=r"^[FSRPAU]*$", max_length=6)] = "S"
    interface: str | None = None

    @model_validator(mode="after")
    def _of_one_family(self) -> Question:
        if self.client.version != self.vip.version:
            raise ValueError(f"{self.client} and {self.vip} are not of one version of IP")
        return self

    @property
    def listener(self) -> Listener:
        """Whom the packet is for."""
        return Listener(self.vip, Ports(self.port, self.port), self.protocol)


@dataclass(frozen=True)
class Slot:
    """A flow's slot in a service's ring: `number` counts from the ring's first."""

    number: int
    backend: str | None
    before: str | None
    in_flux: bool


@dataclass(frozen=True)
class Finding:
    """What the program said. `action` is XDP's; `reason` as in `enum reason` and `facts` as in `enum fact` of
    bpf/types.h, in lower case; `backend` is the one that was looked at last; `frame` as it would leave; `interface`
    is where it came in, and `way_out` where it would leave."""

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
    """The frame between these MAC addresses. Its checksums are zero: the packet path looks at none."""
    payload = _transport(question)
    if question.client.version == 6:
        kind, header = 0x86DD, _ipv6(question, len(payload))
    else:
        kind, header = 0x0800, _ipv4(question, len(payload))
    return destination + source + struct.pack(">H", kind) + header + payload


def _ipv4(question: Question, length: int) -> bytes:
    addresses = question.client.packed + question.vip.packed
    protocol = _PROTOCOLS[question.protocol]
    return struct.pack(">BBHHHBBH", 0x45, 0, 20 + length, 0, 0, _TTL, protocol, 0) + addresses


def _ipv6(question: Question, length: int) -> bytes:
    addresses = question.client.packed + question.vip.packed
    return struct.pack(">IHBB", 6 << 28, length, _PROTOCOLS[question.protocol], _TTL) + addresses


def _transport(question: Question) -> bytes:
    ports = struct.pack(">HH", question.client_port, question.port)
    if question.protocol == "tcp":
        flags = sum(1 << _FLAGS.index(letter) for letter in set(question.flags))
        return ports + struct.pack(
            ">IIBBHHH", 1, 1 if "A" in question.flags else 0, 5 << 4, flags, _WINDOW, 0, 0
        )
    if question.protocol == "udp":
        return ports + struct.pack(">HH", 8 + len(_DATA), 0) + _DATA
    return _DATA
