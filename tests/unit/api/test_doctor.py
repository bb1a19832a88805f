# SPDX-License-Identifier: Apache-2.0
"""/v1/doctor: one examination for all who ask."""

from __future__ import annotations

import threading
from pathlib import Path

from tests.support.api_server import ApiServer
from tests.support.fake_director import FakeDirector
from tests.support.stage import story
from xdpdirector.api.routes.doctor import Doctor

FINDING = {
    "topic": "kernel",
    "level": "warning",
    "text": "the table may grow too full",
    "evidence": "gc_thresh3 is 1024",
    "remedy": "raise it",
}


def test_without_a_doctor_nothing_is_wrong(tmp_path: Path) -> None:
    with ApiServer(FakeDirector(), tmp_path / "api.sock") as server:
        assert server.client.get("/v1/doctor")["items"] == []


@story
async def test_who_asks_at_once_gets_one_examination() -> None:
    times = 0

    def examine() -> list[dict[str, str]]:
        nonlocal times
        times += 1
        return [FINDING]

    doctor = Doctor(examine)

    first, second = await doctor.findings(), await doctor.findings()

    assert [each.model_dump() for each in first] == [FINDING]
    assert first == second
    assert times == 1


@story
async def test_it_examines_beside_the_loop() -> None:
    threads: list[int] = []

    def examine() -> list[dict[str, str]]:
        threads.append(threading.get_ident())
        return []

    await Doctor(examine).findings()

    assert threads != [threading.get_ident()]
