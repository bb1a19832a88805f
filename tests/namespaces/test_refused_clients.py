# SPDX-License-Identifier: Apache-2.0
"""What a client sees of a service that nobody serves: refused at once, or left to wait until it gives up."""

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.lab_client import Conversation, connected, datagrams
from tests.support.lab_director import CHECK, directing, verdict
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.model import Address

pytestmark = pytest.mark.root

REJECTING, DROPPING = 1001, 1002
LONG, SHORT = 10.0, 0.5  # seconds that a client waits for an answer, and for none
VIPS = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
SIZES = pytest.mark.parametrize("size", [0, 9, 1400, 4001], ids="{}-octets".format)


@pytest.fixture(scope="module")
def lab(lab_factory: Callable[..., Lab]) -> Lab:
    lab = lab_factory(backends=1)
    lab.nginx("backend1")
    return lab


@pytest.fixture(scope="module", params=[("native", "mh"), ("generic", "wlc")], ids="-".join)
def director(lab: Lab, request: pytest.FixtureRequest) -> Iterator[LabDirector]:
    mode, scheduler = request.param
    configuration = web_configuration(lab.topology.backend_nodes, scheduler=scheduler, check=CHECK)
    configuration["mode"] = mode
    configuration["services"]["rejecting"] = nobodys(REJECTING, scheduler, "reject")
    configuration["services"]["dropping"] = nobodys(DROPPING, scheduler, "drop")
    with directing(lab, configuration) as director:
        yield director


def nobodys(port: int, scheduler: str, on_empty: str) -> dict[str, Any]:
    """A service without backends."""
    addresses = (str(VIP4), f"[{VIP6}]")
    listeners = [f"{address}:{port}/{protocol}" for address in addresses for protocol in ("tcp", "udp")]
    return {"listeners": listeners, "scheduler": scheduler, "on_empty": on_empty, "backends": {}}


@VIPS
def test_a_connection_is_refused(lab: Lab, director: LabDirector, vip: Address) -> None:
    before = verdict(director, "reject_empty")

    with pytest.raises(ConnectionRefusedError):
        connected(lab.client, socket.SOCK_STREAM, vip, REJECTING, LONG)

    assert verdict(director, "reject_empty") == before + 1  # by the first SYN


@VIPS
@SIZES
def test_a_datagram_is_refused(lab: Lab, director: LabDirector, vip: Address, size: int) -> None:
    before = verdict(director, "reject_empty")

    with datagrams(lab.client, vip, REJECTING) as opened:
        opened.settimeout(LONG)
        opened.send(bytes(size))
        with pytest.raises(ConnectionRefusedError):
            opened.recv(1)

    assert verdict(director, "reject_empty") == before + 1


@VIPS
def test_a_dropped_connection_is_the_clients_to_give_up(
    lab: Lab, director: LabDirector, vip: Address
) -> None:
    before = verdict(director, "drop_empty")

    with pytest.raises(TimeoutError):
        connected(lab.client, socket.SOCK_STREAM, vip, DROPPING, SHORT)

    assert verdict(director, "drop_empty") > before


@VIPS
def test_a_dropped_datagram_is_the_clients_to_give_up(lab: Lab, director: LabDirector, vip: Address) -> None:
    before = verdict(director, "drop_empty")

    with datagrams(lab.client, vip, DROPPING) as opened:
        opened.settimeout(SHORT)
        opened.send(b"anybody there?")
        with pytest.raises(TimeoutError):
            opened.recv(1)

    assert verdict(director, "drop_empty") == before + 1


@VIPS
def test_its_neighbour_serves(lab: Lab, director: LabDirector, vip: Address) -> None:
    with Conversation(lab.client, vip) as conversation:
        assert conversation.backend == "backend1"
