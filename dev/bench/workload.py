# SPDX-License-Identifier: Apache-2.0
"""What packets are sent, by the names that stand in tables and in JSON; and how much of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Workload(StrEnum):
    TCP4 = "established IPv4 TCP"
    TCP6 = "established IPv6 TCP"
    UDP4 = "established IPv4 UDP"
    ALONE = "established IPv4 TCP, each run by itself"
    SYN = "SYN of a new flow"
    FLOOD = "SYN flood"
    LOST = "running connections lost in the flood"
    OTHER_ADDRESS = "not for us: other address"
    OTHER_ADDRESS6 = "not for us: other IPv6 address"
    OTHER_PORT = "not for us: other port of a VIP"
    ARP = "not for us: ARP"
    NOTHING = "no work at all"
    LIVE = "packets forwarded"
    CONNECTIONS = "connections"
    UPLOAD = "upload"
    DOWNLOAD = "download"


NOT_FOR_US = (Workload.OTHER_ADDRESS, Workload.OTHER_ADDRESS6, Workload.OTHER_PORT, Workload.ARP)
RUNNING = 10_000  # connections that a flood must not harm


@dataclass(frozen=True)
class Pace:
    """`flows`: powers of two, growing. `burst`: packets of one measurement. `flood`: distinct SYNs, sent in
    `flood_bursts`. `seconds`: of each measurement end to end, 0 to leave these out, and of asking the API.
    `sync_seconds`: in which new connections are opened for connection sync, 0 to leave that out."""

    flows: tuple[int, ...] = (1, 1 << 14, 1 << 17, 1 << 19)
    rounds: int = 15
    burst: int = 1 << 17
    with_udp: bool = True
    flood: int = 1 << 22
    flood_bursts: int = 16
    live_seconds: float = 0.8
    live_rounds: int = 5
    server_seconds: float = 3.0
    server_rounds: int = 3
    flapping_seconds: float = 10.0
    sync_seconds: float = 10.0


CALM = Pace()
QUICK = Pace(
    flows=(1, 1 << 17, 1 << 19),
    rounds=3,
    burst=1 << 16,
    with_udp=False,
    flood=1 << 20,
    flood_bursts=8,
    live_seconds=0.3,
    live_rounds=1,
    server_seconds=0.0,
    server_rounds=0,
    sync_seconds=0.0,
)
