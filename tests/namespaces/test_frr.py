# SPDX-License-Identifier: Apache-2.0
"""FRR instead of BIRD: a router learns the VIPs of a director from it, and loses them, as it does from BIRD."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from xdpdirector.client import service_path
from xdpdirector.errors import TimedOutError
from xdpdirector.lab import Lab, bird, frr
from xdpdirector.lab.bird import Bird, knows, make_vip_interface
from xdpdirector.lab.configuration import SERVICE, web_configuration
from xdpdirector.lab.frr import Frr
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.lab.waiting import wait_until

pytestmark = pytest.mark.root

SOON = 60.0  # seconds: for what takes one or two
OTHERS = ("198.51.100.7/32", "2001:db8:7::7/128")
"""Addresses that no service has."""


@pytest.fixture(scope="module")
def lab(lab_factory: Callable[..., Lab]) -> Lab:
    lab = lab_factory(backends=1, directors=2, router=True)
    for host in lab.director_hosts:
        make_vip_interface(host)
    return lab


class Daemons:
    """FRR on the first director, BIRD on the second one and on the router."""

    def __init__(self, lab: Lab) -> None:
        first, second = lab.topology.director_nodes
        self.frr, self.bird = Frr(lab.director_hosts[0]), Bird(lab.director_hosts[1])
        self.router, self._host = Bird(lab.router), lab.router
        self.router.start(bird.of_router(lab.topology))
        self.frr.start(frr.of_director(lab.topology, first))
        self.bird.start(bird.of_director(lab.topology, second))
        wait_until(
            lambda: self.on_router("show", "protocols").count("Established") == 2, "both sessions", SOON
        )

    def on_router(self, *command: str) -> str:
        """What its BIRD says."""
        return self._host.run("birdc", "-s", f"{self.router.directory}/bird.ctl", *command).stdout

    def stop(self) -> None:
        for each in (self.frr, self.bird, self.router):
            each.stop()


@pytest.fixture
def daemons(lab: Lab) -> Iterator[Daemons]:
    for host in lab.director_hosts:
        for address in OTHERS:
            host.run("ip", "addr", "replace", address, "dev", bird.VIP_INTERFACE)
    daemons = Daemons(lab)
    try:
        yield daemons
    finally:
        daemons.stop()
        for host in lab.director_hosts:
            host.run("ip", "addr", "flush", "dev", bird.VIP_INTERFACE)


def carry(lab: Lab, number: int, verb: str) -> None:
    """The VIPs stand on this director (add), or no longer (del)."""
    for vip in (VIP4, VIP6):
        lab.director_hosts[number - 1].run(
            "ip", "addr", verb, f"{vip}/{vip.max_prefixlen}", "dev", bird.VIP_INTERFACE
        )


def await_next_hops(lab: Lab, count: int) -> None:
    wait_until(lambda: knows(lab.router, count), f"the router knows {count} directors", SOON, 0.1)


def routes(lab: Lab) -> str:
    return "".join(
        lab.router.run("ip", family, "route", "show", "proto", "bird").stdout for family in ("-4", "-6")
    )


def test_the_router_learns_the_vips_while_they_stand(lab: Lab, daemons: Daemons) -> None:
    carry(lab, 1, "add")
    await_next_hops(lab, 1)
    learnt = [line.split()[0] for line in routes(lab).splitlines()]
    assert learnt == [str(VIP4), str(VIP6)]

    carry(lab, 2, "add")
    await_next_hops(lab, 2)
    carry(lab, 1, "del")
    await_next_hops(lab, 1)
    carry(lab, 1, "add")
    await_next_hops(lab, 2)


def test_a_vip_that_goes_when_the_session_has_just_begun_is_withdrawn(lab: Lab, daemons: Daemons) -> None:
    """FRR collects routes for a second when a session begins (its coalesce time), and announces them together."""
    daemons.frr.stop()
    carry(lab, 1, "add")
    daemons.frr.start(frr.of_director(lab.topology, lab.topology.director_nodes[0]))
    await_next_hops(lab, 1)

    carry(lab, 1, "del")

    try:
        await_next_hops(lab, 0)
    except TimedOutError:
        known = daemons.on_router("show", "route", "all"), daemons.frr.vtysh("-c", "show bgp ipv4 unicast")
        pytest.fail(f"the router has the VIP still; {known}")


def test_a_director_that_dies_is_sent_nothing(lab: Lab, daemons: Daemons) -> None:
    """By BFD: without it the router would wait for nine seconds."""
    carry(lab, 1, "add")
    await_next_hops(lab, 1)
    wait_until(lambda: "up" in daemons.frr.vtysh("-c", "show bfd peers brief"), "BFD is up", SOON)

    scratch = daemons.frr.scratch()
    assert len(scratch) == 3

    daemons.frr.kill()

    assert [each for each in scratch if each.exists()] == []
    await_next_hops(lab, 0)
    assert "BFD session down" in daemons.on_router("show", "protocols", "all", "director")


def test_a_director_with_frr_takes_requests(lab: Lab, daemons: Daemons) -> None:
    lab.nginx(lab.backends[0].name)
    director = lab.director(configuration(lab))
    try:
        director.wait_serving()
        await_next_hops(lab, 1)
        for vip in (f"{VIP4}", f"[{VIP6}]"):
            said = lab.client.run("curl", "-s", "--max-time", "20", f"http://{vip}/who").stdout
            assert said.strip() == lab.backends[0].name
        [backend] = director.client.get(service_path(SERVICE))["backends"]
        assert backend["traffic"]["connections"] == 2
    finally:
        director.stop()


def configuration(lab: Lab) -> dict[str, Any]:
    return web_configuration(lab.topology.backend_nodes, scheduler="mh") | {
        "vips": {"on": "dummy", "interface": bird.VIP_INTERFACE}
    }
