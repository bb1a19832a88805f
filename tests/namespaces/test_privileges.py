# SPDX-License-Identifier: Apache-2.0
"""The daemon as a user of its own: what it may, what it cannot, and whom its files keep out."""

import contextlib
import grp
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.support.lab_client import Conversation, answering
from tests.support.lab_director import (
    MARGIN,
    becomes,
    view,
)
from tests.support.processes import children, is_alive
from tests.support.unprivileged import CAPABILITIES, NOT_ALLOWED, USER, as_user, status_of
from xdpdirector.client import backend_path, service_path
from xdpdirector.errors import DirectorError
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import SERVICE
from xdpdirector.lab.director import READY_WITHIN, LabDirector
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.lab.waiting import wait_until
from xdpdirector.system.privileges import Account

pytestmark = [pytest.mark.root, pytest.mark.backends(2), pytest.mark.user(USER)]

OTHER_VIP = "192.0.2.11"
NET_ADMIN, NET_RAW = 1 << 12, 1 << 13


def warns_of_nothing(director: LabDirector) -> None:
    """That another helper of the checks serves now is noted for a while."""
    wait_until(lambda: director.client.get("/readyz")["warnings"] == [], "nothing is warned of", 20.0)


def test_it_has_two_capabilities_and_no_way_to_others(director: LabDirector) -> None:
    status, account = status_of(director), Account.of(USER)

    assert {status[each].split()[0] for each in ("Uid", "Gid")} == {str(account.uid), str(account.gid)}
    assert {int(status[f"Cap{each}"], 16) for each in ("Prm", "Eff", "Bnd", "Amb")} == {NET_ADMIN | NET_RAW}
    assert status["NoNewPrivs"] == "1"


def test_it_can_type_nothing_into_the_terminal_of_root_who_started_it(director: LabDirector) -> None:
    director.stop()
    line = ("script", "--quiet", "--command", shlex.join(director.command), "/dev/null")
    session = director.host.popen(*line, role="terminal")
    try:
        wait_until(
            lambda: director.ready or session.poll() is not None, "the director is ready", READY_WITHIN
        )
        daemon = int(director.paths.lock.read_text())
        status = Path(f"/proc/{daemon}/status").read_text()
        os.kill(daemon, signal.SIGTERM)
        session.wait(timeout=30)
    finally:
        session.kill()
        director.start()

    assert "Seccomp:\t2" in status  # SECCOMP_MODE_FILTER


def test_a_full_life(lab: Lab, director: LabDirector) -> None:
    """A change, a VIP, a death, an explanation, a drain and a restart, under a running connection."""
    client, program = director.client, lab.director_host.xdp_program()
    with Conversation(lab.client, VIP4) as conversation:
        client.post(
            "/v1/services",
            {
                "name": "other",
                "listeners": [f"{OTHER_VIP}:80/tcp"],
                "backends": {"backend1": {"address": view(director, "backend1")["address"]}},
            },
        )
        explained = client.post(
            "/v1/explain",
            {"client": "192.0.2.100", "client_port": 40000, "vip": str(VIP4), "port": 80, "protocol": "tcp"},
        )
        lab.host("backend2").link_down()
        becomes(director, "backend2", "down")
        lab.host("backend2").link_up()
        becomes(director, "backend2", "up")
        client.post(f"{backend_path(SERVICE, 'backend2')}/drain")
        director.stop()
        director.start()

        assert explained["backend"] in ("backend1", "backend2")
        assert f" {OTHER_VIP}/32 " in lab.director_host.run("ip", "-brief", "address").stdout
        assert lab.director_host.xdp_program() == program
        assert view(director, "backend2")["admin"] == "drain"
        assert conversation.who() == conversation.backend
    client.post(f"{backend_path(SERVICE, 'backend2')}/enable")
    client.delete(service_path("other"))
    assert {answering(lab.client, vip) for vip in (VIP4, VIP6) for _ in range(4)} == {"backend1", "backend2"}


def test_it_is_adopted_without_root_at_all(lab: Lab, director: LabDirector) -> None:
    """As systemd starts it, with User= and AmbientCapabilities=."""
    program = lab.director_host.xdp_program()
    director.stop()

    child = lab.director_host.popen(
        *as_user(USER, *director.command, capabilities=CAPABILITIES), role="unprivileged"
    )
    try:
        wait_until(lambda: director.ready, "the director is ready", READY_WITHIN)
        client = director.client
        client.patch(backend_path(SERVICE, "backend1"), {"weight": 3})
        wait_until(lambda: client.get("/readyz")["warnings"], "it tells what it cannot see")
        warning = client.get("/readyz")["warnings"][0]

        assert "let root start the daemon" in warning
        assert lab.director_host.xdp_program() == program
        assert answering(lab.client, VIP4)
    finally:
        child.terminate()
        child.wait(timeout=10)
        director.start()
    assert client.patch(backend_path(SERVICE, "backend1"), {"weight": 1})["weight"] == 1


def test_checks_see_a_vip_that_a_server_has_lost(lab: Lab, director: LabDirector) -> None:
    """Over the checks' namespace, which the daemon's user could not make."""
    victim = lab.host("backend2")
    victim.run("ip", "address", "del", f"{VIP4}/32", "dev", "lo")
    becomes(director, "backend2", "partial")  # its other VIP is there
    reason = view(director, "backend2")["reason"]
    victim.run("ip", "address", "add", f"{VIP4}/32", "dev", "lo")
    becomes(director, "backend2", "up")

    assert f"the VIP {VIP4}" in reason
    warns_of_nothing(director)


def test_checks_of_sctp_have_raw_sockets(lab: Lab, director: LabDirector) -> None:
    """From the helper, which carries the right to them; no kernel's SCTP is needed."""
    responder = [sys.executable, "-m", "tests.support.sctp_responder", "3868"]
    process = lab.host("backend1").popen(*responder, role="sctp", stdin=subprocess.PIPE)
    service = {
        "listeners": [f"{VIP4}:3868/sctp", f"[{VIP6}]:3868/sctp"],
        "check": {"type": "sctp", "interval": "500ms", "timeout": "400ms", "rise": 1, "fall": 1},
        "backends": {name: {"address": view(director, name)["address"]} for name in ("backend1", "backend2")},
    }
    director.client.post("/v1/services", {"name": "diameter", **service})
    try:
        becomes(director, "backend1", "up", service="diameter")
        becomes(director, "backend2", "down", service="diameter")
        assert view(director, "backend1", service="diameter")["vips"][0]["operational"] == "up"
    finally:
        director.client.delete(service_path("diameter"))
        process.terminate()
        process.wait(timeout=10)


def test_programs_that_check_have_no_capability_and_the_socket_a_group(
    lab: Lab, director: LabDirector
) -> None:
    """The daemon's user is not in that group: root gives it along."""
    before = director.configuration.read_text()
    nothing = f"{0:016x}"
    script = (
        f"grep -q 'CapEff:.*{nothing}' /proc/self/status && grep -q 'CapPrm:.*{nothing}' /proc/self/status"
    )
    check = {"type": "exec", "command": ["/bin/sh", "-c", script], "interval": "1s", "timeout": "1s"}
    service = {
        "listeners": [f"{VIP4}:81/tcp"],
        "check": {**check, "rise": 1},
        "backends": {"backend1": {"address": view(director, "backend1")["address"]}},
    }
    director.stop()
    options = "checks: {allow_exec: [/bin/sh]}\napi: {group: audio}\n"
    director.configuration.write_text(before + options)
    director.start()

    director.client.post("/v1/services", {"name": "checked", **service})

    becomes(director, "backend1", "up", service="checked")
    socket = director.paths.socket.stat()
    assert (oct(socket.st_mode)[-3:], socket.st_gid) == ("660", grp.getgrnam("audio").gr_gid)
    director.client.delete(service_path("checked"))
    director.stop()
    director.configuration.write_text(before)
    director.start()


@pytest.mark.smoke
def test_who_gives_sockets_ends_with_the_daemon(director: LabDirector) -> None:
    (giver,) = children(director.pid)
    status = Path(f"/proc/{giver}/status").read_text()
    director.kill()

    wait_until(lambda: not is_alive(giver), "the giver is gone")
    director.start()
    becomes(director, "backend1", "up")

    assert f"CapPrm:\t{NET_ADMIN | NET_RAW:016x}" in status
    assert f"Uid:\t{Account.of(USER).uid}\t" in status


def test_who_gives_sockets_may_end_or_stall(lab: Lab, director: LabDirector) -> None:
    """No verdict falls by that, and checks go on: each time a server that ends is noticed."""
    becomes(director, "backend1", "up")
    since = view(director, "backend1")["since"]
    (keeper,) = children(director.pid)
    for victim, signals in (
        ("who serves", signal.SIGKILL),
        ("who serves", signal.SIGSTOP),
        ("who waits", signal.SIGSTOP),
        ("who waits", signal.SIGCONT),
        ("who waits", signal.SIGKILL),
    ):
        wait_until(lambda: len(children(keeper)) == 1, "somebody serves")
        os.kill(children(keeper)[0] if victim == "who serves" else keeper, signals)
        lab.nginx("backend2").stop()
        becomes(director, "backend2", "down")
        lab.nginx("backend2").start()
        becomes(director, "backend2", "up")

    assert view(director, "backend1")["since"] == since
    warns_of_nothing(director)
    director.stop()
    director.start()


def test_without_anybody_who_gives_sockets_verdicts_stay_and_it_is_said(director: LabDirector) -> None:
    for name in ("backend1", "backend2"):
        becomes(director, name, "up")
    since = [view(director, name)["since"] for name in ("backend1", "backend2")]
    (keeper,) = children(director.pid)
    os.kill(keeper, signal.SIGSTOP)  # so that it starts nobody
    (serving,) = children(keeper)
    os.kill(serving, signal.SIGKILL)
    os.kill(keeper, signal.SIGKILL)

    wait_until(lambda: warned(director, "restart the daemon"), "it is said")
    wait_until(lambda: not director.ready, "a director that sees nothing is not ready", 10 + MARGIN)
    assert [view(director, name)["since"] for name in ("backend1", "backend2")] == since
    assert "xdpdirector_check_impossible_total" in director.client.text("/metrics", "text/plain")[0]
    director.stop()
    director.start()
    wait_until(lambda: director.ready, "it is ready again")


def warned(director: LabDirector, words: str) -> bool:
    with contextlib.suppress(DirectorError):
        return any(words in warning for warning in director.client.get("/readyz")["warnings"])
    return False


def test_a_program_that_somebody_takes_off_is_put_back(lab: Lab, director: LabDirector) -> None:
    lab.director_host.run("ip", "link", "set", "dev", "eth0", "xdp", "off")

    wait_until(lambda: lab.director_host.xdp_program(), "the program is back", 5 + MARGIN)

    assert director.ready


@pytest.mark.parametrize(
    ("capabilities", "missing"),
    [("-all", "CAP_NET_ADMIN and CAP_NET_RAW"), ("-all,+net_admin", "privileges, CAP_NET_RAW:")],
    ids=["none", "not all"],
)
def test_without_its_capabilities_it_says_what_is_missing(
    director: LabDirector, capabilities: str, missing: str
) -> None:
    done = director.host.run(
        *as_user(USER, *director.command, capabilities=capabilities), check=False, timeout=30
    )

    assert done.returncode == NOT_ALLOWED
    assert missing in done.stderr
    assert "AmbientCapabilities" in done.stderr


def test_it_loads_nothing_and_says_who_must(lab: Lab, director: LabDirector) -> None:
    """A configuration of other sizes needs other maps."""
    director.stop()
    other = director.configuration.with_name("other.yaml")
    document = YAML().load(director.configuration)
    with other.open("w") as file:
        YAML().dump({**document, "sizes": {"services": 17}}, file)
    line = [*director.command[:-1], str(other)]

    done = director.host.run(*as_user(USER, *line, capabilities=CAPABILITIES), check=False)
    director.start()

    assert done.returncode == NOT_ALLOWED
    assert "run `xdpdirector load` as root" in done.stderr


def test_a_user_that_does_not_exist_is_named(director: LabDirector) -> None:
    other = director.configuration.with_name("nobody.yaml")
    other.write_text(director.configuration.read_text().replace(f"user: {USER}", "user: no-such-user"))

    done = director.host.run(*director.command[:-1], str(other), check=False)

    assert done.returncode == 2
    assert "useradd --system" in done.stderr
