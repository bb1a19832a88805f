# SPDX-License-Identifier: Apache-2.0
"""Path MTU discovery through the director: the errors of a router on the clients' way reach the right backend."""

import json
from collections.abc import Callable, Iterator
from hashlib import sha256

import pytest

from tests.support.far_client import NARROW, far_address, far_client
from tests.support.lab_client import Conversation
from tests.support.lab_director import CHECK, directing, verdict
from tests.support.transfers import Download
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.host import Host
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.model import Address

pytestmark = pytest.mark.root

VIPS = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
MEGABYTES = 16


@pytest.fixture(scope="module")
def lab(lab_factory: Callable[..., Lab]) -> Lab:
    lab = lab_factory()
    for host in lab.backends:
        lab.nginx(host.name, big_megabytes=MEGABYTES)
    return lab


@pytest.fixture(scope="module")
def far(lab: Lab) -> Host:
    return far_client(lab)


@pytest.fixture(scope="module", params=[("native", "wlc"), ("generic", "mh")], ids="-".join)
def director(lab: Lab, far: Host, request: pytest.FixtureRequest) -> Iterator[LabDirector]:
    mode, scheduler = request.param
    configuration = web_configuration(lab.topology.backend_nodes, scheduler=scheduler, check=CHECK)
    with directing(lab, {**configuration, "mode": mode}) as director:
        yield director


@VIPS
def test_the_backend_learns_the_paths_mtu(lab: Lab, far: Host, director: LabDirector, vip: Address) -> None:
    wanted = sha256((lab.record.directory / "big").read_bytes()).hexdigest()
    forget_paths(lab)
    before = verdict(director, "forward_error")

    with Conversation(far, vip) as conversation:
        assert learned(lab, far, vip) == {}
        with Download(conversation, paced=False) as download:
            arrived = download.finish()

    assert arrived == wanted
    assert learned(lab, far, vip) == {conversation.backend: NARROW}
    assert verdict(director, "forward_error") > before


def forget_paths(lab: Lab) -> None:
    for host in lab.backends:
        host.run("ip", "route", "flush", "cache")
        host.run("ip", "-6", "route", "flush", "cache")


def learned(lab: Lab, far: Host, vip: Address) -> dict[str, int]:
    """The MTU of the way from the VIP to the far client, by backend: only where the kernel was told one."""
    client, found = far_address(far, vip), {}
    for host in lab.backends:
        shown = host.run("ip", "-json", "route", "get", str(client), "from", str(vip)).stdout
        metrics = json.loads(shown)[0].get("metrics", [{}])[0]
        if "mtu" in metrics:
            found[host.name] = int(metrics["mtu"])
    return found
