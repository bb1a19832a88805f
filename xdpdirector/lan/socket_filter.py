# SPDX-License-Identifier: Apache-2.0
"""Classic BPF filters for packet sockets: the kernel delivers only frames that may concern the director.
Pure.

A filter is a list of rules; a frame passes if all conditions of one rule hold. Instructions:
linux/bpf_common.h. The kernel limits the memory of a filter (`optmem_max`), so there is a coarse variant for
any number of addresses: it passes more frames, and the reader has to check them again.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from xdpdirector.lan import frame_builder, frame_parser
from xdpdirector.model import Address
from xdpdirector.net.garp import IPPROTO_ICMPV6, NEIGHBOUR_ADVERTISEMENT

LONGEST = 4096  # BPF_MAXINSNS
BYTE, HALF, WORD = 0x30, 0x28, 0x20  # BPF_LD | size | BPF_ABS
INDEXED = 0x20  # added to these: BPF_IND instead of BPF_ABS
HEADER_LENGTH = (0xB1, 0, 0, 14)  # BPF_LDX | BPF_B | BPF_MSH: the length of the IPv4 header
EQUAL, JUMP, RETURN = 0x15, 0x05, 0x06  # BPF_JMP | BPF_JEQ | BPF_K, BPF_JMP | BPF_JA, BPF_RET | BPF_K
AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
AT_ONCE = 250  # values that one conditional jump, with 8-bit offsets, can skip
ALL, NOTHING = 0xFFFF, 0
EVERYTHING = 0xFFFFFFFF

Instruction = tuple[int, int, int, int]


class Condition(NamedTuple):
    """The value at `offset` of the frame, or after the IPv4 header, equals `value` under `mask`."""

    size: int
    offset: int
    value: int
    behind_header: bool = False
    mask: int = EVERYTHING

    def load(self) -> list[Instruction]:
        if self.behind_header:
            return [HEADER_LENGTH, (self.size + INDEXED, 0, 0, 14 + self.offset)]
        masked = [(AND, 0, 0, self.mask)] if self.mask != EVERYTHING else []
        return [(self.size, 0, 0, self.offset), *masked]

    def accept(self, made: list[Instruction]) -> list[Instruction]:
        """Continue in `made` if it holds, else jump behind the rule."""
        return [*self.load(), (EQUAL, 0, len(made), self.value), *made]


class OneOf(NamedTuple):
    """The last condition of a rule: the value at `offset` is one of `values`."""

    size: int
    offset: int
    values: tuple[int, ...]

    def accept(self, made: list[Instruction]) -> list[Instruction]:
        """One instruction per value, and two more per AT_ONCE values."""
        program: list[Instruction] = [(self.size, 0, 0, self.offset)]
        for start in range(0, len(self.values), AT_ONCE):
            values = self.values[start : start + AT_ONCE]
            program += [(EQUAL, len(values) - at, 0, value) for at, value in enumerate(values)]
            program += [(JUMP, 0, 0, len(made)), *made]
        return program


Rule = Sequence[Condition | OneOf]


def assembled(rules: Iterable[Rule]) -> bytes:
    """The filter as an array of struct sock_filter; empty if it is too long for the kernel."""
    program: list[Instruction] = []
    for rule in rules:
        program += _rule(rule)
    program.append((RETURN, 0, 0, NOTHING))
    if len(program) > LONGEST:
        return b""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _rule(rule: Rule) -> list[Instruction]:
    """A failed comparison jumps behind the rule, with a long jump if that is far."""
    made: list[Instruction] = [(RETURN, 0, 0, ALL)]
    for condition in reversed(rule):
        if isinstance(condition, Condition) and len(made) > AT_ONCE:
            made = [*condition.load(), (EQUAL, 1, 0, condition.value), (JUMP, 0, 0, len(made)), *made]
        else:
            made = condition.accept(made)
    return made


def arp(addresses: Collection[Address], *, coarse: bool = False) -> list[Rule]:
    """ARP packets with one of these addresses as the sender."""
    senders = [int(each) for each in addresses if each.version == 4]
    return [[_among(WORD, 28, senders, coarse=coarse)]] if senders else []


def _among(size: int, offset: int, values: Sequence[int], *, coarse: bool) -> Condition | OneOf:
    """Coarse: the leading bits that all values have in common."""
    if not coarse:
        return OneOf(size, offset, tuple(sorted(set(values))))
    differing = 0
    for value in values:
        differing |= value ^ values[0]
    mask = EVERYTHING & ~((1 << differing.bit_length()) - 1)
    return Condition(size, offset, values[0] & mask, mask=mask)


def ipv4(ident: int, port: int) -> list[Rule]:
    """Possible responses to our probes: echoes with `ident`, ICMP errors, TCP to `port`."""
    icmp, tcp = (
        Condition(BYTE, 23, frame_builder.IPPROTO_ICMP),
        Condition(BYTE, 23, frame_builder.IPPROTO_TCP),
    )
    echoes = (frame_parser.ECHO_REPLY, frame_builder.ECHO_REQUEST)
    return [
        *([icmp, Condition(BYTE, 0, kind, True), Condition(HALF, 4, ident, True)] for kind in echoes),
        [icmp, Condition(BYTE, 0, frame_parser.UNREACHABLE, True)],
        [tcp, Condition(HALF, 2, port, True)],
    ]


def ipv6(ident: int, port: int, addresses: Collection[Address], *, coarse: bool = False) -> list[Rule]:
    """The same for IPv6, and neighbour advertisements whose target ends like one of the addresses."""
    ends = [int(each) & EVERYTHING for each in addresses if each.version == 6]
    icmp, tcp = Condition(BYTE, 20, IPPROTO_ICMPV6), Condition(BYTE, 20, frame_builder.IPPROTO_TCP)
    echoes = (frame_parser.ECHO_REPLY6, frame_builder.ECHO_REQUEST6)
    advertisement = Condition(BYTE, 54, NEIGHBOUR_ADVERTISEMENT)
    return [
        *([icmp, Condition(BYTE, 54, kind), Condition(HALF, 58, ident)] for kind in echoes),
        [icmp, Condition(BYTE, 54, frame_parser.UNREACHABLE6)],
        [tcp, Condition(HALF, 56, port)],
        *([[icmp, advertisement, _among(WORD, 74, ends, coarse=coarse)]] if ends else []),
    ]
