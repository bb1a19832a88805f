# SPDX-License-Identifier: Apache-2.0
"""While real clients talk: what the director explains is what happens, and what happens can be followed."""

import json
from collections.abc import Iterator
from contextlib import closing
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.utils import RawPcapNgReader

from tests.support.lab_client import Conversation
from tests.support.lab_director import CHECK, becomes, command, directing
from xdpdirector.dataplane.maps import Tables
from xdpdirector.errors import InvalidRequestError
from xdpdirector.lab import Lab
from xdpdirector.lab.clients import Clients
from xdpdirector.lab.configuration import TARGETS, web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.sample import OK
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.lab.waiting import wait_until
from xdpdirector.loader import layout
from xdpdirector.model import Address

pytestmark = pytest.mark.root

PORTS = count(20000)  # each used once: a closed connection keeps its port for a while
CONNECTIONS = 12
VIPS = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])


@pytest.fixture(scope="module", params=["wlc", "mh"])
def director(lab: Lab, request: pytest.FixtureRequest) -> Iterator[LabDirector]:
    configuration = web_configuration(lab.topology.backend_nodes, scheduler=request.param, check=CHECK)
    with directing(lab, configuration) as director:
        yield director


@pytest.fixture
def clients(lab: Lab, director: LabDirector) -> Iterator[Clients]:
    with Clients(lab.client, list(TARGETS), rate=100) as clients:
        yield clients


def asked(lab: Lab, director: LabDirector, vip: Address, port: int, flags: str = "S") -> Any:
    node = lab.client.node
    client = node.ipv4 if vip.version == 4 else node.ipv6
    question = {"client": str(client), "client_port": port, "vip": str(vip), "port": 80, "flags": flags}
    return director.client.post("/v1/explain", question, timeout=60.0)


# explain


@VIPS
def test_a_connection_goes_where_it_was_explained_to_go(
    lab: Lab, director: LabDirector, vip: Address
) -> None:
    for port in islice(PORTS, CONNECTIONS):
        # given
        before = asked(lab, director, vip, port)

        # when
        with Conversation(lab.client, vip, source_port=port) as conversation:
            during = asked(lab, director, vip, port, flags="A")
            served = conversation.backend

        # then
        assert (before["backend"], during["backend"]) == (served, served)
        macs = {each["name"]: each["mac"] for each in director.client.get("/v1/services/web")["backends"]}
        assert {before["mac"], during["mac"]} == {macs[served]}
        assert before["way_out"] == "eth0"


@VIPS
def test_explaining_leaves_no_trace(lab: Lab, director: LabDirector, vip: Address) -> None:
    # given
    def counted() -> Any:
        statistics = director.client.get("/v1/stats")
        decided = {
            reason: count
            for reason, count in statistics["verdicts"].items()
            if not reason.startswith("pass_not")  # the network's own chatter
        }
        return decided, statistics["backends"], director.client.get("/v1/connections")["items"]

    before = counted()

    # when
    for port in range(50000, 50050):
        for flags in ("S", "A", "R"):
            asked(lab, director, vip, port, flags)

    # then
    after = counted()
    assert after[:2] == before[:2]
    assert {each["client_port"] for each in after[2]} <= {each["client_port"] for each in before[2]}


def test_an_interface_that_is_not_there_is_refused(lab: Lab, director: LabDirector) -> None:
    # given
    question = {"client": "192.0.2.100", "client_port": 7, "vip": str(VIP4), "port": 80}

    # when
    with pytest.raises(InvalidRequestError) as caught:
        director.client.post("/v1/explain", {**question, "interface": "eth9"}, timeout=60.0)

    # then
    assert caught.value.pointer == "/interface"


def test_a_person_reads_why(lab: Lab, director: LabDirector) -> None:
    # when
    shown = command(director, "explain", f"{lab.client.node.ipv4}:7", f"{VIP4}:80/tcp").stdout

    # then
    assert "forward to web/backend" in shown
    assert "because" in shown


# events


def kinds(messages: Iterator[Any], subject: str) -> Iterator[str]:
    for message in messages:
        document = json.loads(message.data)
        if document.get("subject") == subject:
            yield document["kind"]


def test_a_server_that_goes_and_comes_is_an_event(lab: Lab, director: LabDirector) -> None:
    # given
    with closing(director.client.stream("/v1/events", {"last": 1})) as stream:
        next(stream)  # the director has said something before: it follows now
        told = kinds(stream, "web/backend3")
        seen = (
            kind for kind in told if kind != "backend.partial"
        )  # on the way, as its VIPs are checked apart

        # when
        lab.nginx("backend3").kill()
        first = next(seen)
        lab.nginx("backend3")
        second = next(seen)

    # then
    assert (first, second) == ("backend.down", "backend.up")
    becomes(director, "backend3", "up")


def test_a_drain_is_a_story(lab: Lab, director: LabDirector) -> None:
    # given
    with closing(director.client.stream("/v1/events", {"last": 1})) as stream:
        next(stream)

        # when
        command(director, "backend", "drain", "web/backend2", "--reason", "new disk")
        story = list(islice(kinds(stream, "web/backend2"), 2))
        command(director, "backend", "enable", "web/backend2")
        story.append(next(kind for kind in kinds(stream, "web/backend2") if kind == "backend.admin"))

    # then
    assert story == ["backend.admin", "backend.drain", "backend.admin"]
    shown = command(director, "events", "--types", "backend.drain").stdout
    assert "new disk" in shown
    becomes(director, "backend2", "up")


def test_a_follower_is_told_that_another_daemon_runs(lab: Lab, director: LabDirector) -> None:
    # given
    stream = director.client.stream("/v1/events", {"last": 1})
    before = next(stream)

    # when
    director.stop()
    ended = list(stream)
    director.start()
    with closing(director.client.stream("/v1/events", after=before.id)) as again:
        first = next(again)

    # then
    assert all(message.event != "gap" for message in ended)
    assert (first.event, json.loads(first.data)["missed"]) == ("gap", None)
    director.wait_serving()


# trace


def test_live_packets_for_wireshark(director: LabDirector, clients: Clients, tmp_path: Path) -> None:
    # given
    capture = tmp_path / "trace.pcapng"

    # when
    command(director, "trace", "--count", "40", "--rate", "1000", "--write", str(capture))

    # then
    with RawPcapNgReader(str(capture)) as reader:
        frames = [(Ether(frame), meta.comments[0].decode()) for frame, meta in reader]
    macs = {each["name"]: each["mac"] for each in director.client.get("/v1/services/web")["backends"]}
    assert len(frames) == 40
    for frame, comment in frames:
        reason, _, whom = comment.partition(" ")
        assert reason.startswith("forward_")
        assert frame.dst == macs[whom.removeprefix("web/")]
        assert (frame[IP].dst if IP in frame else frame[IPv6].dst) in (str(VIP4), str(VIP6))


def test_only_new_connections_to_one_backend(lab: Lab, director: LabDirector, clients: Clients) -> None:
    # when
    options = ["--backend", "web/backend1", "--seconds", "2", "--rate", "1000", "-o", "json"]
    lines = command(director, "trace", *options).stdout.splitlines()

    # then
    found = [json.loads(line) for line in lines]
    assert {(each["service"], each["backend"], each["verdict"]) for each in found} == {
        ("web", "backend1", "forward")
    }
    assert {str(each["vip"]) for each in found} == {str(VIP4), str(VIP6)}


def watched(director: LabDirector) -> bool:
    """Whether the packet path has its mark on the service."""
    loaded = layout.read(director.paths)
    assert loaded is not None
    with Tables(loaded) as tables:
        flag = tables.enums["guard_flags"]["GUARD_TRACE"]
        return bool(int(tables.services["guard"].max()) & flag)


def test_nothing_is_left_of_a_trace(lab: Lab, director: LabDirector, clients: Clients) -> None:
    # given
    stream = director.client.stream("/v1/trace")
    next(stream)
    during = watched(director)

    # when
    stream.close()

    # then
    assert during
    wait_until(lambda: not watched(director), "the mark is gone", 20.0)


def test_a_daemon_that_dies_leaves_no_trace_running(
    lab: Lab, director: LabDirector, clients: Clients
) -> None:
    # given
    stream = director.client.stream("/v1/trace")
    next(stream)

    # when
    director.kill()
    director.start()

    # then
    wait_until(lambda: not watched(director), "the mark is gone", 10.0)
    director.wait_serving()
    assert {request.outcome for request in clients.requests()} == {OK}


# top and dataplane


def test_top_shows_who_gets_how_much(lab: Lab, director: LabDirector, clients: Clients) -> None:
    # when
    shown = command(director, "top", "--once").stdout

    # then
    lines = shown.splitlines()
    assert not lines[1].startswith("0 packets/s")
    assert [line.split()[0] for line in lines[4:8]] == ["web", "backend1", "backend2", "backend3"]
    assert "forward_" in shown


def test_the_data_plane_is_what_the_interface_carries(
    lab: Lab, director: LabDirector, clients: Clients
) -> None:
    # when
    held = director.client.get("/v1/dataplane")

    # then
    (carrier,) = held["carriers"]
    assert (carrier["program_id"], carrier["current"]) == (held["program"]["id"], True)
    assert carrier["interface"] == "eth0"
    shown = {each["backend"]: each["mac"] for each in held["backends"]}
    assert shown == {
        each["name"]: each["mac"] for each in director.client.get("/v1/services/web")["backends"]
    }
    assert held["drift_repaired"] == 0
