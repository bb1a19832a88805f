# SPDX-License-Identifier: Apache-2.0
"""The chaos run's floods and sprays: whole frames, as somebody's who knows addresses and nothing else."""

from ipaddress import ip_address
from itertools import islice
from random import Random

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from dev.chaos.attacker import (
    FLOODS,
    SPRAYS,
    Target,
    flood,
    spray,
)

TO, FROM = bytes.fromhex("020000000001"), bytes.fromhex("020000000064")
VIPS = {4: ip_address("192.0.2.10"), 6: ip_address("2001:db8::10")}
CLIENTS = {4: ip_address("192.0.2.100"), 6: ip_address("2001:db8::100")}
PORTS = range(32768, 32868)
families = pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])


def target(family: int) -> Target:
    return Target.of(TO, FROM, VIPS[family], 7001)


def network(frame: Ether) -> IP | IPv6:
    return frame[IP] if IP in frame else frame[IPv6]


@families
@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_is_of_somebody_else_each_time(family: int, kind: str) -> None:
    flags = FLOODS[kind]
    frames = [Ether(one) for one in islice(flood(target(family), flags, Random(7)), 50 * len(flags))]

    flows = [(network(one).src, one[TCP].sport) for one in frames]
    assert len(set(flows)) == 50
    assert [int(one[TCP].flags) for one in frames] == [*flags] * 50
    assert {(network(one).dst, one[TCP].dport, one.dst, one.src) for one in frames} == {
        (str(VIPS[family]), 7001, TO.hex(":"), FROM.hex(":"))
    }


@families
@pytest.mark.parametrize("kind", SPRAYS)
def test_a_spray_tries_each_port_once_with_both_packets(family: int, kind: str) -> None:
    flags, client = SPRAYS[kind], CLIENTS[family]
    frames = [Ether(one) for one in spray(target(family), flags, client, PORTS, Random(7))]

    assert [(one[TCP].sport, int(one[TCP].flags)) for one in frames] == [
        (port, each) for port in PORTS for each in flags
    ]
    assert {network(one).src for one in frames} == {str(client)}
    assert len({one[TCP].seq for one in frames}) > len(PORTS)


@families
def test_checksums_are_right(family: int) -> None:
    for one in islice(flood(target(family), FLOODS["two packets"], Random(7)), 50):
        again = Ether(one)
        if IP in again:
            del again[IP].chksum
        del again[TCP].chksum

        assert bytes(again) == one


def test_the_same_seed_sends_the_same() -> None:
    first, again, other = (
        list(islice(flood(target(4), FLOODS["SYN"], Random(seed)), 20)) for seed in (7, 7, 8)
    )

    assert first == again
    assert first != other
