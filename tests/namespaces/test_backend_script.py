# SPDX-License-Identifier: Apache-2.0
"""contrib/backend/xdpdirector-backend makes a host a backend, can be repeated, and can be taken back."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from xdpdirector.lab import Lab
from xdpdirector.lab.host import Host

pytestmark = pytest.mark.root

SCRIPT = Path(__file__).parents[2] / "contrib" / "backend" / "xdpdirector-backend"
FOUR, OTHER, SIX = "198.51.100.80", "198.51.100.81", "2001:db8:80::1"
ARP = ("net.ipv4.conf.all.arp_ignore", "net.ipv4.conf.all.arp_announce")

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def host(lab_factory: Callable[..., Lab]) -> Host:
    return lab_factory(backends=1).client


@pytest.fixture
def run(host: Host, tmp_path: Path) -> Run:
    """The script with a file of these lines."""
    environment = {
        "XDPDIRECTOR_BACKEND_CONF": str(tmp_path / "backend.conf"),
        "XDPDIRECTOR_BACKEND_STATE": str(tmp_path / "state"),
    }

    def do(verb: str, *lines: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        (tmp_path / "backend.conf").write_text("".join(f"{line}\n" for line in lines))
        words = [f"{name}={value}" for name, value in environment.items()]
        return host.run("env", f"PATH={os.environ['PATH']}", *words, "sh", str(SCRIPT), verb, check=check)

    return do


def on_loopback(host: Host) -> set[str]:
    words = host.run("ip", "-brief", "address", "show", "dev", "lo").stdout.split()
    return {word.split("/")[0] for word in words if "/" in word} - {"127.0.0.1", "::1"}


def test_vips_come_and_go_as_the_file_says(host: Host, run: Run) -> None:
    run("up", "# a comment", FOUR, f"{SIX} # and another")
    first = on_loopback(host)
    status = run("status", FOUR, SIX).stdout
    run("up", FOUR, OTHER)
    second = on_loopback(host)
    arp = [host.run("sysctl", "-n", name).stdout.strip() for name in ARP]
    run("down", FOUR, OTHER)

    assert first == {FOUR, SIX}
    assert f"{SIX} is on lo" in status
    assert second == {FOUR, OTHER}
    assert arp == ["1", "2"]
    assert on_loopback(host) == set()


def test_it_can_be_repeated_and_leaves_what_others_put_there(host: Host, run: Run) -> None:
    host.run("ip", "address", "add", f"{OTHER}/32", "dev", "lo")
    run("up", FOUR, OTHER)
    again = run("up", FOUR, OTHER).stdout
    run("down", FOUR, OTHER)
    run("down", FOUR, OTHER)
    left = on_loopback(host)
    host.run("ip", "address", "del", f"{OTHER}/32", "dev", "lo")

    assert again == ""
    assert left == {OTHER}


def test_an_ipv6_vip_is_used_at_once_and_never_a_source(host: Host, run: Run) -> None:
    run("up", SIX)

    shown = host.run("ip", "-6", "address", "show", "dev", "lo", "to", SIX).stdout
    run("down")

    assert "nodad" in shown
    assert "tentative" not in shown
    assert "deprecated" in shown


def test_status_tells_what_is_missing(host: Host, run: Run) -> None:
    run("up", FOUR)
    host.run("ip", "address", "del", f"{FOUR}/32", "dev", "lo")

    done = run("status", FOUR, check=False)
    run("down")

    assert done.returncode == 1
    assert f"{FOUR} is missing" in done.stdout


@pytest.mark.parametrize(
    ("line", "says"),
    [("192.0.2.10/24", "has a prefix length"), ("web.example.com", "is no address")],
    ids=["a network", "a name"],
)
def test_what_is_no_vip_is_refused_by_name(host: Host, run: Run, line: str, says: str) -> None:
    done = run("up", line, check=False)
    run("down")

    assert done.returncode == 2
    assert f"'{line}' {says}" in done.stderr
    assert on_loopback(host) == set()


def test_without_the_modules_for_tunnels_it_says_so(host: Host, run: Run) -> None:
    """tests/vm/test_tunnels.py has them."""
    if host.run("ip", "link", "show", "tunl0", check=False).returncode == 0:
        pytest.skip("this kernel has ipip built in")

    done = run("up", FOUR, "ipip", check=False)
    status = run("status", FOUR, "ipip", check=False)
    run("down", FOUR)

    assert done.returncode == 1
    assert "none of the modules ipip, sit and ip6_tunnel" in done.stderr
    assert "does not take ipip off" in status.stdout
    assert on_loopback(host) == set()
