# SPDX-License-Identifier: Apache-2.0
"""The files of examples/designs are valid, are what the commands write, and are all in docs/designs.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.designs import DESIGNS, text
from xdpdirector.config import config_file
from xdpdirector.ha.keepalived import Vrrp, render
from xdpdirector.lab import bird
from xdpdirector.lab.topology import VIP4, VIP6, Topology

FILES = sorted(DESIGNS.rglob("*.yaml"))
LAB = Topology("designs", backends=2, directors=3, router=True)
"""Its hosts have the addresses of the designs."""
READY = "/usr/bin/xdpdirector -i default status --ready"


@pytest.mark.parametrize("file", FILES, ids=[f"{file.parent.name}/{file.name}" for file in FILES])
def test_every_file_is_valid(file: Path) -> None:
    assert config_file.load(file).services


def test_birds_files_are_what_bird_config_writes() -> None:
    for number, node in enumerate(LAB.director_nodes, 1):
        assert text(f"several-directors/bird{number}.conf") == bird.of_director(LAB, node)


def test_keepaliveds_files_are_what_keepalived_config_writes() -> None:
    first, second = (node.ipv4 for node in LAB.director_nodes[:2])

    for number, (own, other, priority) in enumerate(((first, second, 250), (second, first, 240)), 1):
        vrrp = Vrrp((VIP4, VIP6), "eth0", READY, own=(own,), peers=(other,), priority=priority)
        assert text(f"pair/keepalived{number}.conf") == render(vrrp)


def test_the_document_leads_to_every_file() -> None:
    """To one of backend.conf, which is the same in all designs."""
    shown = (DESIGNS.parents[1] / "docs" / "designs.md").read_text()
    files = {path.relative_to(DESIGNS).as_posix() for path in DESIGNS.rglob("*") if path.is_file()}
    backends = {text(name) for name in files if name.endswith("/backend.conf")}

    assert len(backends) == 1
    assert [
        name
        for name in sorted(files)
        if not name.endswith("/backend.conf") and f"](../examples/designs/{name})" not in shown
    ] == []
