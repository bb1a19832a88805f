# SPDX-License-Identifier: Apache-2.0
"""A director leaves its host, as when its package is removed: program, pins and VIPs go, what is others' stays."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.lab_director import CHECK, command, directing
from xdpdirector.errors import ConflictError
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import web_configuration
from xdpdirector.lab.topology import VIP4, VIP6

pytestmark = pytest.mark.root

SOMEBODYS = "192.0.2.77"
PRERM = Path(__file__).parents[2] / "debian" / "xdpdirector.prerm"


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


# With /run, state and bpffs of its own, as the script ends every instance that it finds on the machine.
ALONE = """
mount -t tmpfs tmpfs /run && mkdir /run/netns && mkdir -p /var/lib/xdpdirector &&
mount -t tmpfs tmpfs /var/lib/xdpdirector && mount -t bpf bpf /sys/fs/bpf && exec "$@"
"""
REMOVAL = """
import json, os, subprocess, sys
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.paths import InstancePaths
script, holder = sys.argv[1:]
with Lab("removal", backends=1) as lab:
    lab.nginx("backend1")
    director = LabDirector(lab.director_host, InstancePaths("edge"))
    director.configure(web_configuration(lab.topology.backend_nodes))
    director.start()
    if holder:
        director.paths.lock.write_text(holder)
    done = subprocess.run(["sh", script, "remove"], capture_output=True, text=True)
    print(json.dumps({
        "status": done.returncode, "said": done.stderr, "running": director.pid is not None,
        "program": lab.director_host.xdp_program(), "pins": director.paths.pins.exists(),
        "addresses": lab.director_host.run("ip", "-brief", "address", "show", "dev", "eth0").stdout,
    }))
"""


def removed(tmp_path: Path, holder: str = "") -> dict[str, Any]:
    """What the package's script for its removal does where a daemon runs and systemd does not."""
    for name, line in {
        "xdpdirector": f'exec {sys.executable} -m xdpdirector "$@"',
        "py3clean": ":",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    private = [
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "sh",
        "-c",
        ALONE,
        "sh",
    ]
    done = subprocess.run(
        [*private, sys.executable, "-c", REMOVAL, str(PRERM), holder],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": f"{tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_removal_of_the_package_ends_daemon_and_program(tmp_path: Path) -> None:
    left = removed(tmp_path)

    assert (left["status"], left["running"], left["program"], left["pins"]) == (0, False, None, False), left
    assert str(VIP4) not in left["addresses"]


def test_package_stays_when_its_daemon_cannot_be_ended(tmp_path: Path) -> None:
    left = removed(tmp_path, holder="1")

    assert (left["status"], left["running"]) == (1, True), left
    assert left["program"] is not None
    assert "the package stays, since instance 'edge' could not be ended" in left["said"]
