# SPDX-License-Identifier: Apache-2.0
"""The files of examples/designs direct real requests, as they stand there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.lab_client import answering
from tests.support.lab_director import directing
from xdpdirector.config import config_file, yaml_document
from xdpdirector.lab import Lab
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.lab.waiting import wait_until
from xdpdirector.model import Address

pytestmark = pytest.mark.root

DESIGNS = Path(__file__).parents[2] / "examples" / "designs"


def document(file: str) -> dict[str, Any]:
    found = yaml_document.parse((DESIGNS / file).read_text(), file).data
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("file", "two_arm"), [("one-arm/director.yaml", False), ("two-arms/director.yaml", True)]
)
def test_every_backend_answers(lab_factory: Callable[..., Lab], file: str, two_arm: bool) -> None:
    lab = lab_factory(backends=2, two_arm=two_arm)
    for host in lab.backends:
        lab.nginx(host.name)
    seen: set[tuple[Address, str]] = set()

    def all_answered() -> bool:
        seen.update((vip, answering(lab.client, vip)) for vip in (VIP4, VIP6))
        return len(seen) == 4

    with directing(lab, document(file)):
        wait_until(all_answered, "an answer from each backend for each VIP", timeout=60)


FILES = sorted(DESIGNS.rglob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=[f"{file.parent.name}/{file.name}" for file in FILES])
def test_every_file_is_valid(file: Path) -> None:
    assert config_file.load(file).services
