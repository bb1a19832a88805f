# SPDX-License-Identifier: Apache-2.0
"""The questions to the network, as another implementation (scapy) reads them, and the filters for their answers."""

from functools import partial
from ipaddress import ip_address
from struct import iter_unpack, unpack_from

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from tests.support.lan_network import (
    DIRECTOR4,
    DIRECTOR6,
    DIRECTOR_MAC,
    STRANGER,
    VIP4,
    VIP6,
    WEB1,
    WEB1_MAC,
    backend,
    text,
)
from xdpdirector.lan import frame_builder, packet_socket
from xdpdirector.lan.frame_builder import NOBODY, Ends
from xdpdirector.model import Address

IDENT, PORT = 0x4242, 20001
AT_VIP4, AT_VIP6 = (
    Ends(DIRECTOR_MAC, WEB1_MAC, DIRECTOR4, VIP4),
    Ends(DIRECTOR_MAC, WEB1_MAC, DIRECTOR6, VIP6),
)


def summed_right(frame: bytes) -> bool:
    """Whether scapy computes the same checksums anew."""
    packet = Ether(frame)
    for layer in (IP, ICMP, TCP, ICMPv6ND_NS, ICMPv6EchoRequest):
        if layer in packet:
            for name in {"chksum", "cksum"} & {each.name for each in packet[layer].fields_desc}:
                delattr(packet[layer], name)
    return bytes(packet) == frame


def test_an_arp_probe_is_believed_by_nobody() -> None:
    packet = Ether(frame_builder.who_has(VIP4, NOBODY, DIRECTOR_MAC))

    asked = packet[ARP]
    assert (packet.dst, asked.op, asked.psrc, asked.pdst) == ("ff:ff:ff:ff:ff:ff", 1, "0.0.0.0", str(VIP4))
    assert asked.hwsrc == packet.src == text(DIRECTOR_MAC)


def test_a_solicitation_goes_to_the_group_of_the_address_and_brings_the_answer_back() -> None:
    frame = frame_builder.who_has(VIP6, DIRECTOR6, DIRECTOR_MAC)

    packet = Ether(frame)
    assert (packet.dst, packet[IPv6].dst) == ("33:33:ff:00:00:10", "ff02::1:ff00:10")
    assert (packet[IPv6].src, packet[IPv6].hlim, packet[ICMPv6ND_NS].tgt) == (str(DIRECTOR6), 255, str(VIP6))
    assert packet[ICMPv6NDOptSrcLLAddr].lladdr == text(DIRECTOR_MAC)
    assert summed_right(frame)


@pytest.mark.parametrize("ends", [AT_VIP4, AT_VIP6], ids=["IPv4", "IPv6"])
def test_an_echo_request_to_the_vip_goes_to_one_machine(ends: Ends) -> None:
    frame = frame_builder.echo(ends, IDENT, 7)

    packet = Ether(frame)
    network = packet[IP] if IP in packet else packet[IPv6]
    asked = packet[ICMP] if ICMP in packet else packet[ICMPv6EchoRequest]
    assert (packet.src, packet.dst) == (text(DIRECTOR_MAC), text(WEB1_MAC))
    assert (network.src, network.dst) == (str(ends.source), str(ends.target))
    assert (asked.id, asked.seq) == (IDENT, 7)
    assert summed_right(frame)


@pytest.mark.parametrize("ends", [AT_VIP4, AT_VIP6], ids=["IPv4", "IPv6"])
def test_a_syn_to_the_vip_goes_to_one_machine(ends: Ends) -> None:
    frame = frame_builder.segment(ends, (PORT, 80), frame_builder.SYN, 1 << 32)

    asked = Ether(frame)[TCP]
    assert (asked.sport, asked.dport, asked.seq, str(asked.flags)) == (PORT, 80, 0, "S")
    assert summed_right(frame)


def passes(program: bytes, frame: bytes) -> bool:
    """Interprets the few instructions that our filters are made of (linux/bpf_common.h)."""
    code, at, accumulator, index = list(iter_unpack("=HBBI", program)), 0, 0, 0
    sizes = {0x20: "!I", 0x28: "!H", 0x30: "!B"}
    while True:
        operation, then, otherwise, value = code[at]
        at += 1
        if operation == 0x06:
            return value > 0
        if operation == 0x15:
            at += then if accumulator == value else otherwise
        elif operation == 0x05:
            at += value
        elif operation == 0x54:
            accumulator &= value
        elif operation == 0xB1:
            index = 4 * (frame[value] & 0xF)
        else:
            start = value + (index if operation & 0x40 else 0)
            form = sizes[operation - 0x20 if operation & 0x40 else operation]
            if start + {"!I": 4, "!H": 2, "!B": 1}[form] > len(frame):
                return False
            (accumulator,) = unpack_from(form, frame, start)


def incoming(packet: Packet, source: Address = WEB1, target: Address = DIRECTOR4) -> bytes:
    layer = IP if source.version == 4 else IPv6
    network = layer(src=str(source), dst=str(target))
    return bytes(Ether(src=text(WEB1_MAC), dst=text(DIRECTOR_MAC)) / network / packet)


def claim(address: Address) -> bytes:
    return bytes(Ether() / ARP(op=2, psrc=str(address), hwsrc=text(WEB1_MAC)))


ARP_RULES, RULES4 = packet_socket.arp([VIP4, VIP6]), packet_socket.ipv4(IDENT, PORT)
RULES6 = packet_socket.ipv6(IDENT, PORT, [VIP4, VIP6])
SIX = {"source": ip_address("2001:db8::21"), "target": DIRECTOR6}
ANSWER4 = backend(WEB1, WEB1_MAC).answer(frame_builder.echo(AT_VIP4, IDENT, 1))[0]
ANSWER6 = backend(WEB1, WEB1_MAC).answer(frame_builder.echo(AT_VIP6, IDENT, 1))[0]
FOREIGN4 = backend(WEB1, WEB1_MAC).answer(frame_builder.echo(AT_VIP4, IDENT + 1, 1))[0]
FOREIGN6 = backend(WEB1, WEB1_MAC).answer(frame_builder.echo(AT_VIP6, IDENT + 1, 1))[0]
TAKEN4 = backend(WEB1, WEB1_MAC).answer(frame_builder.segment(AT_VIP4, (PORT, 80), frame_builder.SYN, 5))[0]
TAKEN6 = backend(WEB1, WEB1_MAC).answer(frame_builder.segment(AT_VIP6, (PORT, 80), frame_builder.SYN, 5))[0]
LONG_HEADER = bytes(
    Ether() / IP(src=str(WEB1), dst=str(DIRECTOR4), options=[b"\x01" * 8]) / ICMP(type=0, id=IDENT)
)


@pytest.mark.parametrize(
    ("rules", "frame", "wanted"),
    [
        pytest.param(ARP_RULES, claim(VIP4), True, id="ARP with the VIP as the sender"),
        pytest.param(ARP_RULES, claim(STRANGER), False, id="other ARP"),
        pytest.param(RULES4, ANSWER4, True, id="our echo reply"),
        pytest.param(RULES4, FOREIGN4, False, id="another's echo reply"),
        pytest.param(RULES4, LONG_HEADER, True, id="our echo reply behind IP options"),
        pytest.param(RULES4, frame_builder.echo(AT_VIP4, IDENT, 1), True, id="our echo request that bounced"),
        pytest.param(RULES4, incoming(ICMP(type=3, code=1)), True, id="unreachable"),
        pytest.param(RULES4, TAKEN4, True, id="TCP to our port"),
        pytest.param(RULES4, incoming(TCP(dport=PORT + 1)), False, id="TCP to another port"),
        pytest.param(RULES4, incoming(UDP(dport=PORT)), False, id="UDP to a port of that number"),
        pytest.param(RULES6, ANSWER6, True, id="our echo reply, IPv6"),
        pytest.param(RULES6, FOREIGN6, False, id="another's echo reply, IPv6"),
        pytest.param(RULES6, TAKEN6, True, id="TCP to our port, IPv6"),
        pytest.param(RULES6, incoming(ICMPv6ND_NA(tgt=str(VIP6)), **SIX), True, id="the VIP advertised"),
        pytest.param(RULES6, incoming(ICMPv6ND_NA(tgt="2001:db8::66"), **SIX), False, id="another advertised"),
        pytest.param(packet_socket.arp([]), claim(VIP4), False, id="nothing is wanted"),
    ],
)  # fmt: skip
def test_only_what_can_be_for_us_passes_the_filter(
    rules: list[packet_socket.Rule], frame: bytes, wanted: bool
) -> None:
    assert passes(packet_socket.assembled(rules), frame) is wanted


def many(version: int, number: int) -> list[Address]:
    base = int(ip_address({4: "10.0.0.0", 6: "2001:db8::"}[version]))
    return [ip_address(base + n) for n in range(number)]


def advertised(address: Address) -> bytes:
    return incoming(ICMPv6ND_NA(tgt=str(address)), **SIX)


@pytest.mark.parametrize("number", [1, 2, 249, 250, 251, 500, 3000])
@pytest.mark.parametrize("version", [4, 6])
def test_a_filter_for_many_addresses_knows_each_of_them(version: int, number: int) -> None:
    """An exact one also knows all others; both fit into one more than the kernel has room for by default."""
    wanted = many(version, number)
    others = [wanted[0] - 1, wanted[-1] + 1]
    says = claim if version == 4 else advertised
    rules = packet_socket.arp if version == 4 else partial(packet_socket.ipv6, IDENT, PORT)

    exact, coarse = (packet_socket.assembled(rules(wanted, coarse=each)) for each in (False, True))

    for address in (wanted[0], wanted[number // 2], wanted[-1]):
        assert passes(exact, says(address))
        assert passes(coarse, says(address))
    assert not any(passes(exact, says(address)) for address in others)
    assert len(coarse) < 50 * 8


def test_other_rules_hold_beside_many_addresses() -> None:
    program = packet_socket.assembled(packet_socket.ipv6(IDENT, PORT, many(6, 1000)))

    assert passes(program, ANSWER6)
    assert passes(program, TAKEN6)
    assert not passes(program, FOREIGN6)
    assert not passes(program, incoming(ICMPv6EchoRequest(), **SIX))


def test_a_coarse_filter_knows_a_network_from_others() -> None:
    program = packet_socket.assembled(packet_socket.arp([VIP4, WEB1], coarse=True))

    assert passes(program, claim(VIP4))
    assert not passes(program, claim(ip_address("192.0.3.10")))


def test_a_filter_that_is_longer_than_the_kernel_takes_is_none() -> None:
    assert packet_socket.assembled(packet_socket.arp(many(4, 5000))) == b""
    assert packet_socket.assembled(packet_socket.arp(many(4, 5000), coarse=True))
