# SPDX-License-Identifier: Apache-2.0
"""A director beside an LVS director, whose datagrams another host of the LAN sends and takes: what arrives by the
multicast group is in the daemon's tables, and what runs here goes out.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

import pytest

from tests.support.lab_director import CHECK, directing
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.topology import VIP4
from xdpdirector.lab.waiting import wait_until
from xdpdirector.sync.ipvs import message
from xdpdirector.sync.ipvs.message import Entry

pytestmark = pytest.mark.root

SYNCID = 9
CLIENT = "198.51.100.7"
SEND = """
import sys
from xdpdirector.model.lvs import LvsSyncSpec
from xdpdirector.sync.ipvs import sockets
opened = sockets.sending(LvsSyncSpec(role="master", interface="eth0"))
for datagram in sys.argv[1:]:
    opened.send(bytes.fromhex(datagram))
"""
LISTEN = """
import time
from xdpdirector.model.lvs import LvsSyncSpec
from xdpdirector.sync.ipvs import sockets
opened = sockets.receiving(LvsSyncSpec(role="backup", interface="eth0"))
print("ready", flush=True)
while True:
    for datagram in sockets.burst(opened, 64)[0]:
        print(datagram.hex(), flush=True)
    time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def lab(lab_factory: Callable[..., Lab]) -> Lab:
    lab = lab_factory(backends=2)
    for host in lab.backends:
        lab.nginx(host.name)
    return lab


@pytest.fixture(scope="module")
def director(lab: Lab) -> Iterator[LabDirector]:
    sync = {"role": "both", "interface": "eth0", "syncid": SYNCID}
    configuration = {**web_configuration(lab.topology.backend_nodes, check=CHECK), "lvs": {"sync": sync}}
    with directing(lab, configuration) as director:
        yield director


def incoming(director: LabDirector) -> dict[str, Any]:
    found: dict[str, Any] = director.client.get("/v1/fleet")["lvs"]["incoming"]
    return found


def test_what_lvs_says_is_in_the_table(lab: Lab, director: LabDirector) -> None:
    [node, _] = lab.topology.backend_nodes
    vip, server = VIP4.packed, node.ipv4.packed
    good = Entry(6, ip_address(CLIENT).packed, 4711, vip, 80, server, 80, 0x83, 1, 900)
    bad = good._replace(port=81, backend_port=81)
    texts = [each.hex() for each in message.written([good, bad], SYNCID)]
    texts += [each.hex() for each in message.written([good], SYNCID + 1)]

    def is_there() -> bool:
        lab.client.python(SEND, *texts, "00")
        return bool(director.client.get("/v1/connections", {"client": CLIENT})["items"])

    wait_until(is_there, "the connection of LVS")
    wait_until(lambda: incoming(director)["malformed"], "the malformed datagram")
    [connection] = director.client.get("/v1/connections", {"client": CLIENT})["items"]
    came = incoming(director)
    [rejected] = came["rejected"]
    assert (connection["client_port"], connection["state"]) == (4711, "established")
    assert (came["why"], came["connections"]["inserted"]) == ("", 1)
    assert came["foreign"] >= 1
    assert (rejected["reason"], rejected["example"]) == (
        "no_service",
        f"no service listens on {VIP4}:81/tcp",
    )


def test_what_runs_here_goes_out(lab: Lab, director: LabDirector) -> None:
    listening = lab.backends[1].popen(sys.executable, "-c", LISTEN, role="lvs", stdout=subprocess.PIPE)
    try:
        assert listening.stdout
        assert listening.stdout.readline() == "ready\n"
        lab.client.run("curl", "--silent", f"http://{VIP4}/")
        seen: list[Entry] = []
        for line in listening.stdout:
            said = message.parse(bytes.fromhex(line))
            assert (said.syncid, said.malformed) == (SYNCID, "")
            seen += [each for each in said.entries if each.vip == VIP4.packed and each.client_port != 4711]
            if seen:
                break
    finally:
        listening.kill()
        listening.wait()
    assert (seen[0].protocol, seen[0].port, seen[0].method) == (6, 80, message.Method.DROUTE)
