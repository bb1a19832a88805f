# SPDX-License-Identifier: Apache-2.0
"""The sync protocol of the kernel's IPVS: what a real master sends is what we read, and a real backup takes what we
write. With `-rP` the datagrams are shown, of which tests/unit/sync/ipvs_kernel.json is made.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from xdpdirector.lab.host import run
from xdpdirector.sync.ipvs import message
from xdpdirector.sync.ipvs.message import Entry, Flags

LVS, CLIENT = "ipvs-sync-lvs", "ipvs-sync-client"
VIP, VIP6, CLIENT4, CLIENT6 = "192.0.2.10", "2001:db8::10", "192.0.2.100", "2001:db8::100"
SERVER, SERVER6 = "192.0.2.21", "2001:db8::21"
SYNCID = 7
WITHIN = 60.0  # seconds; a master keeps a datagram for two at most

LISTEN = """
import json, sys, time
from xdpdirector.model.lvs import LvsSyncSpec
from xdpdirector.sync.ipvs import sockets
opened = sockets.receiving(LvsSyncSpec(role="backup", interface="sync0", syncid=7))
print("ready", flush=True)
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    for datagram in sockets.burst(opened, 64)[0]:
        print(datagram.hex(), flush=True)
    time.sleep(0.05)
"""
SEND = """
import sys
from xdpdirector.model.lvs import LvsSyncSpec
from xdpdirector.sync.ipvs import sockets
opened = sockets.sending(LvsSyncSpec(role="master", interface="sync0", syncid=7))
for line in sys.stdin:
    opened.send(bytes.fromhex(line))
"""
SERVE = """
import selectors, socket
chooser = selectors.DefaultSelector()
for family in (socket.AF_INET, socket.AF_INET6):
    for kind, port in ((socket.SOCK_STREAM, 80), (socket.SOCK_STREAM, 443), (socket.SOCK_DGRAM, 53)):
        made = socket.socket(family, kind)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(("", port))
        if kind == socket.SOCK_STREAM:
            made.listen()
        chooser.register(made, selectors.EVENT_READ)
print("ready", flush=True)
kept = []
while True:
    for key, _ in chooser.select():
        if key.fileobj.type == socket.SOCK_STREAM and key.fileobj not in kept and key.data is None:
            made = key.fileobj.accept()[0]
            kept.append(made)
            chooser.register(made, selectors.EVENT_READ, "connection")
        elif not key.fileobj.recv(2048) and key.data:
            chooser.unregister(key.fileobj)
"""
TALK = """
import socket, sys, time
kept = []
for family, address, kind, port in (
    (socket.AF_INET, "192.0.2.10", socket.SOCK_STREAM, 80),
    (socket.AF_INET, "192.0.2.10", socket.SOCK_STREAM, 443),
    (socket.AF_INET, "192.0.2.10", socket.SOCK_DGRAM, 53),
    (socket.AF_INET6, "2001:db8::10", socket.SOCK_STREAM, 80),
):
    made = socket.socket(family, kind)
    made.settimeout(30)
    made.connect((address, port))
    kept.append(made)
    for _ in range(6):
        made.send(b"x")
        time.sleep(0.2)
print("ready", flush=True)
sys.stdin.read()
"""


def inside(namespace: str, *words: str) -> str:
    return run("ip", "netns", "exec", namespace, *words).stdout


def python(namespace: str, text: str, *words: str) -> subprocess.Popen[str]:
    line = ["ip", "netns", "exec", namespace, sys.executable, "-c", text, *words]
    return subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout
    assert process.stdout.readline() == "ready\n"


@pytest.fixture
def network() -> Iterator[None]:
    """An LVS director that is its own real server, and a client, joined by a cable."""
    run("modprobe", "ip_vs")
    for name in (LVS, CLIENT):
        run("ip", "netns", "add", name)
        inside(name, "ip", "link", "set", "lo", "up")
    try:
        run(
            "ip",
            "link",
            "add",
            "sync0",
            "netns",
            LVS,
            "type",
            "veth",
            "peer",
            "name",
            "sync0",
            "netns",
            CLIENT,
        )
        for name, addresses in ((LVS, (VIP, SERVER, VIP6, SERVER6)), (CLIENT, (CLIENT4, CLIENT6))):
            for address in addresses:
                size = 64 if ":" in address else 24
                words = ["nodad"] if ":" in address else []
                inside(name, "ip", "address", "add", f"{address}/{size}", "dev", "sync0", *words)
            inside(name, "ip", "link", "set", "sync0", "up")
        yield
    finally:
        for name in (LVS, CLIENT):
            run("ip", "netns", "delete", name)


def services() -> None:
    rules = [
        f"-A -t {VIP}:80 -s wlc",
        f"-a -t {VIP}:80 -r {SERVER} -g",
        f"-A -t {VIP}:443 -s rr -p 600",
        f"-a -t {VIP}:443 -r {SERVER} -g",
        f"-A -u {VIP}:53 -s rr",
        f"-a -u {VIP}:53 -r {SERVER} -g",
        f"-A -t [{VIP6}]:80 -s rr",
        f"-a -t [{VIP6}]:80 -r [{SERVER6}]:80 -g",
    ]
    for rule in rules:
        inside(LVS, "ipvsadm", *rule.split())


def described(entry: Entry) -> tuple[int, str, str, int, str, bool, int]:
    vip, backend, client = (str(ip_address(each)) for each in (entry.vip, entry.backend, entry.client))
    return entry.protocol, client, vip, entry.port, backend, entry.is_template, entry.state


def test_what_a_real_master_sends(network: None) -> None:
    services()
    serving = python(LVS, SERVE)
    ready(serving)
    listening = python(CLIENT, LISTEN, str(WITHIN))
    ready(listening)
    inside(LVS, "ipvsadm", "--start-daemon", "master", "--mcast-interface", "sync0", "--syncid", str(SYNCID))
    talking = python(CLIENT, TALK)
    expected = {
        (6, CLIENT4, VIP, 80, SERVER, False, 1),
        (6, CLIENT4, VIP, 443, SERVER, False, 1),
        (6, CLIENT4, VIP, 443, SERVER, True, 1),
        (17, CLIENT4, VIP, 53, SERVER, False, 0),
        (6, CLIENT6, VIP6, 80, SERVER6, False, 1),
    }
    seen, datagrams = set(), []
    try:
        assert listening.stdout
        for line in listening.stdout:
            datagrams.append(line.strip())
            said = message.parse(bytes.fromhex(line))
            assert (said.syncid, said.version, said.malformed, said.skipped) == (SYNCID, 1, "", 0)
            seen |= {described(entry) for entry in said.entries}
            if expected <= seen:
                break
    finally:
        for process in (talking, listening, serving):
            process.kill()
            process.communicate()
    print(json.dumps(datagrams, indent=1))
    assert expected <= seen
    for datagram in datagrams:  # as we write it, it is the same to the octet
        octets = bytes.fromhex(datagram)
        assert list(message.written(message.parse(octets).entries, SYNCID)) == [octets]


def entries() -> list[Entry]:
    def packed(text: str) -> bytes:
        return ip_address(text).packed

    runs = 3 | Flags.NOOUTPUT
    return [
        Entry(6, packed(CLIENT4), 40001, packed(VIP), 80, packed(SERVER), 80, runs, 1, 900),
        Entry(6, packed(CLIENT4), 40002, packed(VIP), 80, packed(SERVER), 80, runs | Flags.INACTIVE, 4, 120),
        Entry(6, packed(CLIENT6), 40003, packed(VIP6), 80, packed(SERVER6), 80, runs, 1, 900),
        Entry(17, packed(CLIENT4), 40004, packed(VIP), 53, packed(SERVER), 53, runs | Flags.INACTIVE, 0, 300),
        Entry(6, packed(CLIENT4), 0, packed(VIP), 443, packed(SERVER), 443, runs | Flags.TEMPLATE, 1, 600),
    ]


@pytest.mark.parametrize("version", [0, 1])
def test_a_real_backup_takes_what_we_send(network: None, version: int) -> None:
    services()
    inside(LVS, "ipvsadm", "--start-daemon", "backup", "--mcast-interface", "sync0", "--syncid", str(SYNCID))
    datagrams = "".join(f"{each.hex()}\n" for each in message.written(entries(), SYNCID, version))
    wanted = {
        f"TCP ESTABLISHED {CLIENT4}:40001 {VIP}:80 {SERVER}:80",
        f"TCP FIN_WAIT {CLIENT4}:40002 {VIP}:80 {SERVER}:80",
        f"UDP UDP {CLIENT4}:40004 {VIP}:53 {SERVER}:53",
    }
    templates = {f"TCP {CLIENT4}:0 {VIP}:443 {SERVER}:443"}
    if version:
        wanted.add(f"TCP ESTABLISHED [{CLIENT6}]:40003 [{VIP6}]:80 [{SERVER6}]:80")
    seen: set[str] = set()
    shapes: set[str] = set()
    end = time.monotonic() + WITHIN
    while time.monotonic() < end and not (wanted <= seen and templates <= shapes):
        sending = python(CLIENT, SEND)
        sending.communicate(datagrams)
        assert sending.returncode == 0
        rows = [line.split() for line in inside(LVS, "ipvsadm", "-L", "-n", "-c").splitlines()[2:]]
        seen = {" ".join((row[0], row[2], *row[3:6])) for row in rows if len(row) >= 6}
        shapes = {" ".join((row[0], *row[3:6])) for row in rows if len(row) >= 6}
    assert wanted <= seen
    assert templates <= shapes
