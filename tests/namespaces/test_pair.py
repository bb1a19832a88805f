# SPDX-License-Identifier: Apache-2.0
"""Two directors that have each other's connections: what runs through one goes on through the other."""

from __future__ import annotations

import re
import resource
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.lab_client import Conversation
from xdpdirector.ha.keepalived import Vrrp, render
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.host import Host
from xdpdirector.lab.pair.keepalived import Keepalived
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.lab.waiting import wait_until

pytestmark = pytest.mark.root

PORT = 8651
CONNECTIONS = 40
SOON = 60.0  # seconds: for what takes one on a quiet machine


@pytest.fixture(scope="module")
def lab(lab_factory: Callable[..., Lab]) -> Lab:
    lab = lab_factory(backends=3, directors=2)
    for host in lab.backends:
        lab.nginx(host.name, big_megabytes=8)
    return lab


def configuration(lab: Lab, number: int, scheduler: str) -> dict[str, Any]:
    nodes = lab.topology.director_nodes
    mine, other = nodes[number - 1], nodes[2 - number]
    return web_configuration(lab.topology.backend_nodes, scheduler=scheduler) | {
        "vips": "external",
        "sync": {
            "name": mine.name,
            "listen": f"{mine.ipv4}:{PORT}",
            "peers": [f"{other.ipv4}:{PORT}"],
            "insecure": True,
            "patience": 0,
        },
    }


def carry_vips(taker: Host, former: Host | None = None) -> None:
    """As VRRP does it: the addresses go over, and the neighbours are told."""
    for host, verb in ((former, "del"), (taker, "add")):
        if host:
            host.run("ip", "addr", verb, f"{VIP4}/32", "dev", "eth0")
            host.run("ip", "addr", verb, f"{VIP6}/128", "dev", "eth0", *(["nodad"] if verb == "add" else []))


def seen_by(lab: Lab, taker: Host) -> None:
    """The client's next packets for the VIPs go to this director."""
    for vip in (VIP4, VIP6):
        lab.client.run("ip", "neigh", "replace", str(vip), "lladdr", taker.node.mac(), "dev", "eth0")


@pytest.fixture(params=["wlc", "mh"])
def pair(lab: Lab, request: pytest.FixtureRequest) -> Iterator[list[LabDirector]]:
    directors = []
    carry_vips(lab.director_hosts[0])
    try:
        for number in (1, 2):
            directors.append(lab.director(configuration(lab, number, request.param), number=number))
        for director in directors:
            director.wait_serving()
            wait_until(lambda director=director: synced(director), "the peers are synced", 60)
        seen_by(lab, lab.director_hosts[0])
        yield directors
    finally:
        for director, instance in zip(directors, lab.topology.instances, strict=False):
            director.stop()
            lab.host(director.host.node.name).run(*command(instance.name, "unload"))
        for host in lab.director_hosts:
            for address in (f"{VIP4}/32", f"{VIP6}/128"):
                host.run("ip", "addr", "del", address, "dev", "eth0", check=False)


def command(instance: str, *words: str) -> list[str]:
    return [sys.executable, "-m", "xdpdirector", "--instance", instance, *words]


def synced(director: LabDirector) -> bool:
    [peer] = director.client.get("/v1/fleet")["peers"]
    return peer["outgoing"]["state"] == peer["incoming"]["state"] == "synced"


def stored(director: LabDirector) -> int:
    """How many of these connections a director keeps in its table: with a ring none, while nothing changes."""
    return CONNECTIONS if director.client.get("/v1/services/web")["scheduler"] == "wlc" else 0


def counted(director: LabDirector) -> int:
    backends = director.client.get("/v1/services/web")["backends"]
    return sum(each["connections"]["active"] for each in backends)


def test_connections_go_on_through_the_other_director(lab: Lab, pair: list[LabDirector]) -> None:
    first, second = pair
    talks = [Conversation(lab.client, vip) for _ in range(CONNECTIONS // 2) for vip in (VIP4, VIP6)]
    try:
        owners = [each.backend for each in talks]
        assert len(set(owners)) == 3
        wait_until(lambda: counted(second) >= stored(first), "the standby knows each of them", SOON)
        first.kill()
        lab.director_hosts[0].run("ip", "link", "set", "eth0", "down")
        carry_vips(lab.director_hosts[1])
        seen_by(lab, lab.director_hosts[1])

        assert [each.who() for each in talks] == owners
    finally:
        for each in talks:
            each.close()
        lab.director_hosts[0].run("ip", "link", "set", "eth0", "up")
        lab.director_hosts[0].run(
            "ip", "addr", "add", str(lab.topology.director.interface6()), "dev", "eth0", "nodad", check=False
        )


@pytest.mark.parametrize("families", [(4, 6), (4,), (6,)])
@pytest.mark.parametrize("unicast", [True, False])
def test_keepalived_takes_its_configuration(lab: Lab, families: tuple[int, ...], unicast: bool) -> None:
    first, second = lab.topology.director_nodes
    vrrp = Vrrp(
        vips=[vip for vip in (VIP4, VIP6) if vip.version in families],
        interface="eth0",
        ready="/bin/true",
        own=(first.ipv4, first.ipv6) if unicast else (),
        peers=(second.ipv4, second.ipv6) if unicast else (),
    )
    file = lab.director_host.directory("keepalived") / "tried.conf"
    file.write_text(render(vrrp))
    checked = lab.director_host.run("keepalived", "--config-test", f"--use-file={file}")
    assert checked.stderr == ""


def test_keepalived_may_take_its_time(lab: Lab) -> None:
    """The kernel kills a process of real-time priority that runs for longer than its limit: 10 ms by default."""
    keepalived = Keepalived(lab.director_host)
    keepalived.start(render(Vrrp(vips=[VIP4], interface="eth0", ready="/bin/false")))
    try:
        wait_until(lambda: list(keepalived.children()), "its VRRP process runs", SOON)
        [child] = keepalived.children()
        wait_until(
            lambda: resource.prlimit(child, resource.RLIMIT_RTTIME)[1] == 1_000_000, "it has a second", SOON
        )
    finally:
        keepalived.stop()


def test_the_command_writes_the_configuration(lab: Lab, pair: list[LabDirector]) -> None:
    written = lab.director_host.run(
        *command(pair[0].paths.name, "keepalived-config", "--priority", "250")
    ).stdout
    assert f"unicast_src_ip {lab.topology.director.ipv4}" in written
    assert f"{VIP4}/32 dev eth0" in written
    assert "priority 250" in written
    [script] = re.findall(r'script "(.*)"', written)
    lab.director_host.run(*script.split())  # as keepalived does


def test_standby_and_active_are_ready(lab: Lab, pair: list[LabDirector]) -> None:
    for director in pair:
        lab.director_host.run(*command(director.paths.name, "status", "--ready"))
        shown = lab.director_host.run(*command(director.paths.name, "fleet", "status")).stdout
        assert shown.count("synced") == 2
    warnings = pair[1].client.get("/readyz")["warnings"]
    assert any(each.startswith("standby: VIP") for each in warnings)
