# SPDX-License-Identifier: Apache-2.0
"""Debian's kernel takes off what the director puts on: tunl0, sit0, ip6tnl0 and fou, as `xdpdirector-backend` sets
them up. The kernel that runs the other tests has none of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.curl import answers
from tests.support.far_backends import FAR4, FAR6, move_away
from tests.support.slowness import CHECK, PATIENCE
from xdpdirector.client import backend_path
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import SERVICE, web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.lab.waiting import wait_until

SCRIPT = Path(__file__).parents[2] / "contrib" / "backend" / "xdpdirector-backend"
BACKENDS = {
    "ipip4": {"address": FAR4.format(1), "forward": "ipip"},
    "ipip6": {"address": FAR6.format(1), "forward": "ipip"},
    "gue4": {"address": FAR4.format(2), "forward": "gue"},
    "gue6": {"address": FAR6.format(2), "forward": "gue"},
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab("vm_far", backends=2, router=True) as lab:
        move_away(lab)
        for host, tunnel in zip(lab.backends, ("ipip", "gue:6080"), strict=True):
            place = tmp_path_factory.mktemp(host.name)
            (place / "backend.conf").write_text(f"{VIP4}\n{VIP6}\n{tunnel}\n")
            words = (
                f"XDPDIRECTOR_BACKEND_CONF={place / 'backend.conf'}",
                f"XDPDIRECTOR_BACKEND_STATE={place / 'state'}",
                f"PATH={os.environ['PATH']}",
            )
            for verb in ("up", "status"):
                print(host.run("env", *words, "sh", str(SCRIPT), verb).stdout)
        yield lab


@pytest.fixture(scope="module")
def configuration(lab: Lab) -> Mapping[str, object]:
    """Each server by two ways: in both IP versions."""
    document = web_configuration(lab.topology.backend_nodes, check=CHECK)
    document["services"][SERVICE]["backends"] = BACKENDS
    return document


@pytest.mark.parametrize("name", BACKENDS)
def test_checks_go_through_the_tunnel_to_both_vips(lab: Lab, director: LabDirector, name: str) -> None:
    def is_up() -> bool:
        return bool(director.client.get(backend_path(SERVICE, name))["operational"] == "up")

    wait_until(is_up, f"{name} is up", PATIENCE)


@pytest.mark.parametrize("name", BACKENDS)
def test_clients_of_both_ip_versions_are_served_through_the_tunnel(
    lab: Lab, director: LabDirector, name: str
) -> None:
    others = [other for other in BACKENDS if other != name]
    for other in others:
        director.client.patch(backend_path(SERVICE, other), {"weight": 0})
    try:
        seen = answers(lab)
    finally:
        for other in others:
            director.client.patch(backend_path(SERVICE, other), {"weight": 1})

    assert set(seen) == {"backend1" if name.startswith("ipip") else "backend2"}
