# SPDX-License-Identifier: Apache-2.0
"""Who is refused leaves no cycles of objects behind: a collection of them keeps the event loop from running."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.api_server import ApiServer
from tests.support.fake_director import FakeDirector
from xdpdirector.client import UnixConnection
from xdpdirector.lab.waiting import wait_until

TIMES = 10
STRANGE = b'{"vip": 7}'


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """Of a server, in a process that collects nothing meanwhile."""
    gc.collect()
    gc.disable()
    try:
        with ApiServer(FakeDirector(), tmp_path / "socket") as server:
            yield server.path
    finally:
        gc.enable()


def ask(path: Path, body: bytes) -> int:
    with closing(UnixConnection(path, 60.0)) as connection:
        connection.request("POST", "/v1/explain", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return answer.status


def test_what_a_validator_raised_is_gone_when_it_is_answered(path: Path) -> None:
    assert {ask(path, STRANGE) for _ in range(TIMES)} == {422}

    def are_gone() -> bool:
        return not any(isinstance(each, ValueError) and "'7'" in str(each) for each in gc.get_objects())

    wait_until(are_gone, "all errors are gone", 60.0)
