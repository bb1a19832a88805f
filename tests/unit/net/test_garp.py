# SPDX-License-Identifier: Apache-2.0
"""Announcements, whole frames compared."""

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpdirector.model import Address
from xdpdirector.net.garp import ALL_NODES, announcement, icmpv6_checksum

VIP4, VIP6 = IPv4Address("192.0.2.10"), IPv6Address("2001:db8::10")
MAC = bytes.fromhex("020000000002")


@pytest.mark.parametrize(
    ("address", "frame"),
    [
        pytest.param(
            VIP4,
            "ffffffffffff 020000000002 0806"
            "0001 0800 06 04 0001"
            "020000000002 c000020a"
            "000000000000 c000020a",
            id="IPv4: ARP request for itself",
        ),
        pytest.param(
            VIP6,
            "333300000001 020000000002 86dd"
            "60000000 0020 3a ff"
            "20010db8000000000000000000000010"
            "ff020000000000000000000000000001"
            "88 00 f90b 20000000"
            "20010db8000000000000000000000010"
            "02 01 020000000002",
            id="IPv6: neighbour advertisement, override",
        ),
    ],
)  # fmt: skip
def test_frame(address: Address, frame: str) -> None:
    assert announcement(address, MAC) == bytes.fromhex(frame)


@given(st.ip_addresses(v=6), st.binary(max_size=64))
def test_checksum_makes_the_sum_come_out_even(source: IPv6Address, rest: bytes) -> None:
    """The receiver's rule (RFC 1071): with the checksum in place, the sum of all words is all ones."""
    checksum = icmpv6_checksum(source, ALL_NODES, b"\x88\0\0\0" + rest)

    message = b"\x88\0" + struct.pack("!H", checksum) + rest + bytes(len(rest) % 2)
    length = struct.pack("!II", 4 + len(rest), 58)
    words = struct.iter_unpack("!H", source.packed + ALL_NODES.packed + length + message)
    assert sum(word for (word,) in words) % 0xFFFF == 0
