# SPDX-License-Identifier: Apache-2.0
"""DNS over UDP and TCP, with an answer too large for UDP: nsd and dig. Names come from a record."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import count

from xdpdirector.lab.host import Host
from xdpdirector.lab.servers import Server
from xdpdirector.lab.services.fixtures import Stock
from xdpdirector.lab.services.process import Program
from xdpdirector.lab.services.service_def import BACKEND, Client, Kind, Script
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.model import Address

ZONE = "services.example"
_STRINGS = 20  # of 200 octets, in the large answer
_PATIENT = ("+tries=20", "+time=1")
_ANSWER = re.compile(rf'^"{BACKEND}".*\n', re.MULTILINE)
_SERVER = """\
server:
  server-count: 1
  username: ""
  chroot: ""
  database: ""
  pidfile: ""
  zonesdir: {directory}
  xfrdir: {directory}
  xfrdfile: {directory}/xfrd
  zonelistfile: {directory}/zones
  hide-version: yes
  {addresses}
remote-control:
  control-enable: no
zone:
  name: {zone}
  zonefile: zone
"""
_ZONE = """\
$TTL 60
@ SOA ns postmaster 1 3600 600 86400 60
@ NS ns
ns A {vip4}
ns AAAA {vip6}
who TXT "{name}"
large TXT "{name}" {strings}
"""


def kind(_: Stock) -> Kind:
    ports = count(20000)  # a flow of datagrams is one source port

    def server(host: Host) -> Server:
        directory = host.directory("dns")
        strings = " ".join(f'"{number:0200}"' for number in range(_STRINGS))
        (directory / "zone").write_text(_ZONE.format(name=host.name, vip4=VIP4, vip6=VIP6, strings=strings))
        addresses = (
            VIP4,
            VIP6,
            host.node.ipv4,
            host.node.ipv6,
        )  # so that answers come from the one that was asked
        lines = "\n  ".join(f"ip-address: {address}" for address in addresses)
        configuration = directory / "nsd.conf"
        configuration.write_text(_SERVER.format(directory=directory, zone=ZONE, addresses=lines))
        return Program(host, "dns", ["nsd", "-d", "-c", str(configuration)], tcp=(53,), package="nsd")

    def client(name: str, record: str, *options: str) -> Client:
        def visit(vip: Address) -> Script:
            return Script(("dig", *options, *question(vip, record)), _ANSWER)

        return Client(name, "dig", visit, None)

    def lasting(client: Client, *options: str, pinned: bool = False) -> Client:
        """A line on its standard input is a query, which is repeated without an answer."""

        def stay(vip: Address) -> Script:
            source = ("-b", f"{'::' if vip.version == 6 else '0.0.0.0'}#{next(ports)}") if pinned else ()
            typed = " ".join(question(vip, "who")) + "\n"
            return Script(("dig", *options, *source, "-f", "-"), _ANSWER, question=typed)

        return replace(client, stay=stay)

    return Kind(
        name="dns",
        ports=("53/udp", "53/tcp"),
        check={"type": "dns", "name": f"who.{ZONE}", "query": "TXT", "port": 53},
        server=server,
        clients=(
            lasting(client("DNS, UDP", "who", "+notcp"), "+notcp", *_PATIENT, pinned=True),
            lasting(client("DNS, TCP", "who", "+tcp"), "+tcp", "+keepopen", *_PATIENT),
            client("DNS, truncated", "large", "+bufsize=1232"),
        ),
    )


def question(vip: Address, record: str) -> tuple[str, ...]:
    return (f"@{vip}", f"{record}.{ZONE}", "TXT", "+short")
