# SPDX-License-Identifier: Apache-2.0
"""A network of made-up machines that answer what the director asks, taken apart and put together by scapy.

director 192.0.2.1, 2001:db8::1 on eth0; backends from .21 on; the VIPs are .10 and 2001:db8::10.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface

from scapy.config import conf
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from xdpdirector.lan.packet_socket import OnFrame
from xdpdirector.model import Address, ServiceSpec
from xdpdirector.net.interfaces import Interface
from xdpdirector.net.next_hop import Route
from xdpdirector.state.edits import Services

conf.verb = 0

VIP4, VIP6 = ip_address("192.0.2.10"), ip_address("2001:db8::10")
DIRECTOR4, DIRECTOR6 = ip_address("192.0.2.1"), ip_address("2001:db8::1")
WEB1, WEB2, STRANGER = (ip_address(f"192.0.2.{number}") for number in (21, 22, 66))
DIRECTOR_MAC, OTHER_MAC = bytes.fromhex("020000000001"), bytes.fromhex("0200000000aa")
WEB1_MAC, WEB2_MAC, STRANGER_MAC = (bytes.fromhex(f"0200000000{n:02x}") for n in (21, 22, 66))
EVERYBODY = b"\xff" * 6


def text(mac: bytes) -> str:
    return mac.hex(":")


@dataclass
class Machine:
    """`arp`: addresses that it says are its own; `has`: those that it answers for."""

    mac: bytes
    arp: set[Address]
    has: set[Address]
    forwards: bool = False
    pings: bool = True
    ports: set[int] | None = field(default_factory=lambda: {80})
    """Open TCP ports; None: it drops every SYN."""

    def answer(self, frame: bytes) -> list[bytes]:
        packet = Ether(frame)
        if packet.dst not in (text(self.mac), text(EVERYBODY)) and not packet.dst.startswith("33:33"):
            return []
        if ARP in packet:
            return self._arp(packet)
        if ICMPv6ND_NS in packet:
            return self._solicited(packet)
        network = packet[IP] if IP in packet else packet[IPv6]
        if ip_address(network.dst) not in self.has:
            return [self._sent_on(packet)] if self.forwards else []
        return [bytes(each) for each in self._for_itself(packet, network)]

    def _arp(self, packet: Packet) -> list[bytes]:
        asked = packet[ARP]
        if ip_address(asked.pdst) not in self.arp or asked.op != 1:
            return []
        reply = ARP(op=2, hwsrc=text(self.mac), psrc=asked.pdst, hwdst=asked.hwsrc, pdst=asked.psrc)
        return [bytes(Ether(src=text(self.mac), dst=packet.src) / reply)]

    def _solicited(self, packet: Packet) -> list[bytes]:
        target = packet[ICMPv6ND_NS].tgt
        if ip_address(target) not in self.arp:
            return []
        advertisement = ICMPv6ND_NA(tgt=target, S=1, O=1) / ICMPv6NDOptDstLLAddr(lladdr=text(self.mac))
        inner = IPv6(src=target, dst=packet[IPv6].src, hlim=255) / advertisement
        return [bytes(Ether(src=text(self.mac), dst=packet.src) / inner)]

    def _sent_on(self, packet: Packet) -> bytes:
        packet.src, packet.dst = text(self.mac), text(DIRECTOR_MAC)
        return bytes(packet)

    def _for_itself(self, packet: Packet, network: Packet) -> list[Packet]:
        back = Ether(src=text(self.mac), dst=packet.src) / type(network)(src=network.dst, dst=network.src)
        if TCP in packet and self.ports is not None:
            asked = packet[TCP]
            flags = "SA" if asked.dport in self.ports else "RA"
            answer = TCP(sport=asked.dport, dport=asked.sport, flags=flags, ack=asked.seq + 1, seq=9)
            return [back / answer] if asked.flags == "S" else []
        if ICMP in packet and self.pings:
            asked = packet[ICMP]
            return [back / ICMP(type=0, id=asked.id, seq=asked.seq) / asked.payload]
        if ICMPv6EchoRequest in packet and self.pings:
            asked = packet[ICMPv6EchoRequest]
            return [back / ICMPv6EchoReply(id=asked.id, seq=asked.seq, data=asked.data)]
        return []


class Network:
    """A Wire and HostNetwork at once. `sent`: all that the director sent; `refuse`: raised by `open`."""

    def __init__(self, *machines: Machine) -> None:
        self.machines = list(machines)
        self.sent: list[bytes] = []
        self.listening: set[Address] = set()
        self.refuse: OSError | None = None
        self.neighbours: dict[bytes, list[Address]] = {}
        self.drops: dict[str, str] = {}
        self.eth0 = Interface(
            "eth0",
            2,
            DIRECTOR_MAC,
            True,
            tuple(map(ip_interface, ("192.0.2.1/24", "2001:db8::1/64", f"{VIP4}/32", f"{VIP6}/128"))),
        )

        self.others: tuple[Interface, ...] = ()
        self.routers: dict[Address, bytes | None] = {}

    # Wire

    def open(self, on_frame: OnFrame | None = None) -> None:
        if on_frame is None:
            return
        if self.refuse:
            raise self.refuse
        self._on_frame = on_frame

    def close(self) -> None: ...

    def listen(self, addresses: Collection[Address], ident: int, port: int) -> None:
        self.listening = set(addresses)

    def send(self, interface: str, frame: bytes) -> bool:
        self.sent.append(frame)
        for machine in self.machines:
            for answer in machine.answer(frame):
                asyncio.get_running_loop().call_soon(self.hear, answer)
        return True

    def hear(self, frame: bytes) -> None:
        """As if it came in from the cable."""
        self._on_frame("eth0", frame)

    # HostNetwork

    def links(self) -> list[Interface]:
        return [self.eth0, *self.others]

    def dropping(self, interfaces: Collection[str]) -> dict[str, str]:
        return {name: why for name, why in self.drops.items() if name in interfaces}

    def gateways(self) -> dict[Address, bytes | None]:
        return self.routers

    def known_as(self, mac: bytes) -> list[Address]:
        return self.neighbours.get(mac, [])


def backend(address: Address, mac: bytes) -> Machine:
    """As it shall be: it has the VIPs and does not say so."""
    return Machine(mac, arp={address}, has={address, VIP4, VIP6})


def services(**backends: Address) -> Services:
    """One service on port 80 of both VIPs."""
    spec = {
        "listeners": [f"{VIP4}:80/tcp", f"[{VIP6}]:80/tcp"],
        "backends": {name: {"address": str(address)} for name, address in backends.items()},
    }
    return {"web": ServiceSpec.model_validate(spec)}


def neighbour(mac: bytes) -> Route:
    return Route("neighbour", mac, DIRECTOR_MAC, 2, "eth0")
