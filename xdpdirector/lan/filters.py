# SPDX-License-Identifier: Apache-2.0
"""Classic BPF filters for packet sockets: the kernel hands over only frames that can be meant for us. Pure.

A filter is a list of rules; a frame passes when all conditions of one rule hold. Instructions: linux/bpf_common.h.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from xdpdirector.announcements import IPPROTO_ICMPV6, NEIGHBOUR_ADVERTISEMENT
from xdpdirector.lan import frames, hearing
from xdpdirector.model import Address

LONGEST = 4096  # BPF_MAXINSNS
BYTE, HALF, WORD = 0x30, 0x28, 0x20  # BPF_LD | size | BPF_ABS
INDEXED = 0x20  # added to them: BPF_IND instead of BPF_ABS
HEADER_LENGTH = (0xB1, 0, 0, 14)  # BPF_LDX | BPF_B | BPF_MSH: the length of the IPv4 header
EQUAL, RETURN = 0x15, 0x06  # BPF_JMP | BPF_JEQ | BPF_K, BPF_RET | BPF_K
ALL, NOTHING = 0xFFFF, 0

Instruction = tuple[int, int, int, int]


class Condition(NamedTuple):
    """What stands at `offset` of the frame, or behind the IPv4 header, is `value`."""

    size: int
    offset: int
    value: int
    behind_header: bool = False

    def load(self) -> list[Instruction]:
        if self.behind_header:
            return [HEADER_LENGTH, (self.size + INDEXED, 0, 0, 14 + self.offset)]
        return [(self.size, 0, 0, self.offset)]


Rule = Sequence[Condition]


def assembled(rules: Iterable[Rule]) -> bytes:
    """The filter as an array of struct sock_filter. One that would be too long lets everything pass."""
    program: list[Instruction] = []
    for rule in rules:
        program += _rule(rule)
    program.append((RETURN, 0, 0, NOTHING))
    if len(program) > LONGEST:
        program = [(RETURN, 0, 0, ALL)]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _rule(rule: Rule) -> list[Instruction]:
    """Each comparison that fails jumps behind the rule's end."""
    made: list[Instruction] = [(RETURN, 0, 0, ALL)]
    for condition in reversed(rule):
        made = [*condition.load(), (EQUAL, 0, len(made), condition.value), *made]
    return made


def arp(addresses: Collection[Address]) -> list[Rule]:
    """ARP packets with one of these as the sender."""
    return [[Condition(WORD, 28, int(each))] for each in addresses if each.version == 4]


def ipv4(ident: int, port: int) -> list[Rule]:
    """What can be a return of our questions: echoes with `ident`, ICMP errors, TCP to `port`."""
    icmp, tcp = Condition(BYTE, 23, frames.IPPROTO_ICMP), Condition(BYTE, 23, frames.IPPROTO_TCP)
    echoes = (hearing.ECHO_REPLY, frames.ECHO_REQUEST)
    return [
        *([icmp, Condition(BYTE, 0, kind, True), Condition(HALF, 4, ident, True)] for kind in echoes),
        [icmp, Condition(BYTE, 0, hearing.UNREACHABLE, True)],
        [tcp, Condition(HALF, 2, port, True)],
    ]


def ipv6(ident: int, port: int, addresses: Collection[Address]) -> list[Rule]:
    """The same, and advertisements whose target ends like one of the addresses."""
    icmp, tcp = Condition(BYTE, 20, IPPROTO_ICMPV6), Condition(BYTE, 20, frames.IPPROTO_TCP)
    echoes = (hearing.ECHO_REPLY6, frames.ECHO_REQUEST6)
    advertisement = Condition(BYTE, 54, NEIGHBOUR_ADVERTISEMENT)
    return [
        *([icmp, Condition(BYTE, 54, kind), Condition(HALF, 58, ident)] for kind in echoes),
        [icmp, Condition(BYTE, 54, hearing.UNREACHABLE6)],
        [tcp, Condition(HALF, 56, port)],
        *(
            [icmp, advertisement, Condition(WORD, 74, int(each) & 0xFFFFFFFF)]
            for each in addresses
            if each.version == 6
        ),
    ]
