# SPDX-License-Identifier: Apache-2.0
"""A director leaves its host, as when its package is removed: program, pins and VIPs go, what is others' stays."""

from collections.abc import Callable

import pytest
from directing import CHECK, command, directing

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
