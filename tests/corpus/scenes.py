# SPDX-License-Identifier: Apache-2.0
"""What happens in each capture of the corpus: which services stand there, and what clients do.

A row of `SCENES` is a capture. Knows nothing of capturing and replaying.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from tests.support.far_client import far_client
from tests.support.lab_client import datagrams, echoed, socket_on
from xdpdirector.lab import Lab
from xdpdirector.lab.host import Host
from xdpdirector.lab.servers import Echo, Server
from xdpdirector.lab.services import dns, ftp, ldap, mailbox, mariadb, postgres, smtp, ssh, web
from xdpdirector.lab.services.environment import Stage
from xdpdirector.lab.services.expect import Dialogue
from xdpdirector.lab.services.fixtures import Stock
from xdpdirector.lab.services.service_def import Client, Kind, Script
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.model import Address

CLIENTS, TIMES = 3, 3
ECHO = 7000
FLOOD = 300
SCANNED = range(1, 201)
# Connects to each port and looks at nothing else: VIP FIRST LAST.
_SCAN = """
import socket, sys
for port in range(int(sys.argv[2]), int(sys.argv[3])):
    with socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET) as one:
        one.settimeout(2)
        one.connect_ex((sys.argv[1], port))
"""
# Asks for /who with a destination option, a hop-by-hop option, and both, in every packet: VIP, OPTIONS as JSON.
_EXTENDED = """
import json, socket, sys
PAD = bytes([0, 0, 1, 4, 0, 0, 0, 0])  # next header, length, PadN of four (RFC 8200, 4.2)
for names in json.loads(sys.argv[2]):
    with socket.socket(socket.AF_INET6) as one:
        for name in names:
            one.setsockopt(socket.IPPROTO_IPV6, getattr(socket, name), PAD)
        one.settimeout(5)
        one.connect((sys.argv[1], 80))
        one.sendall(b"GET /who HTTP/1.0\\r\\n\\r\\n")
        while data := one.recv(4096):
            sys.stdout.write(data.decode())
"""


@dataclass(frozen=True)
class Scene:
    """`makers` of services; `play` is what clients do on the stage. `clients`: only those of these names;
    `alone`: as if the service had no others, so that it needs no persistence. `note` says what is special.
    """

    name: str
    makers: tuple[Callable[[Stock], Kind], ...]
    play: Callable[[Stage, Scene], None]
    clients: tuple[str, ...] = ()
    scheduler: str = "wlc"
    alone: bool = False
    note: str = ""

    def kinds(self, stock: Stock) -> list[Kind]:
        kinds = [make(stock) for make in self.makers]
        if not self.alone:
            return kinds
        return [
            replace(kind, clients=tuple(one for one in kind.clients if one.name in self.clients))
            for kind in kinds
        ]

    def chosen(self, stage: Stage) -> list[Client]:
        return [
            one
            for kind in stage.kinds
            for one in kind.clients
            if not self.clients or one.name in self.clients
        ]


def _sessions(stage: Stage, scene: Scene) -> None:
    """Short sessions of several clients with both VIPs, and one that goes on meanwhile."""
    for _ in range(CLIENTS):
        with stage.another_client():
            for client in scene.chosen(stage):
                for vip in (VIP4, VIP6):
                    _session(stage, client, vip)


def _session(stage: Stage, client: Client, vip: Address) -> None:
    with Dialogue(stage.lab.client, client.visit(vip), "visit") as session:
        session.ask()
        session.finish()


def _lasting(stage: Stage, scene: Scene) -> None:
    _sessions(stage, scene)
    for client in scene.chosen(stage):
        if client.stay:
            with Dialogue(stage.lab.client, client.stay(VIP6)) as session:
                for _ in range(TIMES):
                    session.ask()
                session.finish()


def _large_datagrams(stage: Stage, _: Scene) -> None:
    for vip in (VIP4, VIP6):
        for size in (1473, 4000, 9000):
            with datagrams(stage.lab.client, vip, ECHO) as opened:
                echoed(opened, bytes(size))
                echoed(opened, b"small")


def _narrow_path(stage: Stage, _: Scene) -> None:
    """Downloads by a client whose router sends ICMP errors to the VIP."""
    far = far_client(stage.lab)
    for vip in ("192.0.2.10", "[2001:db8::10]"):
        url = f"http://{vip}/long"
        far.run(
            "curl",
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--range",
            "0-150000",
            "-o",
            "/dev/null",
            url,
        )


def _flood(stage: Stage, scene: Scene) -> None:
    """Beside a session that goes on."""
    (client,) = scene.chosen(stage)
    with Dialogue(stage.lab.client, client.visit(VIP4)) as before:
        before.ask()
        before.finish()
    page = Script(
        ("curl", "--silent", "--show-error", "--no-buffer", "--range", "0-250000", f"http://{VIP4}/long"),
        re.compile(r" (?P<backend>backend\d)\n"),
    )
    with Dialogue(stage.lab.client, page) as session:
        session.ask()
        _send(stage.lab.client, _syns(stage.lab))
        session.ask()
        session.finish()


def _syns(lab: Lab) -> list[bytes]:
    """From addresses that nobody has, to both VIPs."""
    random = Random(5)
    here, there = lab.client.node.mac(), lab.director_host.node.mac()
    frames = []
    for number in range(FLOOD):
        syn = TCP(sport=random.randrange(1024, 65536), dport=80, seq=random.randrange(1 << 32), flags="S")
        packet = (
            IPv6(src=f"2001:db8:f::{number:x}", dst=str(VIP6))
            if number % 3 == 0
            else IP(src=f"198.51.100.{number % 250 + 1}", dst=str(VIP4))
        )
        frames.append(bytes(Ether(src=here, dst=there) / packet / syn))
    return frames


def _send(host: Host, frames: Sequence[bytes]) -> None:
    with socket_on(host, socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(("eth0", 0))
        for frame in frames:
            raw.send(frame)


def _scan(stage: Stage, _: Scene) -> None:
    for vip in (VIP4, VIP6):
        stage.lab.client.python(_SCAN, str(vip), str(SCANNED.start), str(SCANNED.stop), timeout=60)


def _extension_headers(stage: Stage, _: Scene) -> None:
    options = [["IPV6_DSTOPTS"], ["IPV6_HOPOPTS"], ["IPV6_HOPOPTS", "IPV6_DSTOPTS"]]
    for _number in range(CLIENTS):
        with stage.another_client():
            stage.lab.client.python(_EXTENDED, str(VIP6), json.dumps(options))


def _echo(_: Stock) -> Kind:
    def server(host: Host) -> Server:
        return Echo(host, ECHO)

    check = {"type": "udp", "port": ECHO, "send": "well?", "expect": "well?"}
    return Kind("echo", (f"{ECHO}/udp",), check, server, ())


SCENES = {
    scene.name: scene
    for scene in (
        Scene("http", (web.kind,), _sessions, ("HTTP",), alone=True),
        Scene("https", (web.kind,), _lasting, ("HTTP", "HTTPS"), note="HTTP too: persistence over two ports"),
        Scene("http2", (web.kind,), _sessions, ("HTTP/2",), "mh", alone=True),
        Scene("smtp", (smtp.kind,), _lasting),
        Scene("pop3", (mailbox.kind,), _lasting, ("POP3, TLS",)),
        Scene("imap", (mailbox.kind,), _lasting, ("IMAP, TLS",), "mh", alone=True),
        Scene("ftp-passive", (ftp.kind,), _sessions, ("FTP, passive",)),
        Scene("ftp-active", (ftp.kind,), _sessions, ("FTP, active",)),
        Scene("ldap", (ldap.kind,), _lasting, scheduler="rr"),
        Scene("postgres", (postgres.kind,), _lasting),
        Scene("mariadb", (mariadb.kind,), _lasting, scheduler="rr"),
        Scene("dns", (dns.kind,), _sessions, note="UDP, TCP, and answers too large for UDP"),
        Scene("ssh", (ssh.kind,), _lasting, scheduler="sh"),
        Scene("fragmented-udp", (_echo,), _large_datagrams),
        Scene(
            "path-mtu", (web.kind,), _narrow_path, note="a router's ICMP errors, of both families", alone=True
        ),
        Scene(
            "syn-flood", (web.kind,), _flood, ("HTTP",), note="SYNs made with scapy, beside curl", alone=True
        ),
        Scene("port-scan", (web.kind,), _scan, alone=True),
        Scene("ipv6-extension-headers", (web.kind,), _extension_headers, scheduler="mh", alone=True),
    )
}
