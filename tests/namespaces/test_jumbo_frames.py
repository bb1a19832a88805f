# SPDX-License-Identifier: Apache-2.0
"""A LAN with an MTU of 9000: a frame does not fit into a page, so a driver takes native mode only for a program
that reads frames in several buffers (BPF_F_XDP_HAS_FRAGS)."""

import os
from collections.abc import Callable, Iterator

import pytest

from tests.support.lab_client import Conversation, datagrams, echoed
from tests.support.lab_director import CHECK, directing, verdict
from tests.support.transfers import MEGABYTE, Upload, random_octets
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.topology import FIRST_ARM, VIP4, VIP6
from xdpdirector.model import Address

pytestmark = pytest.mark.root

MTU = 9000
PORT = 53
UP = 8  # megabytes
VIPS = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])


@pytest.fixture(scope="module")
def lab(lab_factory: Callable[..., Lab]) -> Lab:
    lab = lab_factory()
    for node in lab.topology.hosts:
        lab.switch.run("ip", "link", "set", node.port(), "mtu", str(MTU))
        lab.host(node.name).run("ip", "link", "set", FIRST_ARM.interface, "mtu", str(MTU))
    lab.switch.run("ip", "link", "set", FIRST_ARM.bridge, "mtu", str(MTU))
    for host in lab.backends:
        lab.nginx(host.name)
        lab.echo(host.name, PORT)
    return lab


@pytest.fixture(
    scope="module", params=[("native", "wlc"), ("native", "mh"), ("generic", "wlc")], ids="-".join
)
def director(lab: Lab, request: pytest.FixtureRequest) -> Iterator[LabDirector]:
    mode, scheduler = request.param
    configuration = web_configuration(lab.topology.backend_nodes, scheduler=scheduler, check=CHECK)
    configuration["mode"] = mode
    web = configuration["services"]["web"]
    listeners = [f"{VIP4}:{PORT}/udp", f"[{VIP6}]:{PORT}/udp"]
    configuration["services"]["echo"] = {**web, "listeners": listeners, "check": {**web["check"], "port": 80}}
    with directing(lab, configuration) as director:
        assert [each["mode"] for each in director.client.get("/v1/stats")["attachments"]] == [mode]
        yield director


@VIPS
def test_an_upload_arrives_whole_in_large_frames(lab: Lab, director: LabDirector, vip: Address) -> None:
    content = random_octets(UP)
    before = director.client.get("/v1/stats")["services"]["web"]

    with Conversation(lab.client, vip) as conversation:
        with Upload(conversation, "sink-jumbo", content, paced=False) as upload:
            upload.finish()
        received = lab.nginx(conversation.backend).received("sink-jumbo")

    after = director.client.get("/v1/stats")["services"]["web"]
    octets, packets = (after[name] - before[name] for name in ("bytes", "packets"))
    assert received == content
    assert octets >= UP * MEGABYTE
    assert octets / packets > 4096  # acknowledgements of the download included


@VIPS
@pytest.mark.parametrize("size", [1472, 3500, 8900])
def test_a_datagram_is_echoed_without_fragments(
    lab: Lab, director: LabDirector, vip: Address, size: int
) -> None:
    before = verdict(director, "forward_fragment")

    with datagrams(lab.client, vip, PORT) as opened:
        assert echoed(opened, os.urandom(size))

    assert verdict(director, "forward_fragment") == before
