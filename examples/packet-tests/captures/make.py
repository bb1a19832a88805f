# SPDX-License-Identifier: Apache-2.0
"""Writes web.pcap: nine visits to a web server, one to a port that nobody has, and a beaten packet. Needs scapy.

python3 captures/make.py
"""

from pathlib import Path

from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw
from scapy.utils import wrpcap

VIP = "192.0.2.10"
LAN = {"src": "02:00:00:00:00:64", "dst": "02:00:00:00:00:01"}


def packet(client: str, port: int, number: int, flags: str, *, to: int = 80, data: bytes = b"") -> Packet:
    """The client's half only: that is all a director sees."""
    ack = 0 if flags == "S" else 5001
    tcp = TCP(sport=port, dport=to, seq=number, ack=ack, flags=flags)
    return Ether(**LAN) / IP(src=client, dst=VIP) / tcp / Raw(data)


def visit(client: str, port: int) -> list[Packet]:
    request = b"GET / HTTP/1.1\r\nHost: www.example.org\r\n\r\n"
    return [
        packet(client, port, 1000, "S"),
        packet(client, port, 1001, "A"),
        packet(client, port, 1001, "PA", data=request),
        packet(client, port, 1001 + len(request), "FA"),
    ]


def main() -> None:
    packets = [each for number in range(9) for each in visit(f"203.0.113.{number % 3 + 1}", 40000 + number)]
    packets.append(packet("203.0.113.9", 41000, 1000, "S", to=8080))
    beaten = packet("203.0.113.9", 41001, 1000, "S")
    beaten[TCP].dataofs = 15
    packets.append(beaten)
    for number, each in enumerate(packets):
        each.time = 1_700_000_000 + number / 100
    wrpcap(str(Path(__file__).with_name("web.pcap")), packets)


if __name__ == "__main__":
    main()
