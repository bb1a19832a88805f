# SPDX-License-Identifier: Apache-2.0
"""Real TCP and UDP through the VIP: every backend serves, and what is sent arrives whole."""

import socket
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

import pytest

from tests.support.lab_client import Conversation, answering, await_each, datagrams, echoed
from tests.support.lab_director import CHECK, directing
from tests.support.transfers import MEGABYTE, Download, Upload, random_octets
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.model import Address

pytestmark = [pytest.mark.root, pytest.mark.smoke]

ECHO_PORT = 53
DOWN, UP = 64, 32  # megabytes
VIPS = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])


@pytest.fixture(scope="module")
def lab(lab_factory: Callable[..., Lab]) -> Lab:
    lab = lab_factory()
    for host in lab.backends:
        lab.nginx(host.name, big_megabytes=DOWN)
        lab.echo(host.name, ECHO_PORT)
    return lab


@pytest.fixture(
    scope="module",
    params=[(mode, scheduler) for mode in ("native", "generic") for scheduler in ("wlc", "mh")],
    ids="-".join,
)
def director(lab: Lab, request: pytest.FixtureRequest) -> Iterator[LabDirector]:
    mode, scheduler = request.param
    configuration = web_configuration(lab.topology.backend_nodes, scheduler=scheduler, check=CHECK)
    configuration["mode"] = mode
    configuration["services"]["echo"] = echo_service(configuration["services"]["web"])
    with directing(lab, configuration) as director:
        assert [each["mode"] for each in director.client.get("/v1/stats")["attachments"]] == [mode]
        yield director


def echo_service(web: dict[str, Any]) -> dict[str, Any]:
    listeners = [f"{VIP4}:{ECHO_PORT}/udp", f"[{VIP6}]:{ECHO_PORT}/udp"]
    return {**web, "listeners": listeners, "check": {**web["check"], "port": 80}}


def everyone(lab: Lab) -> set[str]:
    return {host.name for host in lab.backends}


@VIPS
def test_every_backend_serves(lab: Lab, director: LabDirector, vip: Address) -> None:
    await_each(everyone(lab), lambda: answering(lab.client, vip))


@VIPS
def test_a_connection_stays_with_its_backend(lab: Lab, director: LabDirector, vip: Address) -> None:
    with Conversation(lab.client, vip) as conversation:
        answers = {conversation.who() for _ in range(20)}

        assert answers == {conversation.backend}


@VIPS
def test_a_large_download_arrives_whole_and_passes_by_the_director(
    lab: Lab, director: LabDirector, vip: Address
) -> None:
    wanted = sha256((lab.record.directory / "big").read_bytes()).hexdigest()
    before = director.client.get("/v1/stats")["services"]["web"]["bytes"]

    with Conversation(lab.client, vip) as conversation, Download(conversation, paced=False) as download:
        arrived = download.finish()

    carried = director.client.get("/v1/stats")["services"]["web"]["bytes"] - before
    assert arrived == wanted
    assert 0 < carried < DOWN * MEGABYTE / 8


@VIPS
def test_a_large_upload_arrives_whole(lab: Lab, director: LabDirector, vip: Address) -> None:
    content = random_octets(UP)

    with Conversation(lab.client, vip) as conversation:
        with Upload(conversation, "sink-large", content, paced=False) as upload:
            upload.finish()

        received = lab.nginx(conversation.backend).received("sink-large")
    assert received == content


@VIPS
def test_datagrams_reach_every_backend_and_stay_with_one(
    lab: Lab, director: LabDirector, vip: Address
) -> None:
    def echoing() -> str:
        with datagrams(lab.client, vip, ECHO_PORT) as opened:
            [name] = {echoed(opened, b"%d" % number) for number in range(5)}
        return name

    await_each(everyone(lab), echoing)


@VIPS
def test_a_port_without_a_listener_is_the_directors_own(
    lab: Lab, director: LabDirector, vip: Address
) -> None:
    with pytest.raises(ConnectionRefusedError):
        answering(lab.client, vip, 81)
    with datagrams(lab.client, vip, ECHO_PORT + 1) as opened:
        opened.send(b"nobody there?")
        with pytest.raises(ConnectionRefusedError):
            opened.recv(1, socket.MSG_WAITALL)
