# SPDX-License-Identifier: Apache-2.0
"""Verdicts of a fleet's majority: what counts, and who calls itself not ready."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tests.support.stage as s
from tests.support.etcd import Etcd, needed
from tests.support.fleet import FleetStage, agreed, directors
from tests.support.stage import VIP, WEB1, configuration, story
from xdpdirector.control.fleet_health import MARGIN, FleetHealth
from xdpdirector.health.rise_fall import HealthReport
from xdpdirector.model import Configuration, ServiceSpec
from xdpdirector.model.checks import TcpCheck
from xdpdirector.model.fleet import DirectorDrainReport, DirectorReport, DrainState
from xdpdirector.model.status import Operational, utc_now
from xdpdirector.model.store import StoreSpec

ADDRESS, VIP_TEXT = VIP, str(VIP)
CHECK = TcpCheck(type="tcp", interval=2.0, timeout=1.0, fall=3)
PATIENCE = 2.0 * 3 + 1.0 + MARGIN
WEB = s.service("web1", "web2").model_copy(update={"check": CHECK})
UP, DOWN, UNKNOWN = (
    HealthReport(each, why, 0.0)
    for each, why in (
        (Operational.UP, ""),
        (Operational.DOWN, "timed out"),
        (Operational.UNKNOWN, ""),
    )
)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def report(name: str, *, is_down: bool, **fields: object) -> DirectorReport:
    down = {"/".join(WEB1): (VIP_TEXT,)} if is_down else {}
    return DirectorReport(name=name, ready=True, down=down).model_copy(update=fields)


def reports(*down: bool, first: int = 2) -> dict[str, DirectorReport]:
    return {f"d{n}": report(f"d{n}", is_down=each) for n, each in enumerate(down, first)}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> FleetHealth:
    return FleetHealth(lambda: {"web": WEB}, clock)


@pytest.mark.parametrize(
    ("here", "others", "counts"),
    [
        pytest.param(DOWN, (), DOWN, id="alone"),
        pytest.param(DOWN, (False,), UP, id="one of two is no majority"),
        pytest.param(UP, (True,), UP, id="nor the other one"),
        pytest.param(DOWN, (True,), DOWN, id="both"),
        pytest.param(DOWN, (False, False), UP, id="only here"),
        pytest.param(UP, (True, True), DOWN, id="only not here"),
        pytest.param(DOWN, (True, False), DOWN, id="two of three"),
        pytest.param(UNKNOWN, (True, True), UNKNOWN, id="unknown stays unknown"),
    ],
)
def test_the_majority_counts(
    health: FleetHealth, here: HealthReport, others: tuple[bool, ...], counts: HealthReport
) -> None:
    health.take(report("d1", is_down=here is DOWN), reports(*others))
    assert health.of(WEB1, ADDRESS, here).operational is counts.operational


def test_a_verdict_of_a_moment_ago_is_one_vote(health: FleetHealth) -> None:
    health.take(report("d1", is_down=False), reports(False, False))
    assert health.of(WEB1, ADDRESS, DOWN).operational is Operational.UP
    health.take(report("d1", is_down=False), {})
    assert health.of(WEB1, ADDRESS, DOWN).operational is Operational.DOWN


def test_who_does_not_know_has_no_vote(health: FleetHealth) -> None:
    mute = report("d3", is_down=False, down=None)
    undecided = report("d4", is_down=False, undecided=("/".join(WEB1),))
    health.take(report("d1", is_down=True), {**reports(True), "d3": mute, "d4": undecided})
    found = health.of(WEB1, ADDRESS, DOWN)
    assert found.operational is Operational.DOWN
    assert found.reason == "down at 2 of 2 directors: d1, d2 (timed out)"


def test_what_changes_is_told(health: FleetHealth) -> None:
    assert health.take(report("d1", is_down=False), reports(True, False)) == {"web"}
    assert health.take(report("d1", is_down=False), reports(True, False)) == set()
    assert health.take(report("d1", is_down=False), reports(False, False)) == {"web"}


def test_who_alone_does_not_reach_it_is_not_ready_after_a_while(health: FleetHealth, clock: Clock) -> None:
    for after, is_ready in ((0.0, True), (PATIENCE, True), (0.5, False), (60.0, False)):
        clock.now += after
        health.take(report("d1", is_down=True), reports(False, False))
        assert (health.problems() == []) is is_ready
    assert health.problems() == [
        "backend web/web1 for VIP 192.0.2.10 is down from here, and up from 2 of 3 directors"
    ]

    health.take(report("d1", is_down=True), reports(True, False))
    assert health.problems() == []


def test_of_two_directors_none_withdraws(health: FleetHealth, clock: Clock) -> None:
    for _ in range(2):
        health.take(report("d1", is_down=True), reports(False))
        clock.now += PATIENCE + 1
    assert health.problems() == []


LEAVES = DirectorDrainReport(state=DrainState.DRAINED, since=utc_now(), flows=0, flows_at_start=0)


@pytest.mark.parametrize(("directors", "stays"), [(3, True), (5, False)])
def test_who_leaves_for_maintenance_is_one_of_those_that_may_be_away(
    health: FleetHealth, clock: Clock, directors: int, stays: bool
) -> None:
    """Of three one may, and it does."""
    others = reports(*([False] * (directors - 1)))
    others["d2"] = others["d2"].model_copy(update={"drain": LEAVES, "apart": True})
    for _ in range(2):
        health.take(report("d1", is_down=True), others)
        clock.now += PATIENCE + 1
    health.take(report("d1", is_down=True, apart=True), others)
    assert (not health.problems()) is stays


@given(st.integers(1, 7).flatmap(lambda count: st.lists(st.booleans(), min_size=count, max_size=count)))
def test_all_agree_and_a_majority_stays(down: list[bool]) -> None:
    """Each of the directors decides by itself, by the same reports."""
    names = [f"d{number}" for number in range(len(down))]
    clock = Clock()
    fleet = {name: FleetHealth(lambda: {"web": WEB}, clock) for name in names}
    for _ in range(2):
        said = {
            name: report(name, is_down=each, apart=fleet[name].is_apart())
            for name, each in zip(names, down, strict=True)
        }
        for name in names:
            fleet[name].take(said[name], {other: said[other] for other in names if other != name})
        clock.now += PATIENCE + 1
    said = {name: each.model_copy(update={"apart": fleet[name].is_apart()}) for name, each in said.items()}
    for name in names:
        fleet[name].take(said[name], {other: said[other] for other in names if other != name})

    counted = {
        fleet[name].of(WEB1, ADDRESS, DOWN if each else UP).operational
        for name, each in zip(names, down, strict=True)
    }
    assert len(counted) == 1
    assert counted == {Operational.DOWN if 2 * sum(down) > len(down) else Operational.UP}
    withdrawn = [name for name in names if fleet[name].problems()]
    assert len(withdrawn) * 2 < max(2, len(names))


# In a fleet


def counting(which: str, services: dict[str, ServiceSpec]) -> Configuration:
    return configuration(**services).model_copy(update={"health": which})


def is_up(stage: FleetStage) -> bool:
    return stage.director.backend(*WEB1).operational is Operational.UP


def all_vote(count: int) -> Callable[[FleetStage], bool]:
    """Whether it knows the verdicts of so many directors on web1: one that still said "undecided" has no vote."""

    def known(stage: FleetStage) -> bool:
        told = [each for each in stage.director.fleet_view().directors if each.down is not None]
        return len(told) == count and not any("/".join(WEB1) in each.undecided for each in told)

    return known


@needed
@pytest.mark.parametrize("which", ["local", "majority"])
@story
async def test_three_directors(spec: StoreSpec, tmp_path: Path, which: str) -> None:
    async with directors(spec, tmp_path, 3, counting(which, {"web": WEB})) as fleet:
        one, two, three = fleet
        for each in fleet:
            for key in each.checks.running:
                each.checks.say(key, Operational.UP)
        await agreed(fleet, lambda stage: is_up(stage) and all_vote(3)(stage))

        one.checks.say(WEB1, Operational.DOWN, "timed out")
        await agreed([two], lambda stage: told_down(stage, "d1"))
        await agreed([one], lambda stage: is_up(stage) is (which == "majority"))
        assert is_up(two)

        two.checks.say(WEB1, Operational.DOWN, "refused")
        await agreed([three], lambda stage: told_down(stage, "d2"))
        await agreed([one, two], lambda stage: not is_up(stage))
        await agreed([three], lambda stage: is_up(stage) is (which == "local"))
        if which == "majority":
            assert "down at 2 of 3 directors: d1, d2" in three.director.backend(*WEB1).reason

        two.checks.say(WEB1, Operational.UP)
        await agreed([two, three], is_up)


def told_down(stage: FleetStage, name: str) -> bool:
    """Whether that director says so, as this one knows."""
    return any(each.name == name and each.down for each in stage.director.fleet_view().directors)


@needed
@story
async def test_without_etcd_each_goes_by_its_own_checks(tmp_path: Path) -> None:
    (tmp_path / "etcd").mkdir()
    with Etcd(tmp_path / "etcd") as etcd:
        async with directors(etcd.spec(), tmp_path, 3, counting("majority", {"web": WEB})) as fleet:
            for each in fleet:
                for key in each.checks.running:
                    each.checks.say(key, Operational.UP)
            await agreed(fleet, lambda stage: is_up(stage) and all_vote(3)(stage))
            fleet[0].checks.say(WEB1, Operational.DOWN, "timed out")
            await agreed(fleet[1:], lambda stage: told_down(stage, "d1"))
            assert is_up(fleet[0])
            etcd.kill()
            await agreed(fleet[:1], lambda stage: not is_up(stage))
            assert is_up(fleet[1])
