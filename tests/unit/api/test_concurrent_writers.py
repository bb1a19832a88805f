# SPDX-License-Identifier: Apache-2.0
"""Many writers race: no update is lost, whatever way they write."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import concurrent_writers
from tests.support.concurrent_writers import Writer, race
from tests.support.staged_daemon import StagedDaemon

WEB, WEB1 = "/v1/services/web", "/v1/services/web/backends/web1"
MOST = 50
BACKENDS = {f"web{number}": {"address": f"192.0.2.{100 + number}"} for number in range(MOST)}

WRITERS = pytest.mark.parametrize("writers", [12, pytest.param(MOST, marks=pytest.mark.soak)])


@pytest.fixture
def daemon() -> Iterator[StagedDaemon]:
    with StagedDaemon() as daemon:
        daemon.client.post(
            "/v1/services", {"name": "web", "listeners": ["192.0.2.10:80/tcp"], "backends": BACKENDS}
        )
        yield daemon


def weights(daemon: StagedDaemon) -> dict[str, int]:
    return {each["name"]: each["weight"] for each in daemon.client.get(WEB)["backends"]}


def revision(daemon: StagedDaemon) -> int:
    number: int = daemon.client.get("/readyz")["revision"]
    return number


def in_the_plane(daemon: StagedDaemon) -> dict[str, int]:
    return {member.name: member.weight for member in daemon.stage.plane.plans["web"].members}


@WRITERS
def test_every_conditional_patch_lands(daemon: StagedDaemon, writers: int) -> None:
    before = revision(daemon)

    _, lost = race(
        daemon.socket, writers, lambda writer: writer.change("PATCH", WEB1, concurrent_writers.weigh_more)
    )

    assert weights(daemon)["web1"] == 1 + writers
    assert in_the_plane(daemon) == weights(daemon)
    assert revision(daemon) - before == writers
    assert lost > 0, "nobody raced"


@WRITERS
def test_every_conditional_replacement_lands(daemon: StagedDaemon, writers: int) -> None:
    edit = concurrent_writers.weigh_more_in("web", "web1")

    _, lost = race(daemon.socket, writers, lambda writer: writer.change("PUT", "/v1/config", edit))

    assert weights(daemon)["web1"] == 1 + writers
    assert in_the_plane(daemon) == weights(daemon)
    assert lost > 0, "nobody raced"


@WRITERS
def test_patches_of_different_fields_need_no_condition(daemon: StagedDaemon, writers: int) -> None:
    def act(writer: Writer) -> int:
        change: dict[str, Any] = {"backends": {f"web{writer.number}": {"weight": 2 + writer.number}}}
        return writer.ask("PATCH", WEB, change).status

    results, _ = race(daemon.socket, writers, act)

    assert results == [200] * writers
    assert weights(daemon) == dict.fromkeys(BACKENDS, 1) | {
        f"web{number}": 2 + number for number in range(writers)
    }
    assert in_the_plane(daemon) == weights(daemon)


@WRITERS
def test_what_has_one_key_is_made_once(daemon: StagedDaemon, writers: int) -> None:
    before = revision(daemon)
    body = {"name": "late", "address": "192.0.2.99"}

    results, _ = race(daemon.socket, writers, concurrent_writers.make_once(f"{WEB}/backends", body))

    assert concurrent_writers.statuses(results) == {(201, False): 1, (201, True): writers - 1}
    assert len({answer.document["since"] for answer in results}) == 1
    assert revision(daemon) - before == 1
