# SPDX-License-Identifier: Apache-2.0
"""Denied clients and limits of new connections, with real clients and servers, changed while they talk.

Rates are of connections by hour where a test counts: nothing is earned meanwhile. What is refused is dropped, so a
refused client waits; its kernel tries again only after a second.
"""

import errno
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from ruamel.yaml import YAML

from tests.support.lab_client import Conversation, family_of, socket_on
from tests.support.lab_director import CHECK, command, directing, verdict
from tests.support.many_clients import sources
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.lab.waiting import wait_until
from xdpdirector.model import Address

pytestmark = [pytest.mark.root, pytest.mark.backends(2)]

SHORT, LONG = 0.5, 10.0  # seconds that a client waits for no answer, and for one
DENY, SERVICE = "/v1/guard/deny", "/v1/services/web"
OF_FILE = {"prefix": "198.51.100.0/24", "reason": "spam"}
FLOOD = 400  # connections, opened as fast as the client can
VIPS = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])


@pytest.fixture(scope="module", params=[("native", "mh"), ("generic", "wlc")], ids="-".join)
def running(lab: Lab, request: pytest.FixtureRequest) -> Iterator[LabDirector]:
    mode, scheduler = request.param
    configuration = web_configuration(lab.topology.backend_nodes, scheduler=scheduler, check=CHECK)
    with directing(lab, configuration | {"mode": mode, "guard": {"deny": [OF_FILE]}}) as director:
        yield director


@pytest.fixture
def director(running: LabDirector) -> Iterator[LabDirector]:
    """Afterwards nobody is denied or limited but whom the file says."""
    yield running
    running.client.put(DENY, {"items": [OF_FILE]})
    running.client.patch(SERVICE, {"limit": None})


def talking(lab: Lab, vip: Address, source: str, timeout: float = LONG) -> Conversation:
    """A connection of the client that has this address."""
    return Conversation(lab.client, vip, timeout=timeout, source=source)


def is_served(lab: Lab, vip: Address, source: str) -> bool:
    """Whether a new connection is answered."""
    try:
        with talking(lab, vip, source, timeout=SHORT):
            return True
    except TimeoutError:
        return False


@VIPS
def test_a_denied_client_is_refused_and_another_is_served(
    lab: Lab, director: LabDirector, vip: Address
) -> None:
    denied, other = sources(lab, vip, 2)
    dropped = verdict(director, "drop_denied")

    director.client.post(DENY, {"prefix": denied, "reason": "floods"})

    assert not is_served(lab, vip, denied)
    assert is_served(lab, vip, other)
    assert verdict(director, "drop_denied") > dropped
    assert director.client.get(f"{DENY}/{denied}")["packets"] > 0


@VIPS
def test_a_running_connection_stops_and_goes_on(lab: Lab, director: LabDirector, vip: Address) -> None:
    denied, other = sources(lab, vip, 2)
    with talking(lab, vip, denied) as stopped, talking(lab, vip, other) as untouched:
        command(director, "guard", "deny", denied)
        stopped.http.request("GET", "/who")
        assert untouched.who() == untouched.backend
        stopped.patience(SHORT)
        with pytest.raises(TimeoutError):
            stopped.http.sock.recv(1)

        command(director, "guard", "allow", denied)

        stopped.patience(LONG)  # TCP has sent it again and again
        assert stopped.http.sock.recv(1) == b"H"


def test_who_is_denied_stays_denied_without_a_daemon_and_with_the_next_one(
    lab: Lab, director: LabDirector
) -> None:
    denied, other = sources(lab, VIP4, 2)
    director.client.post(DENY, {"prefix": denied})

    director.stop()
    assert not is_served(lab, VIP4, denied)
    assert is_served(lab, VIP4, other)
    director.start()

    assert not is_served(lab, VIP4, denied)
    listed = {each["prefix"]: each for each in director.client.get(DENY)["items"]}
    assert {prefix: each["from_file"] for prefix, each in listed.items()} == {
        OF_FILE["prefix"]: True,
        f"{denied}/32": False,
    }
    assert listed[f"{denied}/32"]["packets"] >= 2  # also what was dropped meanwhile


@VIPS
def test_a_limit_holds_and_running_connections_go_on(lab: Lab, director: LabDirector, vip: Address) -> None:
    clients = sources(lab, vip, 8)
    earlier = director.client.get(SERVICE)["refused"]
    with ExitStack() as stack:
        before = [stack.enter_context(talking(lab, vip, client)) for client in clients[:3]]
        director.client.patch(SERVICE, {"limit": {"rate": "1/h", "burst": 5}})

        admitted = [stack.enter_context(talking(lab, vip, client)) for client in clients[:5]]
        assert not any(is_served(lab, vip, client) for client in clients[5:])
        assert all(each.who() == each.backend for each in (*before, *admitted))

        command(director, "service", "set", "web", "--limit", "none")
        assert all(is_served(lab, vip, client) for client in clients[5:])
    refused = director.client.get(SERVICE)["refused"]
    assert refused["by_service"] >= earlier["by_service"] + 3
    assert refused["by_source"] == earlier["by_source"]


@VIPS
def test_a_source_has_a_limit_of_its_own(lab: Lab, director: LabDirector, vip: Address) -> None:
    greedy, modest = sources(lab, vip, 2)
    command(
        director,
        *("service", "set", "web", "--source-limit", "1/h", "--source-burst", "3", "--source-prefix6", "128"),
    )

    with ExitStack() as stack:
        admitted = [stack.enter_context(talking(lab, vip, greedy)) for _ in range(3)]
        assert not is_served(lab, vip, greedy)
        assert is_served(lab, vip, modest)
        assert all(each.who() == each.backend for each in admitted)
    assert director.client.get("/v1/guard")["limits"]["web"]["refused"]["by_source"] >= 1


def test_a_burst_of_connections_gets_what_the_rate_allows(lab: Lab, director: LabDirector) -> None:
    """Counted by the director, over a time that is measured from outside, and so is longer."""
    rate, burst, processors = 100, 20, 64

    with talking(lab, VIP4, sources(lab, VIP4, 1)[0]) as going_on, ExitStack() as stack:
        director.client.patch(SERVICE, {"limit": {"rate": f"{rate}/s", "burst": burst}})
        opened, began = opened_so_far(director), time.monotonic()
        for _ in range(FLOOD):
            stack.enter_context(knocking(lab, VIP4))
        assert going_on.who() == going_on.backend
        opened, took = opened_so_far(director) - opened, time.monotonic() - began

    assert burst <= opened <= burst + rate * took + processors
    assert director.client.get(SERVICE)["refused"]["by_service"] > 0


def opened_so_far(director: LabDirector) -> int:
    return int(director.client.get("/v1/stats")["services"]["web"]["connections"])


def knocking(lab: Lab, vip: Address) -> socket.socket:
    """A connection that has sent its SYN."""
    made = socket_on(lab.client, family_of(vip), socket.SOCK_STREAM)
    made.setblocking(False)
    assert made.connect_ex((str(vip), 80)) == errno.EINPROGRESS
    return made


def test_the_file_is_read_again_and_what_was_denied_at_run_time_stays(
    lab: Lab, director: LabDirector
) -> None:
    of_file, at_run_time = sources(lab, VIP4, 2)
    director.client.post(DENY, {"prefix": at_run_time})
    before = director.configuration.read_text()
    document = YAML(typ="safe").load(before)

    director.configure({**document, "guard": {"deny": [{"prefix": of_file}]}})
    hang_up(director)
    wait_until(lambda: not is_served(lab, VIP4, of_file), "the client in the file is denied", LONG)

    assert not is_served(lab, VIP4, at_run_time)
    director.configuration.write_text(before)
    hang_up(director)
    wait_until(lambda: is_served(lab, VIP4, of_file), "the client is denied no more", LONG)
    assert not is_served(lab, VIP4, at_run_time)


def hang_up(director: LabDirector) -> None:
    assert director.pid is not None
    os.kill(director.pid, signal.SIGHUP)
