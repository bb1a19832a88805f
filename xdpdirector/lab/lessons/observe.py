# SPDX-License-Identifier: Apache-2.0
"""Looks at a lab as it is now: addresses, ARP, answers to a client, the director's API. Changes nothing."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from xdpdirector.client import Client
from xdpdirector.lab.configuration import SERVICE
from xdpdirector.lab.host import Host
from xdpdirector.lab.lab import Lab
from xdpdirector.lab.topology import VIP4

REQUESTS = 24
# Asks once, and prints the MAC address of everyone who answers.
_ARP = """
import socket, sys, time
own, vip = (socket.inet_aton(word) for word in sys.argv[1:])
asking = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
asking.bind(("eth0", 0))
mac = asking.getsockname()[4]
head = b"\\xff" * 6 + mac + bytes.fromhex("0806000108000604")
asking.send(head + b"\\0\\1" + mac + own + bytes(6) + vip)
end = time.monotonic() + 0.5
while (left := end - time.monotonic()) > 0:
    asking.settimeout(left)
    try:
        frame = asking.recv(64)
    except TimeoutError:
        break
    if frame[20:22] == b"\\0\\2" and frame[28:32] == vip:
        print(frame[22:28].hex(":"))
"""


def arp_answers(lab: Lab, vip: object = VIP4) -> set[str]:
    """The hosts whose MAC addresses answer a client's ARP request for the VIP."""
    macs = set(lab.client.python(_ARP, str(lab.client.node.ipv4), str(vip)).split())
    return {node.name for node in lab.topology.hosts if node.mac() in macs}


def addresses(host: Host, interface: str) -> set[str]:
    """With their prefix lengths."""
    shown = json.loads(host.run("ip", "-json", "address", "show", "dev", interface).stdout)
    return {f"{each['local']}/{each['prefixlen']}" for link in shown for each in link["addr_info"]}


def answers(lab: Lab, target: str = f"{VIP4}", count: int = REQUESTS) -> list[str]:
    """Who answered so many requests of the client, each of a connection of its own; fewer if one failed."""
    url = f"http://{target}/who?[1-{count}]"
    line = ("curl", "--silent", "--fail", "--fail-early", "--max-time", "2", "-H", "Connection: close")
    return lab.client.run(
        *line, url.replace("://[", "://\\[").replace("]/", "\\]/"), check=False
    ).stdout.split()


def all_answered(lab: Lab, vip: object = VIP4, by: Collection[str] = ()) -> bool:
    """Whether all requests of the client were answered, by all of those backends and no other (none: whoever)."""
    found = answers(lab, f"[{vip}]" if ":" in str(vip) else str(vip))
    return len(found) == REQUESTS and {*found} == {*(by or found)}


def api(lab: Lab, number: int = 1) -> Client:
    """Of the director with that number."""
    paths = lab.topology.instances[number - 1]
    return Client(paths.socket, instance=paths.name)


def service(lab: Lab, name: str = SERVICE) -> Any:
    return api(lab).get(f"/v1/services/{name}")


def backend(lab: Lab, name: str, of: str = SERVICE) -> Any:
    return api(lab).get(f"/v1/services/{of}/backends/{name}")


# Five datagrams of one socket, one after the other: who answers each.
_DATAGRAMS = """
import socket, sys
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.settimeout(2)
asking.connect((sys.argv[1], int(sys.argv[2])))
for _ in range(5):
    asking.send(b"who")
    print(asking.recv(100).split()[0].decode(), flush=True)
"""


def datagrams(lab: Lab, port: int) -> list[str]:
    """The backends that answered five datagrams of one socket of the client; LabError if one got no answer."""
    return lab.client.python(_DATAGRAMS, str(VIP4), str(port)).split()


def running(lab: Lab, role: str) -> int:
    """How many of the processes that the lab started in roles of that name still run."""
    return sum(each.process.alive for each in lab.record.started() if each.role.startswith(role))


def room(lab: Lab, name: str) -> int:
    """How much the director's map of that name can hold."""
    return next(int(each["room"]) for each in api(lab).get("/v1/dataplane")["maps"] if each["name"] == name)
