# SPDX-License-Identifier: Apache-2.0
"""The program on devices over a network card."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from tests.support.lab_client import answering, await_each
from tests.support.lab_director import CHECK, directing
from tests.support.stacked_devices import BRIDGE, MACVLAN, stack
from tests.support.transfers import large_transfers_arrive_whole
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.model import Address

pytestmark = pytest.mark.root

VIPS = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
DEVICES = {"bridge0": BRIDGE, "macvlan0": MACVLAN}


class Stacked(NamedTuple):
    lab: Lab
    device: str


@pytest.fixture(scope="module", params=DEVICES)
def stacked(lab_factory: Callable[..., Lab], request: pytest.FixtureRequest) -> Stacked:
    lab = lab_factory(backends=2)
    stack(lab.director_host, request.param, DEVICES[request.param])
    for host in lab.backends:
        lab.nginx(host.name, big_megabytes=16)
    return Stacked(lab, request.param)


@pytest.fixture(scope="module")
def director(stacked: Stacked) -> Iterator[LabDirector]:
    configuration = web_configuration(stacked.lab.topology.backend_nodes, check=CHECK)
    with directing(stacked.lab, {**configuration, "interfaces": [stacked.device]}) as director:
        yield director


def test_the_program_is_on_the_device_in_generic_mode(stacked: Stacked, director: LabDirector) -> None:
    attachments = director.client.get("/v1/stats")["attachments"]

    assert [(each["interface"], each["mode"]) for each in attachments] == [(stacked.device, "generic")]


@VIPS
def test_every_backend_serves(stacked: Stacked, director: LabDirector, vip: Address) -> None:
    await_each({host.name for host in stacked.lab.backends}, lambda: answering(stacked.lab.client, vip))


@VIPS
def test_large_transfers_arrive_whole(stacked: Stacked, director: LabDirector, vip: Address) -> None:
    large_transfers_arrive_whole(stacked.lab, vip, megabytes=8)
