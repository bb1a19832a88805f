# SPDX-License-Identifier: Apache-2.0
"""What the packet program answers to a client by itself: a RST, or an ICMP port unreachable."""

from __future__ import annotations

from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6
from scapy.layers.l2 import Dot1AD, Dot1Q
from scapy.packet import Packet, Raw

import tests.support.world as w


def reset(request: Packet, **fields: object) -> bytes:
    """The RST that answers `request`: turned round, without IP options, extension headers and data."""
    turned = w.ethernet(source=w.DIRECTOR_MAC, destination=w.ROUTER_MAC)
    for tag in (Dot1AD, Dot1Q):
        if tag in request:
            turned /= tag(vlan=request[tag].vlan)
    if IP in request:
        turned /= IP(src=w.VIP, dst=w.CLIENT, id=0, flags="DF", ttl=64)
    else:
        turned /= IPv6(src=w.VIP6, dst=w.CLIENT6, hlim=64)
    return bytes(turned / TCP(sport=request[TCP].dport, dport=request[TCP].sport, window=0, **fields))


def unreachable(request: Packet) -> bytes:
    """The ICMP port unreachable that answers `request`: RFC 792 quotes 8 bytes of data, RFC 4443 all that fits."""
    turned = w.ethernet(source=w.DIRECTOR_MAC, destination=w.ROUTER_MAC)
    if Dot1Q in request:
        turned /= Dot1Q(vlan=request[Dot1Q].vlan)
    if IP in request:
        quoted = bytes(request[IP])
        icmp = ICMP(type=3, code=3) / Raw(quoted[: (quoted[0] & 15) * 4 + 8])
        return bytes(turned / IP(src=w.VIP, dst=w.CLIENT, id=0, ttl=64) / icmp)
    quoted = bytes(request[IPv6])[:1232]
    return bytes(turned / IPv6(src=w.VIP6, dst=w.CLIENT6, hlim=64) / ICMPv6DestUnreach(code=4) / Raw(quoted))
