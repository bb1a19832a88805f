# SPDX-License-Identifier: Apache-2.0
"""Packet sockets on all interfaces: send frames, and receive those that the socket filters pass.

The filters are classic BPF programs. Needs CAP_NET_RAW. Sockets belong to the network namespace of the thread
that makes them. Frames that the XDP program forwards do not reach packet sockets, so a busy data plane costs
nothing. Does not parse frames.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import logging
import socket
import struct
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from xdpdirector.lan import frame_builder, frame_parser
from xdpdirector.model import Address
from xdpdirector.net.garp import ETH_P_ARP, ETH_P_IP, ETH_P_IPV6, IPPROTO_ICMPV6, NEIGHBOUR_ADVERTISEMENT

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


SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27  # asm-generic/socket.h
READS_AT_ONCE = 64
LARGEST = 2048

OnFrame = Callable[[str, bytes], None]

log = logging.getLogger(__name__)


class Wire(Protocol):
    """Interface to a network, implemented by `PacketWire`. `on_frame(interface, frame)` is called on the
    loop."""

    def open(self, on_frame: OnFrame) -> None:
        """OSError if it cannot be opened, most likely PermissionError."""

    def close(self) -> None: ...

    def listen(self, addresses: Collection[Address], ident: int, port: int) -> None:
        """Receive claims to these addresses, possibly to others too, and responses to echoes with `ident` and
        to SYNs from `port`."""

    def send(self, interface: str, frame: bytes) -> bool:
        """Send a frame; False if it could not be sent."""


class PacketWire:
    """Packet sockets on the host's interfaces."""

    def __init__(self) -> None:
        self._sockets: dict[int, socket.socket] = {}

    def open(self, on_frame: OnFrame) -> None:
        loop = asyncio.get_running_loop()
        try:
            for protocol in (ETH_P_ARP, ETH_P_IP, ETH_P_IPV6):
                made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
                self._sockets[protocol] = made
                made.setblocking(False)
                _attach(made, assembled([]))
                loop.add_reader(made, _read, made, on_frame)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        for made in self._sockets.values():
            asyncio.get_running_loop().remove_reader(made)
            made.close()
        self._sockets.clear()

    def listen(self, addresses: Collection[Address], ident: int, port: int) -> None:
        _attach(self._sockets[ETH_P_IP], assembled(ipv4(ident, port)))
        for protocol, rules in (
            (ETH_P_ARP, partial(arp, addresses)),
            (ETH_P_IPV6, partial(ipv6, ident, port, addresses)),
        ):
            exact, coarse = assembled(rules()), assembled(rules(coarse=True))
            _attach(self._sockets[protocol], exact, coarse)

    def send(self, interface: str, frame: bytes) -> bool:
        try:
            self._sockets[ETH_P_ARP].sendto(frame, (interface, 0))
        except OSError as error:  # interface down or removed, or its queue is full
            log.debug("a probe on %s was not sent: %s", interface, error)
            return False
        return True


def _attach(made: socket.socket, *programs: bytes) -> None:
    """Attach the first filter that the kernel has memory for (`optmem_max`); without any, all frames are
    received. struct sock_fprog points to the instructions, which the kernel copies."""
    for program in filter(None, programs):
        code = array.array("B", program)
        place = struct.pack("HP", len(program) // 8, code.buffer_info()[0])
        try:
            made.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, place)
        except OSError as error:
            if error.errno != errno.ENOMEM:
                raise
        else:
            return
    log.debug("the kernel has no memory for a socket's filter (net.core.optmem_max): all frames are read")
    with contextlib.suppress(FileNotFoundError):  # there is no filter
        made.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)


def _read(made: socket.socket, on_frame: OnFrame) -> None:
    for _ in range(READS_AT_ONCE):
        try:
            frame, (interface, *_) = made.recvfrom(LARGEST)
        except BlockingIOError:
            return
        except OSError as error:  # the interface went down
            log.debug("reading probes: %s", error)
            return
        on_frame(interface, frame)
