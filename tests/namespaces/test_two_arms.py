# SPDX-License-Identifier: Apache-2.0
"""Backends on another interface than the clients: frames leave by XDP_REDIRECT."""

from collections.abc import Callable, Iterator

import pytest

from tests.support.lab_client import answering, await_each
from tests.support.lab_director import CHECK, directing, view
from tests.support.transfers import large_transfers_arrive_whole
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.model import Address

pytestmark = pytest.mark.root

VIPS = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])


@pytest.fixture(scope="module")
def lab(lab_factory: Callable[..., Lab]) -> Lab:
    lab = lab_factory(backends=2, two_arm=True)
    for host in lab.backends:
        lab.nginx(host.name, big_megabytes=64)
    return lab


@pytest.fixture(scope="module", params=["native", "generic"])
def director(lab: Lab, request: pytest.FixtureRequest) -> Iterator[LabDirector]:
    configuration = web_configuration(lab.topology.backend_nodes, check=CHECK)
    with directing(lab, {**configuration, "mode": request.param}) as director:
        modes = {
            (each["interface"], each["mode"]) for each in director.client.get("/v1/stats")["attachments"]
        }
        assert modes == {("eth0", request.param), ("eth1", request.param)}
        yield director


def test_backends_are_reached_on_the_second_arm(lab: Lab, director: LabDirector) -> None:
    arm = lab.topology.arms[1]

    for node in lab.topology.backend_nodes:
        shown = view(director, node.name)
        assert (shown["interface"], shown["mac"]) == (arm.interface, node.mac(arm))


@VIPS
def test_every_backend_serves(lab: Lab, director: LabDirector, vip: Address) -> None:
    await_each({host.name for host in lab.backends}, lambda: answering(lab.client, vip))


@VIPS
def test_large_transfers_arrive_whole(lab: Lab, director: LabDirector, vip: Address) -> None:
    large_transfers_arrive_whole(lab, vip, megabytes=32)
