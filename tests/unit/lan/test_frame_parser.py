# SPDX-License-Identifier: Apache-2.0
"""What frames say to the director about its network; they are put together by scapy."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6ND_NA,
    ICMPv6NDOptDstLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from tests.support.lan_network import (
    DIRECTOR4,
    DIRECTOR6,
    DIRECTOR_MAC,
    OTHER_MAC,
    STRANGER,
    STRANGER_MAC,
    VIP4,
    VIP6,
    WEB1,
    WEB1_MAC,
    text,
)
from xdpdirector.lan import frame_builder
from xdpdirector.lan.frame_builder import Ends
from xdpdirector.lan.frame_parser import (
    Claim,
    Manner,
    Return,
    Token,
    echo_token,
    understand,
)

IDENT, PORT, SEQUENCE = 0x4242, 20001, 0xFFFFFFFF
ECHO = echo_token(IDENT, 7)
ASKED4 = frame_builder.echo(Ends(DIRECTOR_MAC, WEB1_MAC, DIRECTOR4, VIP4), IDENT, 7)
ASKED6 = frame_builder.echo(Ends(DIRECTOR_MAC, WEB1_MAC, DIRECTOR6, VIP6), IDENT, 7)
KNOCK4 = frame_builder.segment(
    Ends(DIRECTOR_MAC, WEB1_MAC, DIRECTOR4, VIP4), (PORT, 80), frame_builder.SYN, SEQUENCE
)
WEB1_6 = "2001:db8::21"


def ethernet(target: str = text(DIRECTOR_MAC)) -> Packet:
    return Ether(src=text(STRANGER_MAC), dst=target)


def arp(operation: int, sender: object, target: object, to: str = "ff:ff:ff:ff:ff:ff") -> bytes:
    return bytes(
        ethernet(to) / ARP(op=operation, hwsrc=text(STRANGER_MAC), psrc=str(sender), pdst=str(target))
    )


def advertisement(solicited: int, *options: Packet) -> bytes:
    message: Packet = ICMPv6ND_NA(tgt=str(VIP6), S=solicited)
    for option in options:
        message /= option
    return bytes(ethernet() / IPv6(src=str(VIP6), dst=str(DIRECTOR6), hlim=255) / message)


def tcp(flags: str, acknowledged: int) -> bytes:
    segment = TCP(sport=80, dport=PORT, flags=flags, ack=acknowledged)
    return bytes(ethernet() / IP(src=str(VIP4), dst=str(DIRECTOR4)) / segment)


def refusal(quoted: bytes) -> bytes:
    return bytes(ethernet() / IP(src=str(WEB1), dst=str(DIRECTOR4)) / ICMP(type=3, code=1) / quoted[14:])


REPLY4 = bytes(ethernet() / IP(src=str(VIP4), dst=str(DIRECTOR4)) / ICMP(type=0, id=IDENT, seq=7))
REPLY6 = bytes(ethernet() / IPv6(src=str(VIP6), dst=str(DIRECTOR6)) / ICMPv6EchoReply(id=IDENT, seq=7))
REFUSAL6 = bytes(ethernet() / IPv6(src=WEB1_6, dst=str(DIRECTOR6)) / ICMPv6DestUnreach(code=0) / ASKED6[14:])
LINK_LAYER = ICMPv6NDOptDstLLAddr(lladdr=text(OTHER_MAC))
SYN_TOKEN = Token("syn", SEQUENCE)


def returned(token: Token, kind: str, sender: object, mac: bytes = STRANGER_MAC, **more: bool) -> Return:
    return Return(token, kind, sender, mac, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        pytest.param(
            arp(2, VIP4, DIRECTOR4, text(DIRECTOR_MAC)),
            Claim(VIP4, STRANGER_MAC, Manner.ANSWER),
            id="ARP reply to us",
        ),
        pytest.param(
            arp(2, VIP4, DIRECTOR4), Claim(VIP4, STRANGER_MAC, Manner.ANNOUNCEMENT), id="ARP reply to all"
        ),
        pytest.param(
            arp(1, VIP4, VIP4), Claim(VIP4, STRANGER_MAC, Manner.ANNOUNCEMENT), id="gratuitous ARP request"
        ),
        pytest.param(
            arp(2, VIP4, VIP4), Claim(VIP4, STRANGER_MAC, Manner.ANNOUNCEMENT), id="gratuitous ARP reply"
        ),
        pytest.param(
            arp(1, VIP4, STRANGER),
            Claim(VIP4, STRANGER_MAC, Manner.QUESTION),
            id="ARP request with the VIP as its sender",
        ),
        pytest.param(arp(1, "0.0.0.0", VIP4), None, id="ARP probe"),
        pytest.param(
            advertisement(1, LINK_LAYER), Claim(VIP6, OTHER_MAC, Manner.ANSWER), id="solicited advertisement"
        ),
        pytest.param(
            advertisement(0), Claim(VIP6, STRANGER_MAC, Manner.ANNOUNCEMENT), id="unsolicited advertisement"
        ),
        pytest.param(REPLY4, returned(ECHO, "reply", VIP4), id="echo reply"),
        pytest.param(REPLY6, returned(ECHO, "reply", VIP6), id="echo reply, IPv6"),
        pytest.param(ASKED4, returned(ECHO, "bounced", DIRECTOR4, DIRECTOR_MAC), id="our echo request"),
        pytest.param(ASKED6, returned(ECHO, "bounced", DIRECTOR6, DIRECTOR_MAC), id="our echo request, IPv6"),
        pytest.param(refusal(ASKED4), returned(ECHO, "refused", WEB1), id="unreachable"),
        pytest.param(refusal(KNOCK4), returned(SYN_TOKEN, "refused", WEB1), id="unreachable, about a SYN"),
        pytest.param(
            REFUSAL6, returned(ECHO, "refused", Ether(REFUSAL6)[IPv6].src), id="unreachable, IPv6"
        ),
        pytest.param(tcp("SA", 0), returned(SYN_TOKEN, "reply", VIP4, opened=True), id="SYN and ACK"),
        pytest.param(tcp("RA", 0), returned(SYN_TOKEN, "reply", VIP4), id="RST and ACK"),
        pytest.param(tcp("A", 0), None, id="ACK alone"),
        pytest.param(KNOCK4, None, id="our SYN"),
    ],
)  # fmt: skip
def test_what_a_frame_says(frame: bytes, said: Claim | Return | None) -> None:
    understood = understand(frame)

    if isinstance(said, Return):
        assert isinstance(understood, Return)
        assert str(understood.sender) == str(said.sender)
        assert (understood.token, understood.kind) == (said.token, said.kind)
        assert (understood.mac, understood.opened) == (said.mac, said.opened)
    else:
        assert understood == said


WHOLE = [
    ASKED4,
    ASKED6,
    REPLY4,
    REPLY6,
    REFUSAL6,
    refusal(ASKED4),
    tcp("SA", 0),
    advertisement(1, LINK_LAYER),
]


@given(st.sampled_from(WHOLE), st.integers(0, 200))
def test_a_frame_that_is_cut_short_is_no_trouble(frame: bytes, length: int) -> None:
    understand(frame[:length])


@given(st.binary(max_size=120), st.sampled_from(["0806", "0800", "86dd", "88cc"]))
@example(b"\x4f" + b"\xff" * 60, "0800")
def test_noise_is_no_trouble(noise: bytes, kind: str) -> None:
    understand(bytes(12) + bytes.fromhex(kind) + noise)
