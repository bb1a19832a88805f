# SPDX-License-Identifier: Apache-2.0
"""Datagrams of the IPVS sync protocol, version 0 and 1, and their entries. Knows bytes; no tables, no sockets.

The layout is that of net/netfilter/ipvs/ip_vs_sync.c of Linux: `struct ip_vs_sync_mesg_v0`, `ip_vs_sync_mesg`,
`ip_vs_sync_conn_v0`, `ip_vs_sync_v4`, `ip_vs_sync_v6`, and the options that may follow an entry. A datagram is
read as `ip_vs_process_message` reads it: what comes before a malformed entry counts, what follows is lost. The only
bytes that are not in network order are the sequence numbers of version 0.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import NamedTuple

LARGEST = 1472
"""Octets of a datagram, as long as the interface's MTU is 1500: `sync_maxlen`."""
MOST_ENTRIES = 255

_HEAD0 = struct.Struct("!BBH")
_HEAD1 = struct.Struct("!BBHBbH")
_ENTRY0 = struct.Struct("!BBHHH4s4s4sHH")
_ENTRY1 = struct.Struct("!BBHIHHHHII")
_SEQUENCE0, _SEQUENCE1 = struct.Struct("=6I"), struct.Struct("!6I")
_IPV6 = 1  # bit of an entry's type
_SIZE = 0x0FFF  # bits of `ver_size`; the others are the entry's version
_MAY_BE_SKIPPED = 1 << 6  # IPVS_OPT_F_PARAM: bit of an option's type


class Flags(IntFlag):
    """IP_VS_CONN_F_..., as far as they travel. The lowest three bits are a `Method`."""

    SYNC = 0x20
    HASHED = 0x40
    NOOUTPUT = 0x80
    INACTIVE = 0x100
    OUT_SEQ = 0x200
    IN_SEQ = 0x400
    NO_CPORT = 0x800
    TEMPLATE = 0x1000
    ONE_PACKET = 0x2000


class Method(IntEnum):
    """IP_VS_CONN_F_MASQ ...: how packets reach the destination."""

    MASQ = 0
    LOCALNODE = 1
    TUNNEL = 2
    DROUTE = 3
    BYPASS = 4


METHOD_MASK = 0x07


class Option(IntEnum):
    """IPVS_OPT_..."""

    SEQUENCE = 1
    ENGINE_DATA = 2
    ENGINE_NAME = 3


_LONGEST = {Option.SEQUENCE: 24, Option.ENGINE_DATA: 255, Option.ENGINE_NAME: 16}


class Entry(NamedTuple):
    """A connection, or a persistence template. Addresses are packed, 4 or 16 octets. `timeout`: seconds, 0 when it
    does not travel (version 0). `sequence`: the six numbers of `in_seq` and `out_seq`, with NAT only. `engine`,
    `engine_data`: of a persistence engine, such as `sip`."""

    protocol: int
    client: bytes
    client_port: int
    vip: bytes
    port: int
    backend: bytes
    backend_port: int
    flags: int
    state: int
    timeout: int = 0
    fwmark: int = 0
    sequence: tuple[int, ...] = ()
    engine: bytes = b""
    engine_data: bytes = b""

    @property
    def is_template(self) -> bool:
        return bool(self.flags & Flags.TEMPLATE)

    @property
    def is_ipv6(self) -> bool:
        return len(self.vip) == 16

    @property
    def method(self) -> int:
        return self.flags & METHOD_MASK


@dataclass
class Message:
    """A datagram. `skipped`: entries with an option that is unknown and must be understood. `malformed`: why the
    rest of it was not read; empty when it was."""

    syncid: int
    version: int
    entries: list[Entry] = field(default_factory=list)
    skipped: int = 0
    malformed: str = ""


def parse(datagram: bytes) -> Message:
    """What a datagram says; never an exception, whatever is in it."""
    if len(datagram) < _HEAD0.size:
        return Message(0, 0, malformed="it is shorter than a header")
    count, syncid, size = _HEAD0.unpack_from(datagram)
    if size != len(datagram):
        return Message(syncid, 0, malformed=f"it says {size} octets, and has {len(datagram)}")
    if len(datagram) >= _HEAD1.size:
        reserved, _, _, entries, version, spare = _HEAD1.unpack_from(datagram)
        if version == 1 and not reserved and not spare:
            return _parse1(datagram, Message(syncid, 1), entries)
    return _parse0(datagram, Message(syncid, 0), count)


def _parse1(datagram: bytes, message: Message, count: int) -> Message:
    start = _HEAD1.size
    for _ in range(count):
        if start + _ENTRY1.size + 12 > len(datagram):
            message.malformed = "an entry reaches beyond its end"
            break
        kind, _, version_size = struct.unpack_from("!BBH", datagram, start)
        size = version_size & _SIZE
        if start + size > len(datagram):
            message.malformed = "an entry reaches beyond its end"
            break
        if version_size > _SIZE:
            message.malformed = f"an entry is of version {version_size >> 12}"
            break
        if kind and not kind & _IPV6:
            message.malformed = f"an entry is of type {kind}"
            break
        width = 16 if kind & _IPV6 else 4
        if size < _ENTRY1.size + 3 * width:
            message.malformed = "an entry is shorter than its fields"
            break
        try:
            entry = _entry1(datagram[start : start + size], width)
        except ValueError as error:
            message.malformed = str(error)
            break
        if entry is None:
            message.skipped += 1
        else:
            message.entries.append(entry)
        start += size + 3 & ~3
    return message


def _entry1(octets: bytes, width: int) -> Entry | None:
    """None for one with an option that must be understood, and is not; ValueError for malformed options."""
    _, protocol, _, flags, state, cport, vport, dport, fwmark, timeout = _ENTRY1.unpack_from(octets)
    start = _ENTRY1.size
    client, vip, backend = (octets[start + i * width : start + (i + 1) * width] for i in range(3))
    options = _options(octets, start + 3 * width)
    if options is None:
        return None
    sequence = options.get(Option.SEQUENCE)
    return Entry(
        protocol, client, cport, vip, vport, backend, dport, flags, state, timeout, fwmark,
        _SEQUENCE1.unpack(sequence) if sequence else (),
        options.get(Option.ENGINE_NAME, b"").rstrip(b"\0"),
        options.get(Option.ENGINE_DATA, b""),
    )  # fmt: skip


def _options(octets: bytes, start: int) -> dict[int, bytes] | None:
    """By type, as `_entry1`."""
    found: dict[int, bytes] = {}
    while start < len(octets):
        if start + 2 > len(octets):
            raise ValueError("an option has no length")
        kind, length = octets[start], octets[start + 1]
        start += 2
        if not length or start + length > len(octets):
            raise ValueError(f"an option has the length {length}")
        known = kind & ~_MAY_BE_SKIPPED
        if known in _LONGEST:
            exact = known == Option.SEQUENCE
            if length > _LONGEST[Option(known)] or (exact and length != _LONGEST[Option.SEQUENCE]):
                raise ValueError(f"option {known} has the length {length}")
            if known in found:
                raise ValueError(f"option {known} stands twice")
            found[known] = octets[start : start + length]
        elif not kind & _MAY_BE_SKIPPED:
            return None
        start += length
    return found


def _parse0(datagram: bytes, message: Message, count: int) -> Message:
    start = _HEAD0.size
    for _ in range(count):
        if start + _ENTRY0.size > len(datagram):
            message.malformed = "an entry reaches beyond its end"
            break
        fields = _ENTRY0.unpack_from(datagram, start)
        _, protocol, cport, vport, dport, client, vip, backend, flags, state = fields
        start += _ENTRY0.size
        sequence: tuple[int, ...] = ()
        if flags & (Flags.OUT_SEQ | Flags.IN_SEQ):
            if start + _SEQUENCE0.size > len(datagram):
                message.malformed = "sequence numbers reach beyond its end"
                break
            sequence = _SEQUENCE0.unpack_from(datagram, start)
            start += _SEQUENCE0.size
        message.entries.append(
            Entry(protocol, client, cport, vip, vport, backend, dport, flags, state, sequence=sequence)
        )
    return message


def written(entries: Iterable[Entry], syncid: int, version: int = 1, most: int = LARGEST) -> Iterator[bytes]:
    """Datagrams of at most so many octets. Version 0 has no IPv6: such entries are left out."""
    write, head = (_write1, _HEAD1.size) if version else (_write0, _HEAD0.size)
    body, count = bytearray(), 0
    for entry in entries:
        if not version and entry.is_ipv6:
            continue
        octets = write(entry)
        gap = -len(body) % 4
        if count and (head + len(body) + gap + len(octets) > most or count == MOST_ENTRIES):
            yield _head(version, syncid, count, head + len(body)) + bytes(body)
            body, count, gap = bytearray(), 0, 0
        body += bytes(gap) + octets
        count += 1
    if count:
        yield _head(version, syncid, count, head + len(body)) + bytes(body)


def _head(version: int, syncid: int, count: int, size: int) -> bytes:
    return _HEAD1.pack(0, syncid, size, count, 1, 0) if version else _HEAD0.pack(count, syncid, size)


def _write1(entry: Entry) -> bytes:
    options = b""
    if entry.sequence:
        options += bytes((Option.SEQUENCE, _SEQUENCE1.size)) + _SEQUENCE1.pack(*entry.sequence)
    if entry.engine_data:
        options += bytes((Option.ENGINE_DATA, len(entry.engine_data))) + entry.engine_data
        options += bytes((Option.ENGINE_NAME, len(entry.engine))) + entry.engine
    addresses = entry.client + entry.vip + entry.backend
    size = _ENTRY1.size + len(addresses) + len(options)
    head = _ENTRY1.pack(
        _IPV6 if entry.is_ipv6 else 0, entry.protocol, size, entry.flags & ~Flags.HASHED, entry.state,
        entry.client_port, entry.port, entry.backend_port, entry.fwmark, entry.timeout,
    )  # fmt: skip
    return head + addresses + options


def _write0(entry: Entry) -> bytes:
    head = _ENTRY0.pack(
        0, entry.protocol, entry.client_port, entry.port, entry.backend_port, entry.client, entry.vip,
        entry.backend, entry.flags & ~Flags.HASHED & 0xFFFF, entry.state,
    )  # fmt: skip
    return head + (_SEQUENCE0.pack(*entry.sequence) if entry.sequence else b"")
