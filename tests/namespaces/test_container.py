# SPDX-License-Identifier: Apache-2.0
"""contrib/container: an image for CI in which `xdpdirector replay` works with three capabilities, not with two."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.containerfile import CHECKOUT, Container
from tests.support.wheels import build

pytestmark = [pytest.mark.network, pytest.mark.root]

ENOUGH = {"bpf", "net_admin", "perfmon"}
REPLAY = ("replay", "captures/web.pcap", "--config", "director.yaml")


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    """With examples/packet-tests as its work."""
    with tempfile.TemporaryDirectory(prefix="xdpdirector-container-", dir="/var/tmp") as name:
        place = Path(name)
        place.chmod(0o755)
        (place / "context").mkdir()
        shutil.copy(build(place), place / "context")
        made = Container(
            CHECKOUT / "contrib" / "container" / "Containerfile", place / "context", place / "root"
        )
        shutil.copytree(CHECKOUT / "examples" / "packet-tests", made.root / "work", dirs_exist_ok=True)
        yield made


def test_a_capture_is_replayed_and_nothing_is_left(container: Container) -> None:
    done = container.run(ENOUGH, *REPLAY)

    assert done.returncode == 0, done.stderr
    assert "forward  forward_new              9" in done.stdout
    assert done.stdout.splitlines()[-1] == "0"


@pytest.mark.parametrize("lacking", sorted(ENOUGH))
def test_two_capabilities_are_too_few(container: Container, lacking: str) -> None:
    done = container.run(ENOUGH - {lacking}, *REPLAY)

    assert done.returncode == 6
    assert "give CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON" in done.stderr


def test_pytests_fixtures_for_captures_work_in_it(container: Container) -> None:
    done = container.run(
        ENOUGH, "-q", "-p", "no:cacheprovider", "tests/test_captures.py", entry_point=["pytest"]
    )

    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
