# SPDX-License-Identifier: Apache-2.0
"""The daemon's end, what it leaves, and what happens to a data plane that somebody takes away under it."""

import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.lab_client import Conversation, answering
from tests.support.lab_director import CHECK, command
from xdpdirector.client import backend_path
from xdpdirector.errors import UnreachableError
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import SERVICE, web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.lab_state import ROOT
from xdpdirector.lab.network import namespaces
from xdpdirector.lab.processes import Process, inside
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.lab.waiting import wait_until

pytestmark = [pytest.mark.root, pytest.mark.smoke, pytest.mark.backends(2)]

A_FEW_SECONDS = 4.0


def under_way(director: LabDirector) -> int:
    """Requests that are being answered."""
    text, _ = director.client.text("/metrics", "text/plain")
    lines = (line.split() for line in text.splitlines())
    return next(int(words[1]) for words in lines if words[0] == "xdpdirector_api_requests_under_way")


def test_sigterm_ends_it_also_under_a_long_poll(lab: Lab, director: LabDirector) -> None:
    before = lab.director_host.xdp_program()
    with Conversation(lab.client, VIP6) as conversation, ThreadPoolExecutor(1) as pool:
        path = backend_path(SERVICE, conversation.backend)
        director.client.post(f"{path}/drain")
        waiting = pool.submit(director.client.get, path, {"wait": "drained", "timeout": "60s"}, timeout=70.0)
        wait_until(lambda: under_way(director) > 1, "the long poll is under way, beside this question")
        begun = time.monotonic()
        ended = director.stop()
        took = time.monotonic() - begun
        told = waiting.exception(timeout=1.0)

        assert ended
        assert director.exit_status == 0
        assert took < A_FEW_SECONDS
        assert isinstance(told, UnreachableError)
        assert "is stopping" in told.detail
        assert not director.paths.socket.exists()
        assert "Traceback" not in director.log.read_text()
        assert lab.director_host.xdp_program() == before
        assert conversation.who() == conversation.backend
        assert answering(lab.client, VIP4) != conversation.backend

        director.start()
        shown = director.client.get(path)
        assert (shown["admin"], shown["drain"]["remaining"]) == ("drain", 1)
        director.client.post(f"{path}/enable")


def test_a_half_sent_request_does_not_hold_it_up(lab: Lab, director: LabDirector) -> None:
    with socket.socket(socket.AF_UNIX) as half:
        half.connect(str(director.paths.socket))
        half.sendall(b"POST /v1/services HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")

        assert director.stop(A_FEW_SECONDS)
    assert director.exit_status == 0
    director.start()


def test_the_data_plane_is_not_unloaded_under_it(lab: Lab, director: LabDirector) -> None:
    before = lab.director_host.xdp_program()

    done = command(director, "unload", check=False)

    assert done.returncode == 4
    assert f"process {director.pid}" in done.stderr
    assert "stop it first" in done.stderr
    assert lab.director_host.xdp_program() == before
    assert answering(lab.client, VIP4)


def problems(director: LabDirector) -> str:
    """What /readyz says is wrong; empty when it is ready."""
    return "; ".join(director.client.get("/readyz")["problems"])


def test_a_program_that_somebody_takes_off_is_put_back(lab: Lab, director: LabDirector) -> None:
    before = lab.director_host.xdp_program()
    lab.director_host.run("ip", "link", "set", "dev", "eth0", "xdp", "off")

    wait_until(lambda: lab.director_host.xdp_program() == before, "the program is back", 5.0)

    wait_until(lambda: "dataplane.reattached eth0" in director.log.read_text(), "it is told")
    assert director.ready
    assert {answering(lab.client, vip) for vip in (VIP4, VIP6) for _ in range(4)} == {"backend1", "backend2"}


def test_another_program_in_its_place_is_named_and_left_alone(lab: Lab, director: LabDirector) -> None:
    before = lab.director_host.xdp_program()
    lab.director_host.run(sys.executable, "-m", "xdpdirector.lab.xdp_pass_port", "eth0")
    foreign = lab.director_host.xdp_program()

    wait_until(lambda: f"not this director's: id {foreign}" in problems(director), "it is named", 5.0)
    assert lab.director_host.xdp_program() == foreign != before

    lab.director_host.run("ip", "link", "set", "dev", "eth0", "xdp", "off")
    wait_until(lambda: lab.director_host.xdp_program() == before, "ours is back", 5.0)
    assert director.ready


def test_the_directors_own_cable_can_be_pulled_and_put_back(lab: Lab, director: LabDirector) -> None:
    """With the link go its routes and its IPv6 addresses, the VIP among them."""
    lab.director_host.link_down()
    assert "eth0 is down or has no carrier" in problems(director)
    wait_until(
        lambda: "what was known last holds" in problems(director),
        "the backends are not judged meanwhile",
        5.0,
    )
    lab.director_host.link_up()

    wait_until(lambda: director.ready, "nothing is wrong any more")
    wait_until(lambda: f" {VIP6}/128 " in addresses(lab), "the VIP is back")
    assert director.ready
    assert {answering(lab.client, vip) for vip in (VIP4, VIP6) for _ in range(4)} == {"backend1", "backend2"}


def addresses(lab: Lab) -> str:
    return lab.director_host.run("ip", "-brief", "address", "show", "eth0").stdout


def test_nothing_is_left_after_the_lab(lab_factory: Callable[..., Lab]) -> None:
    name = "t_daemon_ends"
    with Lab(name, backends=1) as lab:
        lab.nginx("backend1")
        paths = lab.topology.instance
        director = lab.director(web_configuration(lab.topology.backend_nodes, check=CHECK))
        everything = [paths.pins, paths.run, paths.state.parent, ROOT / name]
        inhabitants = inside(namespaces(name))
        assert director.pid in {process.pid for process in inhabitants}
        assert all(path.exists() for path in everything)

    assert not any(process.alive for process in inhabitants)
    assert namespaces(name) == []
    assert [path for path in everything if path.exists()] == []
    assert [process for process in everybody() if paths.name in process.command] == []


def everybody() -> list[Process]:
    return [Process.of(int(path.name)) for path in Path("/proc").iterdir() if path.name.isdigit()]
