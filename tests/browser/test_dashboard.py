# SPDX-License-Identifier: Apache-2.0
"""The dashboard in a browser, headless, against the real daemon in a lab under load. The stories are in
web/browser/stories.mjs; what they cannot do themselves (look at packets, stop the daemon) is done here.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.browser import MARKS, SOON, Do, play, relayed
from tests.support.lab_director import CHECK, becomes, directing
from tests.support.staged_daemon import StagedDaemon
from xdpdirector.client import backend_path, service_path
from xdpdirector.lab import Lab
from xdpdirector.lab.clients import Clients
from xdpdirector.lab.configuration import SERVICE, TARGETS, web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.topology import VIP4
from xdpdirector.lab.waiting import wait_until

HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>'
LONG = "production-eu-central-storefront-checkout-payments-v2-canary-01"  # 63 characters, the most
SERVICES, MANY = 4, 250  # 256 backends is the most that a service may have by default

pytestmark = MARKS


# A lab under load


@pytest.fixture(scope="module")
def lab(xdp_labs: Callable[..., Lab]) -> Lab:
    lab = xdp_labs(backends=3)
    for host in lab.backends:
        lab.nginx(host.name)
    return lab


def wanted(lab: Lab) -> dict[str, Any]:
    timeouts = {"tcp": "4s", "tcpfin": "1s", "syn": "1s", "udp": "1s"}
    return web_configuration(lab.topology.backend_nodes, check=CHECK, timeouts=timeouts)


@pytest.fixture(scope="module")
def running(lab: Lab) -> Iterator[LabDirector]:
    with (
        directing(lab, wanted(lab)) as director,
        Clients(lab.client, list(TARGETS), rate=40.0, kept=6, longest=3600.0),
    ):
        yield director


@pytest.fixture
def director(lab: Lab, running: LabDirector) -> LabDirector:
    """With three backends of weight 1 that serve, and nobody denied, whatever the test before did and left."""
    client, service = running.client, wanted(lab)["services"][SERVICE]
    backends = {name: {**spec, "admin": "enabled"} for name, spec in service["backends"].items()}
    client.put(service_path(SERVICE), {**service, "backends": backends})
    for each in client.get("/v1/guard/deny")["items"]:
        client.delete(deny_path(each["prefix"]))
    for each in client.get("/v1/tokens")["items"]:
        client.delete(f"/v1/tokens/{each['name']}")
    for name in backends:
        becomes(running, name, "up", SOON)
    return running


def deny_path(prefix: str) -> str:
    return f"/v1/guard/deny/{quote(prefix, safe='')}"


@pytest.fixture
def address(director: LabDirector) -> Iterator[str]:
    with relayed(director.paths.socket) as found:
        yield found


def served_by(lab: Lab, times: int = 12) -> set[str]:
    """Who answers new connections at the VIP: whom it asks is in the order of the scheduler, by one process."""
    asked = [f"http://{VIP4}/who"] * times
    answers = lab.client.run(
        "curl",
        "-s",
        "--no-keepalive",
        "-H",
        "Connection: close",
        "--max-time",
        str(SOON),
        "-w",
        "\\n",
        *asked,
    )
    return set(answers.stdout.split())


@pytest.mark.smoke
def test_a_drain_moves_clients_and_is_taken_back(lab: Lab, director: LabDirector, address: str) -> None:
    def drained(asked: dict[str, Any]) -> object:
        assert asked["backend"] not in served_by(lab)
        return None

    def serving(asked: dict[str, Any]) -> object:
        wait_until(lambda: asked["backend"] in served_by(lab), "it serves again", SOON)
        return None

    play("drain", address, director.client, drained=drained, serving=serving)


def test_what_can_be_done_to_backends(lab: Lab, director: LabDirector, address: str) -> None:
    def silent(asked: dict[str, Any]) -> object:
        assert asked["backend"] not in served_by(lab)
        return None

    play("actions", address, director.client, silent=silent)


def test_a_backend_behind_a_tunnel(director: LabDirector, address: str) -> None:
    def forward(asked: dict[str, Any]) -> object:
        return director.client.patch(backend_path(SERVICE, asked["backend"]), {"forward": asked["forward"]})

    play("tunnel", address, director.client, forward=forward)


def test_denying_and_allowing(director: LabDirector, address: str) -> None:
    def denied(asked: dict[str, Any]) -> object:
        return director.client.get(deny_path(asked["prefix"]))

    play("guard", address, director.client, denied=denied)


def test_two_tabs_in_conflict(director: LabDirector, address: str) -> None:
    def weight(asked: dict[str, Any]) -> object:
        found = director.client.get(backend_path(SERVICE, asked["backend"]))["weight"]
        assert found == asked["weight"]
        return found

    play("conflict", address, director.client, weight=weight)


@pytest.mark.parametrize("story", ["plan", "explain", "tokens", "keyboard", "narrow"])
def test_a_story(director: LabDirector, address: str, story: str) -> None:
    play(story, address, director.client)


def test_looking_around(director: LabDirector, address: str) -> None:
    client = director.client
    for each in client.get("/v1/sessions")["items"]:  # of the tests before
        client.delete(f"/v1/sessions/{each['id']}")

    def happening(asked: dict[str, Any]) -> object:
        return client.post(f"{backend_path(SERVICE, asked['backend'])}/drain", {})

    def another_link(_: dict[str, Any]) -> object:
        return address + client.post("/v1/sessions/links")["path"]

    play("looking", address, client, happening=happening, another_link=another_link)


def test_the_end_of_a_session(director: LabDirector, address: str) -> None:
    def end_sessions(_: dict[str, Any]) -> object:
        for each in director.client.get("/v1/sessions")["items"]:
            director.client.delete(f"/v1/sessions/{each['id']}")
        return None

    play("session", address, director.client, end_sessions=end_sessions)


def test_a_hidden_tab_asks_for_nothing(director: LabDirector, address: str) -> None:
    def under_way() -> int:
        text = director.client.get("/metrics")
        [line] = [
            each for each in text.splitlines() if each.startswith("xdpdirector_api_requests_under_way ")
        ]
        return round(float(line.split()[1])) - 1  # but for this one

    def streams(asked: dict[str, Any]) -> object:
        wait_until(lambda: under_way() == asked["count"], f"{asked['count']} requests are under way", SOON)
        return None

    play("hidden", address, director.client, streams=streams)


def test_old_data_and_a_restart(director: LabDirector, address: str) -> None:
    def send(number: int) -> Do:
        def signalled(_: dict[str, Any]) -> object:
            assert director.pid
            os.kill(director.pid, number)
            return None

        return signalled

    def stop(_: dict[str, Any]) -> object:
        return director.stop()

    def start(_: dict[str, Any]) -> object:
        return director.start()

    play(
        "restart",
        address,
        director.client,
        freeze=send(signal.SIGSTOP),
        thaw=send(signal.SIGCONT),
        stop=stop,
        start=start,
    )


@pytest.mark.smoke
def test_each_page_is_accessible_in_both_schemes(director: LabDirector, address: str) -> None:
    director.client.post(
        f"{backend_path(SERVICE, 'backend3')}/drain", {"reason": "new disk", "deadline": "10m"}
    )
    director.client.post("/v1/guard/deny", {"prefix": "203.0.113.0/24", "reason": "scans"})
    play("pages", address, director.client)


def test_what_others_write_stays_text(lab: Lab, director: LabDirector, address: str) -> None:
    """Reasons, and what a backend says to its check."""
    client = director.client
    banner = f"HTTP/1.1 500 {HOSTILE}\\r\\n\\r\\n"
    source = (
        "import socket\n"
        f"listening = socket.create_server(('', 8081))\n"
        "while True:\n"
        "    one, _ = listening.accept()\n"
        f"    one.recv(1000); one.sendall(b'''{banner}'''); one.close()\n"
    )
    speaker = lab.host("backend2").popen("python3", "-c", source, role="hostile")
    check = {"type": "http", "port": 8081, "interval": "500ms", "timeout": "300ms"}
    try:
        client.patch(service_path(SERVICE), {"check": check})
        client.post(f"{backend_path(SERVICE, 'backend3')}/drain", {"reason": HOSTILE})
        client.post("/v1/guard/deny", {"prefix": "203.0.113.9/32", "reason": HOSTILE})
        becomes(director, "backend2", "down", SOON)
        play("hostile", address, client, text=lambda _: HOSTILE)
    finally:
        speaker.kill()
        speaker.wait()


# Without a lab


@pytest.mark.smoke
def test_a_thousand_backends() -> None:
    with StagedDaemon() as daemon:
        backends = {f"web{number}": {"address": f"10.0.0.{1 + number}"} for number in range(MANY)}
        for number in range(SERVICES):
            name = f"web{number}" if number else "web"
            listener = f"192.0.2.{10 + number}:80/tcp"
            daemon.client.put(f"/v1/services/{name}", {"listeners": [listener], "backends": backends})
        one = {LONG: {"address": "10.0.0.1"}}
        daemon.client.put(f"/v1/services/{LONG}", {"listeners": ["192.0.2.30:80/tcp"], "backends": one})
        with relayed(daemon.socket) as address:
            play("many", address, daemon.client, long_name=lambda _: LONG)
