# SPDX-License-Identifier: Apache-2.0
"""250 backends that come and go once a second: how often the plane is told, and that the end is right."""

import asyncio
import random
import time
from collections import Counter
from ipaddress import ip_address
from typing import Any

import pytest

from tests.support.fake_plane import FakePlane
from tests.support.stage import (
    CHECK,
    Stage,
    service,
    story,
    until,
)
from xdpdirector.control.reconciler import APPLY_APART
from xdpdirector.dataplane.service_plan import ServicePlan
from xdpdirector.model import BackendSpec
from xdpdirector.model.status import Operational

BACKENDS, SECONDS = 250, 2.0
ADDRESSES = {f"b{number:03}": ip_address("198.51.100.0") + 1 + number for number in range(BACKENDS)}


def flapping(number: int) -> Any:
    """A service of all of them. Each backend is in it."""
    specs = {name: BackendSpec.model_validate({"address": str(ADDRESSES[name])}) for name in ADDRESSES}
    return service(scheduler="mh", check=CHECK, backends=specs, listener=f"192.0.2.{10 + number}:80/tcp")


class CountingPlane(FakePlane):
    """Counts by service how often it is told of other members: a ring is filled anew then, and only then."""

    def __init__(self) -> None:
        super().__init__()
        self.rebuilt: Counter[str] = Counter()

    def apply(self, plan: ServicePlan, now: float) -> int:
        before = self.plans.get(plan.name)
        self.rebuilt[plan.name] += before is None or before.members != plan.members
        return super().apply(plan, now)


async def flap(stage: Stage, until_when: float) -> None:
    """About one change a second of each, spread over time."""
    state = dict.fromkeys(stage.checks.running, Operational.UNKNOWN)
    keys = list(state)
    while time.monotonic() < until_when:
        for key in random.sample(keys, len(keys) // 20):
            state[key] = Operational.DOWN if state[key] is Operational.UP else Operational.UP
            stage.checks.say(key, state[key], "is tired")
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("services", [1, 2])
@story
async def test_no_ring_is_rebuilt_more_than_ten_times_a_second(services: int) -> None:
    plane = CountingPlane()
    stage = Stage(plane, **{f"web{number}": flapping(number) for number in range(services)})
    for number, address in enumerate(ADDRESSES.values()):
        stage.neighbours.learn(address, bytes.fromhex("02000001") + number.to_bytes(2))
    async with stage:
        plane.rebuilt.clear()
        begun = time.monotonic()
        upkeep = asyncio.create_task(_upkeep_often(stage))
        await flap(stage, begun + SECONDS)
        upkeep.cancel()
        await asyncio.gather(upkeep, return_exceptions=True)
        rounds = (time.monotonic() - begun) / APPLY_APART + 1

        for number in range(services):
            assert 2 < plane.rebuilt[f"web{number}"] <= rounds
        await until(lambda: all(_as_said(stage, key) for key in stage.checks.running))


async def _upkeep_often(stage: Stage) -> None:
    while True:
        await asyncio.sleep(0.03)
        await stage.reconciler.upkeep()


def _as_said(stage: Stage, key: tuple[str, str]) -> bool:
    (report,) = stage.checks.reports(key).values()
    up = report.operational is Operational.UP
    return stage.member(key).accepts == up
