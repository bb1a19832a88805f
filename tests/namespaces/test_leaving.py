# SPDX-License-Identifier: Apache-2.0
"""A director leaves its host, as when its package is removed: program, pins and VIPs go, what is others' stays."""

import os
import sys
from collections.abc import Callable

import pytest
from directing import CHECK, command, directing

from xdpdirector.errors import ConflictError
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import web_configuration
from xdpdirector.lab.topology import VIP4, VIP6

pytestmark = pytest.mark.root

SOMEBODYS = "192.0.2.77"


@pytest.fixture(scope="module")
def lab(lab_factory: Callable[..., Lab]) -> Lab:
    lab = lab_factory(backends=1)
    lab.nginx("backend1")
    return lab


@pytest.mark.parametrize(
    ("state", "place"),
    [
        ("runs", "another network namespace"),
        ("is stopped", "here"),
        ("was killed", "another network namespace"),
    ],
)
def test_unload_of_everything_ends_the_daemon_too(lab: Lab, place: str, state: str) -> None:
    host = lab.director_host
    host.run("ip", "address", "replace", f"{SOMEBODYS}/32", "dev", "eth0")
    with directing(lab, web_configuration(lab.topology.backend_nodes, check=CHECK)) as director:
        {"runs": lambda: None, "is stopped": director.stop, "was killed": director.kill}[state]()
        caller = host if place == "here" else lab.client
        line = [sys.executable, "-m", "xdpdirector", "--instance", director.paths.name]

        caller.run(*line, "unload", "--everything")

        shown = host.run("ip", "-brief", "address", "show", "dev", "eth0").stdout
        assert director.pid is None
        assert host.xdp_program() is None
        assert not director.paths.pins.exists()
        assert f"{SOMEBODYS}/32" in shown
        assert f"{VIP4}/32" not in shown
        assert f"{VIP6}/128" not in shown


def test_what_holds_the_lock_and_cannot_be_seen_is_not_ended(lab: Lab) -> None:
    """As a daemon in another PID namespace: the process that has its number here is another one."""
    with directing(lab, web_configuration(lab.topology.backend_nodes, check=CHECK)) as director:
        daemon, program = director.pid, lab.director_host.xdp_program()
        director.paths.lock.write_text(f"{os.getpid()}\n")

        done = command(director, "unload", "--everything", check=False)

        assert done.returncode == ConflictError.exit_code
        assert "end the daemon of instance" in done.stderr
        assert (director.pid, lab.director_host.xdp_program()) == (daemon, program)


@pytest.mark.parametrize("option", ["", "--vips"], ids=["as it is", "with its VIPs"])
def test_unload_takes_what_it_is_told_to(lab: Lab, option: str) -> None:
    host = lab.director_host
    host.run("ip", "address", "replace", f"{SOMEBODYS}/32", "dev", "eth0")
    with directing(lab, web_configuration(lab.topology.backend_nodes, check=CHECK)) as director:
        director.stop()
        said = command(director, "unload", *filter(None, [option])).stdout
        shown = host.run("ip", "-brief", "address", "show", "dev", "eth0").stdout
        host.run("ip", "address", "del", f"{VIP4}/32", "dev", "eth0", check=False)
        host.run("ip", "address", "del", f"{VIP6}/128", "dev", "eth0", check=False)

    assert host.xdp_program() is None
    assert not director.paths.pins.exists()
    assert f"{SOMEBODYS}/32" in shown
    assert (f"{VIP4}/32" in shown, f"{VIP6}/128" in shown) == ((False, False) if option else (True, True))
    assert (f"took {VIP6} off" in said) is bool(option)
