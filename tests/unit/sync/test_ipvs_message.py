# SPDX-License-Identifier: Apache-2.0
"""Datagrams of the IPVS sync protocol, put together by hand from the structs of net/netfilter/ipvs/ip_vs_sync.c."""

from __future__ import annotations

import json
import struct
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpdirector.sync.ipvs import message
from xdpdirector.sync.ipvs.message import Entry, Flags

KERNEL = Path(__file__).with_name("ipvs_kernel.json")
CLIENT, VIP, SERVER = (ip_address(each).packed for each in ("192.168.1.20", "10.99.0.1", "10.0.0.11"))
CLIENT6, VIP6, SERVER6 = (ip_address(each).packed for each in ("2001:db8::99", "2001:db8::80", "2001:db8::a"))
ESTABLISHED = Entry(6, CLIENT, 55746, VIP, 80, SERVER, 80, 0x83, 1, 900)
FIN_WAIT6 = Entry(6, CLIENT6, 50000, VIP6, 80, SERVER6, 80, 0x183, 4, 120)
TWO = bytes.fromhex(
    # header: reserved, syncid, size, nr_conns, version, spare
    "00 05 0074 02 01 0000"
    # ip_vs_sync_v4: type, protocol, ver_size, flags, state, cport, vport, dport, fwmark, timeout, addresses
    "00 06 0024 00000083 0001 d9c2 0050 0050 00000000 00000384 c0a80114 0a630001 0a00000b"
    # ip_vs_sync_v6
    "01 06 0048 00000183 0004 c350 0050 0050 00000000 00000078"
    "20010db8000000000000000000000099 20010db8000000000000000000000080 20010db800000000000000000000000a"
)


def test_version_1_with_both_families() -> None:
    said = message.parse(TWO)

    assert (said.syncid, said.version, said.malformed) == (5, 1, "")
    assert said.entries == [ESTABLISHED, FIN_WAIT6]
    assert list(message.written(said.entries, 5)) == [TWO]


def test_version_0() -> None:
    datagram = bytes.fromhex(
        "01 07 001c"  # nr_conns, syncid, size
        "00 06 d9c2 0050 0050 c0a80114 0a630001 0a00000b 0083 0001"
    )
    said = message.parse(datagram)

    assert (said.syncid, said.version, said.malformed) == (7, 0, "")
    assert said.entries == [ESTABLISHED._replace(timeout=0)]
    assert list(message.written([ESTABLISHED, FIN_WAIT6], 7, 0)) == [datagram]  # it has no IPv6


def test_sequence_numbers_of_nat() -> None:
    numbers = (1, 2, 3, 0xFFFFFFFF, 5, 6)
    entry = ESTABLISHED._replace(flags=0x600, sequence=numbers)
    [one] = message.written([entry], 0)
    [zero] = message.written([entry], 0, 0)

    assert one[-26:] == bytes([1, 24]) + struct.pack("!6I", *numbers)
    assert zero[-24:] == struct.pack("=6I", *numbers)  # in the order of the host
    assert message.parse(one).entries == [entry]
    assert message.parse(zero).entries == [entry._replace(timeout=0)]


def test_persistence_data_and_what_stands_behind_it() -> None:
    """The next entry begins at a multiple of four; the padding counts for the message, not for the entry."""
    template = Entry(
        17, CLIENT, 0, VIP, 5060, SERVER, 5060, 0x1083, 0, 360, engine=b"sip", engine_data=b"call-1@example"
    )
    [datagram] = message.written([template, ESTABLISHED], 0)
    options = bytes([2, 14]) + b"call-1@example" + bytes([3, 3]) + b"sip"

    assert datagram[8 + 36 : 8 + 36 + 21] == options
    assert datagram[8 + 2 : 8 + 4] == (36 + 21).to_bytes(2, "big")
    assert len(datagram) == 8 + 60 + 36
    assert message.parse(datagram).entries == [template, ESTABLISHED]


def test_an_option_that_may_be_skipped_and_one_that_may_not() -> None:
    def with_option(kind: int) -> bytes:
        entry = TWO[8:44][:2] + (36 + 4).to_bytes(2, "big") + TWO[12:44] + bytes([kind, 2]) + b"xy"
        body = entry + TWO[8:44]
        return struct.pack("!BBHBbH", 0, 0, 8 + len(body), 2, 1, 0) + body

    assert message.parse(with_option(0x40 | 9)).entries == [ESTABLISHED, ESTABLISHED]
    said = message.parse(with_option(9))
    assert (said.entries, said.skipped, said.malformed) == ([ESTABLISHED], 1, "")


def test_what_debians_kernel_sent() -> None:
    """Linux 6.1 as master, recorded by tests/vm/test_ipvs_sync.py: TCP, UDP, IPv6, and a template, sent again and
    again. The real server is the director itself, so TCP connections have no NOOUTPUT."""
    datagrams = [bytes.fromhex(each) for each in json.loads(KERNEL.read_text())]
    read = [message.parse(each) for each in datagrams]
    entries = [entry for each in read for entry in each.entries]
    shapes = {
        (each.protocol, len(each.vip), each.port, each.flags, each.state, each.timeout) for each in entries
    }

    assert {(each.syncid, each.version, each.malformed, each.skipped) for each in read} == {(7, 1, "", 0)}
    assert shapes == {
        (6, 4, 80, 0x3, 1, 900),
        (6, 4, 443, 0x3, 1, 900),
        (6, 4, 443, 0x1183, 0, 600),
        (6, 4, 443, 0x1183, 1, 600),
        (17, 4, 53, 0x183, 0, 300),
        (6, 16, 80, 0x3, 1, 900),
    }
    assert [list(message.written(each.entries, 7)) for each in read] == [[each] for each in datagrams]


def changed(place: int, *octets: int) -> bytes:
    return TWO[:place] + bytes(octets) + TWO[place + len(octets) :]


@pytest.mark.parametrize(
    ("datagram", "why", "entries"),
    [
        (b"", "it is shorter than a header", 0),
        (b"\0\0\0", "it is shorter than a header", 0),
        (TWO[:-1], "it says 116 octets, and has 115", 0),
        (TWO + b"\0", "it says 116 octets, and has 117", 0),
        (changed(4, 3), "an entry reaches beyond its end", 2),
        (changed(10, 0x00, 0x23), "an entry is shorter than its fields", 0),
        (changed(10, 0x0F, 0xFF), "an entry reaches beyond its end", 0),
        (changed(10, 0x10, 0x24), "an entry is of version 1", 0),
        (changed(8, 2), "an entry is of type 2", 0),
        (changed(8, 1), "an entry is shorter than its fields", 0),
        (changed(44 + 2, 0x00, 0x24), "an entry is shorter than its fields", 1),
    ],
)
def test_what_is_malformed_ends_the_datagram(datagram: bytes, why: str, entries: int) -> None:
    said = message.parse(datagram)

    assert (said.malformed, len(said.entries)) == (why, entries)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("01", "an option has no length"),
        ("0100", "an option has the length 0"),
        ("0105ffff", "an option has the length 5"),
        ("0102ffff", "option 1 has the length 2"),
        ("0311" + 17 * "61", "option 3 has the length 17"),
        ("030161 030161", "option 3 stands twice"),
    ],
)
def test_malformed_options(options: str, why: str) -> None:
    octets = bytes.fromhex(options)
    entry = TWO[8:10] + (36 + len(octets)).to_bytes(2, "big") + TWO[12:44] + octets
    said = message.parse(struct.pack("!BBHBbH", 0, 0, 8 + len(entry), 1, 1, 0) + entry)

    assert (said.entries, said.malformed) == ([], why)


def test_a_datagram_that_is_no_version_1_is_read_as_version_0() -> None:
    """As the kernel does: a spare field that is not zero makes it one. Its count is the first octet, 0."""
    said = message.parse(changed(6, 0, 1))

    assert (said.version, said.entries, said.malformed) == (0, [], "")


def test_many_entries_are_several_datagrams() -> None:
    entries = [ESTABLISHED._replace(client_port=number) for number in range(1, 301)]
    datagrams = list(message.written(entries, 3))
    small = list(message.written(entries, 3, 0, most=1 << 15))

    assert max(map(len, datagrams)) == 8 + 40 * 36
    assert [entry for each in datagrams for entry in message.parse(each).entries] == entries
    assert [each[0] for each in small] == [255, 45]  # the count is one octet


@given(st.binary(max_size=300))
def test_anything_is_read(datagram: bytes) -> None:
    said = message.parse(datagram)
    assert len(said.entries) + said.skipped <= len(datagram)


@given(st.data())
def test_a_datagram_with_flaws_is_read(data: st.DataObject) -> None:
    """Octets changed here and there, with the size that it has."""
    octets = bytearray(TWO + TWO[8:])
    octets[4] = 4
    for _ in range(data.draw(st.integers(1, 6))):
        octets[data.draw(st.integers(4, len(octets) - 1))] = data.draw(st.integers(0, 255))
    octets = octets[: data.draw(st.integers(4, len(octets)))]
    octets[2:4] = len(octets).to_bytes(2, "big")

    said = message.parse(bytes(octets))

    for entry in said.entries:
        assert len(entry.client) == len(entry.vip) == len(entry.backend)
        assert len(entry.vip) in (4, 16)


ENTRIES = st.builds(
    lambda width, protocol, cport, port, flags, state, timeout, mark, sequence, engine: Entry(
        protocol,
        *(CLIENT6[:width], cport, VIP6[:width], port, SERVER6[:width], port),
        flags=flags & ~Flags.HASHED & ~0x600 | (0x600 if sequence else 0),
        state=state,
        timeout=timeout,
        fwmark=mark,
        sequence=sequence,
        engine=b"sip" if engine else b"",
        engine_data=engine,
    ),
    st.sampled_from((4, 16)),
    *(st.integers(0, most) for most in (255, 65535, 65535, 0xFFFFFFFF, 65535, 0xFFFFFFFF, 0xFFFFFFFF)),
    st.one_of(st.just(()), st.tuples(*[st.integers(0, 0xFFFFFFFF)] * 6)),
    st.binary(max_size=255),
)  # fmt: skip


@given(st.lists(ENTRIES, max_size=60), st.integers(0, 255))
def test_what_is_written_is_read(entries: list[Entry], syncid: int) -> None:
    datagrams = list(message.written(entries, syncid))
    read = [message.parse(each) for each in datagrams]

    assert all(len(each) <= message.LARGEST for each in datagrams)
    assert [entry for each in read for entry in each.entries] == entries
    assert {(each.syncid, each.version, each.malformed) for each in read} <= {(syncid, 1, "")}
