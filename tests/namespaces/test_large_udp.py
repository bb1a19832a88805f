# SPDX-License-Identifier: Apache-2.0
"""Datagrams larger than the MTU, sent in fragments by the client's kernel: each arrives whole, at one backend."""

import os
from collections.abc import Callable, Iterator

import pytest

from tests.support.lab_client import datagrams, echoed
from tests.support.lab_director import CHECK, directing, verdict
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.topology import DIRECTOR, VIP4, VIP6
from xdpdirector.lab.waiting import wait_until
from xdpdirector.model import Address

pytestmark = pytest.mark.root

PORT = 53
HOST_PORT = 500  # no listener has it: the director itself answers there
SPOKEN = len(b"backend1 ")  # what the echo puts before the datagram
LARGEST = 65507 - SPOKEN  # IPv4: 65,535 without the headers of IP and UDP
VIPS = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
SIZES = pytest.mark.parametrize("size", [1473, 4000, 16001, LARGEST], ids="{}-octets".format)
TURNS = 12


@pytest.fixture(scope="module")
def lab(lab_factory: Callable[..., Lab]) -> Lab:
    lab = lab_factory(backends=3)
    for host in lab.backends:
        lab.nginx(host.name)  # for the health check
        lab.echo(host.name, PORT)
    return lab


@pytest.fixture(
    scope="module", params=[("native", "wlc"), ("native", "mh"), ("generic", "wlc")], ids="-".join
)
def director(lab: Lab, request: pytest.FixtureRequest) -> Iterator[LabDirector]:
    mode, scheduler = request.param
    configuration = web_configuration(lab.topology.backend_nodes, scheduler=scheduler, check=CHECK)
    service = configuration["services"]["web"]
    service["listeners"] = [f"{VIP4}:{PORT}/udp", f"[{VIP6}]:{PORT}/udp"]
    service["check"]["port"] = 80
    with directing(lab, {**configuration, "mode": mode}) as director:
        echo = lab.echo(DIRECTOR, HOST_PORT)
        try:
            yield director
        finally:
            echo.stop()


@VIPS
@SIZES
def test_a_large_datagram_is_echoed_whole(lab: Lab, director: LabDirector, vip: Address, size: int) -> None:
    before = verdict(director, "forward_fragment")

    with datagrams(lab.client, vip, PORT) as opened:
        names = {echoed(opened, os.urandom(size)) for _ in range(TURNS)}

    assert len(names) == 1
    assert verdict(director, "forward_fragment") >= before + TURNS


@VIPS
def test_every_backend_gets_large_ones(lab: Lab, director: LabDirector, vip: Address) -> None:
    seen: set[str] = set()

    def all_echoed() -> bool:
        with datagrams(lab.client, vip, PORT) as opened:
            seen.add(echoed(opened, os.urandom(4000)))
        return seen == {host.name for host in lab.backends}

    wait_until(all_echoed, "an echo from each backend")


@VIPS
def test_no_fragment_is_lost(lab: Lab, director: LabDirector, vip: Address) -> None:
    """Of many sockets at once, with whole datagrams between them."""
    before = verdict(director, "drop_fragment")

    for _ in range(30):
        with datagrams(lab.client, vip, PORT) as large, datagrams(lab.client, vip, PORT) as small:
            large.send(bytes(9000))
            assert echoed(small, b"between")
            assert large.recv(65535).endswith(bytes(9000))

    assert verdict(director, "drop_fragment") == before


@VIPS
def test_a_large_ping_is_answered_by_the_director_itself(
    lab: Lab, director: LabDirector, vip: Address
) -> None:
    lab.client.run("ping", "-c", "3", "-i", "0.2", "-W", "5", "-s", "4000", str(vip))


@VIPS
def test_a_large_datagram_to_no_listener_reaches_the_director_itself(
    lab: Lab, director: LabDirector, vip: Address
) -> None:
    with datagrams(lab.client, vip, HOST_PORT) as opened:
        assert echoed(opened, os.urandom(16001)) == DIRECTOR
