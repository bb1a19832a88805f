# SPDX-License-Identifier: Apache-2.0
"""The project's own lab on Debian's kernel: veth, native XDP, real servers, real requests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.curl import REQUESTS, answers
from tests.support.slowness import PATIENCE
from xdpdirector.client import backend_path
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import SERVICE, TARGETS
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.waiting import wait_until


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab("vm", backends=2) as lab:
        yield lab


def test_every_backend_serves(lab: Lab, director: LabDirector) -> None:
    seen = answers(lab)

    assert set(seen) == {"backend1", "backend2"}
    assert seen.total() == REQUESTS * len(TARGETS)


def test_a_drained_backend_takes_no_more_connections(lab: Lab, director: LabDirector) -> None:
    path = backend_path(SERVICE, "backend2")

    director.client.post(f"{path}/drain", {"reason": "a test"})

    assert set(answers(lab)) == {"backend1"}
    director.client.post(f"{path}/enable", {})


def test_a_killed_server_is_noticed(lab: Lab, director: LabDirector) -> None:
    path = backend_path(SERVICE, "backend1")

    lab.nginx("backend1").kill()

    wait_until(lambda: director.client.get(path)["operational"] == "down", "backend1 is down", PATIENCE)
    assert set(answers(lab)) == {"backend2"}
    lab.nginx("backend1")  # for the next test
    director.wait_serving(PATIENCE)
