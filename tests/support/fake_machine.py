# SPDX-License-Identifier: Apache-2.0
"""A machine made up for the doctor, whole in every respect until a test breaks something, and an instance on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from xdpdirector.doctor.finding import Finding, Level
from xdpdirector.doctor.machine import Kernel
from xdpdirector.doctor.nic import Card
from xdpdirector.doctor.run import FAMILIES, examine
from xdpdirector.doctor.subject import Subject
from xdpdirector.model import Address, Configuration
from xdpdirector.net.neighbour_requests import Room
from xdpdirector.paths import InstancePaths

PATHS = InstancePaths("host")
CONFIGURATION = Configuration.model_validate(
    {
        "interfaces": ["eth0"],
        "services": {
            "web": {
                "listeners": ["192.0.2.10:80/tcp", "[2001:db8::10]:80/tcp"],
                "check": {"type": "tcp"},
                "backends": {"web1": {"address": "192.0.2.21"}, "web2": {"address": "192.0.2.22"}},
            }
        },
    }
)
CARD = Card(
    "eth0",
    up=True,
    carrier=True,
    mtu=1500,
    driver="ixgbe",
    features={"rx-lro": False, "rx-gro-hw": False, "rx-vlan-hw-parse": False},
    queues=(4, 8),
    transmit_queues=8,
    mode="native",
    program_id=42,
    program="director",
)
PID = 4711
FILES = {
    "/usr/include/linux/bpf.h": "",
    "/usr/lib/python3/dist-packages/bcc/libbcc.py": "",
    "/usr/lib/python3/dist-packages/bcc/version.py": "__version__ = '0.26.0'",
    "/proc/sys/net/core/bpf_jit_enable": "1",
    "/proc/sys/net/core/bpf_jit_harden": "0",
    "/proc/sys/kernel/bpf_stats_enabled": "0",
    "/sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc",
    "/proc/sys/net/ipv4/ip_forward": "0",
    "/proc/meminfo": "MemTotal: 9000000 kB\nMemAvailable:   4194304 kB",
    "/proc/self/limits": "Max locked memory         65536                65536                bytes",
    "/proc/self/status": "CapEff:\t000001ffffffffff",
    f"/proc/{PID}": "",
    f"/proc/{PID}/status": "CapEff:\t0000000000003000",
    str(PATHS.lock): str(PID),
    str(PATHS.pins): "",
    str(PATHS.state): "SQLite format 3\0...",
    "/run/systemd/system": "",
    "/etc/systemd/system/multi-user.target.wants/xdpdirector@host.service": "",
    "/sys/fs/cgroup/system.slice/chrony.service": "",
}
HEALTHY = {
    "ready": {"ready": True, "problems": [], "warnings": [], "revision": 7},
    "statistics": {
        "maps": {
            "backends": {"entries": 2, "room": 4096},
            "connections": {"entries": 9000, "room": 262144},
        },
        "attachments": [{"interface": "eth0", "mode": "native", "program_id": 42, "transmit_errors": 0}],
        "drift_repaired": 0,
        "verdicts": {"forward_new": 9, "pass_directed": 0},
    },
    "lan": {
        "probing": True,
        "findings": [],
        "vips": {"192.0.2.10": ["eth0"]},
        "neighbours": [
            {
                "address": "192.0.2.21",
                "backends": ["web/web1"],
                "state": "neighbour",
                "mac": "02:00:00:00:00:15",
                "interface": "eth0",
                "why": "",
                "mac_changes": 0,
                "mac_changed_at": None,
            }
        ],
        "presence": [],
    },
    "fleet": {"name": "", "version": "", "vips": [], "fleet": "", "waiting": "", "peers": []},
}
PEER = {
    "address": "192.0.2.2:8651",
    "name": "other",
    "version": "0.2.0",
    "clock": 0.01,
    "vips": [],
    "outgoing": {"state": "synced", "why": "", "records": 5, "lag": 0.02},
    "incoming": {"state": "synced", "why": "", "records": 5, "lag": None},
}
"""In `peers` of the fleet: nothing is wrong with it."""


class FakeMachine:
    """`files` by path; a value that is an exception is raised when the file is read or looked for."""

    def __init__(self) -> None:
        self.files: dict[str, str | OSError] = dict(FILES)
        self.card: Card | None = CARD
        self.others: tuple[Card, ...] = ()
        self.tables = {4: Room(10, 1024), 6: Room(10, 1024)}
        self.kernel = Kernel("6.12.1", (6, 12))
        self.processors = 4
        self.mtu = 1500
        self.free_bytes = 10 << 30
        self.mounted = True
        self.instances: dict[int, str] = {}
        self.bcc: list[Path] | None = [Path("/usr/lib/python3/dist-packages/bcc")]

    def text(self, path: Path) -> str:
        try:
            content = self.files[str(path)]
        except KeyError:
            raise FileNotFoundError(2, "No such file", str(path)) from None
        if isinstance(content, OSError):
            raise content
        return content.strip()

    def begin(self, path: Path) -> bytes:
        return self.text(path).encode()[:16]

    def foreign_text(self, path: Path) -> str:
        return self.text(path)

    def exists(self, path: Path) -> bool:
        if isinstance(content := self.files.get(str(path)), PermissionError):
            raise content
        return str(path) in self.files

    def free(self, path: Path) -> int:
        return self.free_bytes

    def bpffs_is_mounted(self) -> bool:
        return self.mounted

    def instance_of(self, program_id: int) -> str | None:
        return self.instances.get(program_id)

    def package(self, name: str) -> list[Path] | None:
        return self.bcc

    def neighbour_tables(self) -> dict[int, Room]:
        return self.tables

    def mtu_to(self, address: Address) -> int:
        return self.mtu

    def cards(self) -> dict[str, Card]:
        return {card.name: card for card in (self.card, *self.others) if card}


class FakeHost:
    """An instance on a machine; `findings` examines it as it is now."""

    def __init__(self) -> None:
        self.machine = FakeMachine()
        self.subject = Subject(
            PATHS, Path("/etc/xdpdirector/director.yaml"), self.machine, CONFIGURATION, documents=HEALTHY
        )

    def change(self, **fields: Any) -> None:
        self.subject = replace(self.subject, **fields)

    def silent(self) -> None:
        """No daemon answers."""
        self.change(documents={}, daemon_error="No daemon answers on /run/xdpdirector/host/api.sock")

    def answers(self, document: str, **fields: Any) -> None:
        """The daemon says something else there."""
        self.change(documents={**self.subject.documents, document: {**HEALTHY[document], **fields}})

    def findings(self, *topics: str) -> list[Finding]:
        families: Mapping[str, Any] = {name: FAMILIES[name] for name in topics or FAMILIES}
        return examine(self.subject, families)

    def complaints(self, *topics: str) -> list[Finding]:
        """All that is not in order, notes among them."""
        return [each for each in self.findings(*topics) if each.level is not Level.OK]
