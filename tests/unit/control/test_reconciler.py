# SPDX-License-Identifier: Apache-2.0
"""The plane follows what is wanted and what is true, and one thing that fails stops nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

import tests.support.stage as s
from tests.support.fake_plane import FakePlane
from tests.support.instruction_count import Instructions
from tests.support.stage import (
    BASE,
    FAR,
    HOSTS,
    MACS,
    ME,
    OTHER_VIP,
    VIP,
    WEB1,
    WEB2,
    Stage,
    story,
    until,
)
from xdpdirector.control.reconciler import APPLY_APART, RESOLVE_WITHIN
from xdpdirector.dataplane.service_plan import ServicePlan, State
from xdpdirector.errors import CapacityError, DataplaneError, InvalidRequestError
from xdpdirector.model import Address, Key, ServiceSpec
from xdpdirector.model.status import Operational
from xdpdirector.net.neighbours import Route

VIP6 = ip_address("2001:db8::10")
WEB3, MAIL3, OLD = ("web", "web3"), ("mail", "web3"), ("old", "web1")


class Picky(FakePlane):
    """Does not take the services in `refused`, nor sweep when `stuck`, nor say what it holds when `lost`;
    `heard` is called for each that it took."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: set[str] = set()
        self.heard: Callable[[str], object] = lambda name: None
        self.stuck = self.lost = False

    def services(self) -> set[str]:
        if self.lost:
            raise OSError(24, "too many open files")
        return super().services()

    def apply(self, plan: ServicePlan, now: float) -> int:
        if plan.name in self.refused:
            raise CapacityError("there is no room")
        done = super().apply(plan, now)
        self.heard(plan.name)
        return done

    async def sweep(self, now: float) -> None:
        if self.stuck:
            raise OSError(12, "Cannot allocate memory")
        await super().sweep(now)


class Unreadable(s.FakeHistory):
    """A mistake in it keeps the store from being tried while it `fails`; `asked` counts the trials."""

    def __init__(self) -> None:
        super().__init__()
        self.fails, self.asked = True, 0

    def look(self) -> None:
        self.asked += 1
        if self.fails:
            raise ValueError("a mistake")


def two(plane: FakePlane | None = None) -> Stage:
    """`web` on web1 and web2, `mail` on web3; all are checked."""
    mail = s.service("web3", listener=f"{VIP}:25/tcp", check=s.CHECK)
    return Stage(plane, web=s.service("web1", "web2", check=s.CHECK), mail=mail)


def accepting(stage: Stage, name: str = "web") -> list[str]:
    return [member.name for member in stage.plane.plans[name].members if member.accepts]


# Start and end


@story
async def test_a_start_brings_everything() -> None:
    async with two() as stage:
        assert set(stage.plane.plans) == {"web", "mail"}
        assert set(stage.checks.running) == {WEB1, WEB2, MAIL3}
        assert stage.neighbours.watched == {HOSTS[name] for name in ("web1", "web2", "web3")}
        assert stage.vips.wanted == {VIP}
        assert stage.director.readiness().ready


@pytest.mark.parametrize(
    ("adopted", "state", "accepts"),
    [
        pytest.param(State.SERVING, State.SERVING, True, id="serving: it goes on"),
        pytest.param(State.DOWN, State.DOWN, False, id="down: it must prove itself"),
        pytest.param(State.MAINTENANCE, State.SERVING, False, id="maintenance: nothing is known"),
        pytest.param(None, State.SERVING, False, id="new: nothing is known"),
    ],
)
@story
async def test_a_restart_goes_on_from_what_the_plane_holds(
    adopted: State | None, state: State, accepts: bool
) -> None:
    plane = FakePlane({WEB1: adopted} if adopted else {})

    async with two(plane) as stage:
        assert (stage.member(WEB1).state, stage.member(WEB1).accepts) == (state, accepts)


@story
async def test_a_restart_does_not_wait_for_the_mac_of_who_was_down_before() -> None:
    stage = two(FakePlane({WEB1: State.SERVING, WEB2: State.DOWN, MAIL3: State.SERVING}))
    stage.neighbours.forget(HOSTS["web2"])

    await asyncio.wait_for(stage.director.start(), RESOLVE_WITHIN / 2)
    await stage.director.close()

    assert stage.member(WEB1).accepts
    assert not stage.member(WEB2).accepts


@story
async def test_a_restart_removes_what_is_not_wanted_any_more() -> None:
    async with two(FakePlane({OLD: State.SERVING})) as stage:
        assert stage.plane.services() == {"web", "mail"}


@story
async def test_a_strict_start_refuses_another_network_before_it_changes_anything() -> None:
    stage = Stage(FakePlane({OLD: State.SERVING}), web=s.service(backends={"far": {"address": str(FAR)}}))

    with pytest.raises(InvalidRequestError, match="web/far") as caught:
        await stage.director.start(strict=True)
    await stage.director.close()

    assert caught.value.pointer == "/services/web/backends/far/address"
    assert stage.plane.services() == {"old"}
    assert stage.vips.wanted == set()


@story
async def test_the_end_leaves_the_plane_as_it_is() -> None:
    async with two() as stage:
        plans = dict(stage.plane.plans)

    assert stage.plane.plans == plans
    assert stage.vips.wanted == {VIP}


# News


@story
async def test_a_verdict_reaches_the_plane() -> None:
    async with two() as stage:
        stage.plane.applied.clear()
        stage.checks.say(WEB1, Operational.UP)
        await s.until(lambda: accepting(stage) == ["web1"])
        stage.checks.say(WEB1, Operational.DOWN, "the connection was refused")
        await s.until(lambda: stage.member(WEB1).state is State.DOWN)

        assert stage.plane.applied == ["web", "web"]
        assert stage.director.backend(*WEB1).reason == "the connection was refused"


@story
async def test_a_change_of_a_neighbour_reaches_every_service_that_has_it() -> None:
    web, shop = s.service("web1", "web2"), s.service("web1", listener=f"{VIP}:81/tcp")
    other = s.service("web3", listener=f"{VIP}:82/tcp")
    async with Stage(web=web, shop=shop, other=other) as stage:
        stage.plane.applied.clear()
        stage.neighbours.learn(HOSTS["web1"], MACS["web4"])
        await s.until(lambda: len(stage.plane.applied) == 2)

        hops = [stage.member((name, "web1")).hop for name in ("web", "shop")]
        assert [hop.mac for hop in hops if hop] == [MACS["web4"]] * 2
        assert set(stage.plane.applied) == {"web", "shop"}


@story
async def test_a_backend_that_nobody_finds_is_down_and_comes_back() -> None:
    async with Stage(web=s.service("web1", "web2")) as stage:
        stage.neighbours.forget(HOSTS["web1"])
        await s.until(lambda: stage.member(WEB1).state is State.DOWN)
        lost = stage.director.backend(*WEB1)
        stage.neighbours.learn(HOSTS["web1"], MACS["web1"])
        await s.until(lambda: stage.member(WEB1).accepts)

        assert (lost.operational, lost.mac) == (Operational.DOWN, None)
        assert "does not answer" in lost.reason
        assert stage.director.backend(*WEB1).since > lost.since


@story
async def test_a_fault_of_the_directors_own_network_is_told_and_resets_nobody() -> None:
    async with Stage(web=s.service("web1", "web2")) as stage:
        sound = stage.neighbours.get(HOSTS["web1"])
        seen = stage.director.events.last

        def told() -> list[str]:
            return [event.kind for event in stage.director.events.since(seen)[1]]

        stage.neighbours.put(HOSTS["web1"], replace(sound, why="no carrier", fault="no carrier"))
        await s.until(lambda: told() == ["network.fault"])
        assert "no carrier" in stage.director.readiness().problems
        assert stage.member(WEB1).accepts

        stage.neighbours.put(HOSTS["web1"], Route("unresolved", why="no carrier", fault="no carrier"))
        await s.until(lambda: stage.member(WEB1).hop is None)
        assert stage.member(WEB1).state is State.SERVING
        assert stage.director.backend(*WEB1).reason == "no carrier"

        stage.neighbours.learn(HOSTS["web1"], MACS["web1"])
        await s.until(lambda: stage.member(WEB1).accepts)
        assert told() == ["network.fault", "backend.down", "network.mended", "backend.up"]
        assert stage.director.readiness().ready


@story
async def test_a_backend_that_comes_up_is_not_said_to_be_down() -> None:
    """What keeps its check from asking, or kept it away a moment ago, is no reason to be up."""
    async with two() as stage:
        seen = stage.director.events.last
        for operational, reason in (
            (Operational.DOWN, "is tired"),
            (Operational.UP, "interface eth0 is down"),
        ):
            stage.checks.say(WEB1, operational, reason)
            await s.until(lambda wanted=operational: stage.director.backend(*WEB1).operational is wanted)

        told = [event.text for event in stage.director.events.since(seen)[1] if event.subject == "web/web1"]

        assert told == ["down: is tired", "up"]


@story
async def test_a_storm_of_verdicts_is_applied_ten_times_a_second_at_most() -> None:
    async with two() as stage:
        clock = asyncio.get_running_loop().time
        stage.plane.applied.clear()
        began = clock()
        while len(stage.plane.applied) < 4:
            for key in (WEB1, WEB2):
                stage.checks.say(key, Operational.DOWN)
                stage.checks.say(key, Operational.UP)
            await asyncio.sleep(0)
        took = clock() - began

        assert took >= 3 * APPLY_APART * 0.99
        await s.until(lambda: accepting(stage) == ["web1", "web2"])


@story
async def test_news_wait_for_a_change_under_way() -> None:
    async with two() as stage:
        stage.plane.applied.clear()
        async with stage.reconciler.lock:
            stage.checks.say(WEB1, Operational.UP)
            for _ in range(5):
                await asyncio.sleep(0)
            meanwhile = list(stage.plane.applied)
        await s.until(lambda: accepting(stage) == ["web1"])

        assert meanwhile == []


@pytest.mark.parametrize(
    "error",
    [DataplaneError("the kernel said no"), OSError(12, "Cannot allocate memory"), KeyError("web1")],
    ids=["of ours", "of the kernel", "a bug"],
)
@story
async def test_news_are_followed_also_after_a_failure(error: Exception) -> None:
    async with two() as stage:
        stage.plane.broken = error
        stage.checks.say(WEB1, Operational.UP)
        await s.until(lambda: stage.director.readiness().problems)
        problems = stage.director.readiness().problems
        stage.plane.broken = None
        stage.checks.say(WEB2, Operational.UP)
        await s.until(lambda: accepting(stage) == ["web1", "web2"])

        assert [problem.split(":")[0] for problem in problems] == [
            "service 'web' is not in the data plane as wanted"
        ]
        assert stage.plane.swept == []  # it was no upkeep that mended it
        assert stage.director.readiness().ready


@story
async def test_a_verdict_is_shown_once_the_plane_holds_it() -> None:
    async with two() as stage:
        async with stage.reconciler.lock:
            stage.checks.say(WEB1, Operational.UP)
            meanwhile = stage.director.backend(*WEB1).operational
        await s.until(lambda: accepting(stage) == ["web1"])

        assert meanwhile is Operational.UNKNOWN
        assert stage.director.backend(*WEB1).operational is Operational.UP


# Upkeep


@story
async def test_drift_is_repaired_and_counted() -> None:
    async with two() as stage:
        wanted = dict(stage.plane.plans)
        stage.plane.plans["web"] = replace(wanted["web"], members=())
        stage.plane.plans["foreign"] = replace(wanted["web"], name="foreign")
        await stage.reconciler.upkeep()
        await stage.reconciler.upkeep()

        assert stage.plane.plans == wanted
        assert stage.director.statistics().drift_repaired == 2
        assert len(stage.plane.swept) == 2


@story
async def test_news_that_wait_are_no_drift() -> None:
    async with two() as stage:
        stage.checks.say(WEB1, Operational.UP)
        await stage.reconciler.upkeep()

        assert accepting(stage) == ["web1"]
        assert stage.reconciler.drift_repaired == 0


@story
async def test_news_that_could_not_be_applied_are_tried_again_and_are_no_drift() -> None:
    async with two() as stage:
        stage.plane.broken = DataplaneError("the kernel said no")
        stage.checks.say(WEB1, Operational.UP)
        await s.until(lambda: stage.director.readiness().problems)
        stage.plane.broken = None
        await stage.reconciler.upkeep()

        assert accepting(stage) == ["web1"]
        assert stage.director.readiness().ready
        assert stage.reconciler.drift_repaired == 0


@pytest.mark.parametrize(
    ("during", "key"), [("web", MAIL3), ("mail", WEB1)], ids=["before its service's turn", "after it"]
)
@story
async def test_news_that_come_during_an_upkeep_are_no_drift_and_are_not_lost(during: str, key: Key) -> None:
    plane = Picky()
    async with two(plane) as stage:
        plane.heard = lambda name: stage.checks.say(key, Operational.UP) if name == during else None
        await stage.reconciler.upkeep()
        await s.until(lambda: stage.member(key).accepts)

        assert stage.reconciler.drift_repaired == 0


@story
async def test_one_service_that_fails_keeps_no_other_from_repair() -> None:
    plane = Picky()
    async with two(plane) as stage:
        wanted = dict(plane.plans)
        plane.refused = {"web"}
        plane.plans["mail"] = replace(wanted["mail"], members=())
        await stage.reconciler.upkeep()

        assert plane.plans == wanted
        assert ["'web'" in problem for problem in stage.director.readiness().problems] == [True]


@story
async def test_a_sweep_that_fails_is_a_problem_but_drift_is_repaired() -> None:
    plane = Picky()
    async with two(plane) as stage:
        wanted = dict(plane.plans)
        plane.plans["web"] = replace(wanted["web"], members=())
        plane.stuck = True
        await stage.reconciler.upkeep()
        problems = stage.director.readiness().problems
        plane.stuck = False
        await stage.reconciler.upkeep()

        assert plane.plans == wanted
        assert len(problems) == 1
        assert "sweep" in problems[0]
        assert "Cannot allocate memory" in problems[0]
        assert stage.director.readiness().ready


@story
async def test_a_round_that_fails_is_no_sign_of_life() -> None:
    plane = Picky()
    async with two(plane) as stage:
        begun = stage.reconciler.last_round
        plane.lost = True
        with pytest.raises(OSError, match="too many open files"):
            await stage.reconciler.upkeep()
        after_failure = stage.reconciler.last_round
        plane.lost = False
        await stage.reconciler.upkeep()

        assert after_failure == begun
        assert stage.reconciler.last_round > begun


@story
async def test_a_background_task_that_fails_is_restarted_and_said() -> None:
    """The watch over the store: it looks at once, fails, and looks again a second later."""
    history = Unreadable()
    async with Stage(kept=(history, s.FakeKeeper()), web=s.service("web1")) as stage:
        await s.until(lambda: stage.director.readiness().problems)
        problems = stage.director.readiness().problems
        history.fails = False
        await s.until(lambda: history.asked > 1)

        assert len(problems) == 1
        assert "the watch over drains and the store failed and is restarted: ValueError" in problems[0]


# VIPs


@story
async def test_a_vip_that_stands_nowhere_is_a_problem() -> None:
    async with two() as stage:
        stage.vips.wanted = frozenset()
        missing = stage.director.readiness()
        stage.vips.elsewhere = {VIP}

        assert (missing.ready, missing.problems) == (
            False,
            (f"VIP {VIP} is on no interface of this director",),
        )
        assert stage.director.readiness().ready


@story
async def test_a_vip_that_is_routed_through_this_host_need_not_stand_on_it() -> None:
    async with two() as stage:
        stage.vips.lost, stage.vips.routed = {VIP}, {VIP}

        ready = stage.director.readiness()

        assert (ready.ready, ready.problems) == (True, ())
        assert any(f"VIP {VIP} is on no interface" in warning for warning in ready.warnings)


@story
async def test_a_vip_that_cannot_be_placed_is_tried_again() -> None:
    stage = two()
    stage.vips.refuse = DataplaneError("eth0 is gone")
    async with stage:
        refused = stage.director.readiness().problems
        stage.vips.refuse = None
        await stage.reconciler.upkeep()

        assert "eth0 is gone" in refused
        assert stage.director.readiness().ready


@story
async def test_problems_of_services_and_of_vips_do_not_mix() -> None:
    stage = Stage(vips=s.service("web1"), sweep=s.service("web2", listener=f"{VIP}:25/tcp"))
    stage.vips.refuse = DataplaneError("eth0 is gone")
    async with stage:
        await stage.director.patch_service("vips", {"on_empty": "drop"}, intent=ME)

        assert "eth0 is gone" in stage.director.readiness().problems


# Checks and neighbours are those of what is wanted


@story
async def test_checks_go_to_the_first_listener_unless_they_name_a_port() -> None:
    plain, named = (
        s.service("web1", check={"type": "tcp"}),
        s.service("web1", listener=f"{VIP}:81/tcp", check={"type": "tcp", "port": 8080}),
    )
    async with Stage(web=plain, named=named) as stage:
        ports = {key[0]: asked[0].port for key, (_, asked) in stage.checks.running.items()}

        assert ports == {"web": 80, "named": 8080}


@story
async def test_a_change_elsewhere_disturbs_no_check() -> None:
    async with two() as stage:
        await stage.director.create_backend("mail", "web4", s.backend("web4"), intent=ME)
        await stage.director.patch_backend("web", "web1", {"weight": 5}, intent=ME)

        assert stage.checks.began == {WEB1: 1, WEB2: 1, MAIL3: 1, ("mail", "web4"): 1}


@story
async def test_an_address_is_followed_until_its_last_backend_goes() -> None:
    shop = s.service("web1", listener=f"{VIP}:81/tcp")
    async with Stage(web=s.service("web1"), shop=shop) as stage:
        await stage.director.delete_service("web", intent=ME)
        both = set(stage.neighbours.watched)
        await stage.director.delete_service("shop", intent=ME)

        assert both == {HOSTS["web1"]}
        assert stage.neighbours.watched == set()


@story
async def test_the_director_itself_can_be_a_backend() -> None:
    stage = Stage(web=s.service("web1"))
    stage.neighbours.put(HOSTS["web1"], Route("local", ifindex=1, interface="lo", why="it is this machine"))
    async with stage:
        hop = stage.member(WEB1).hop

        assert hop
        assert (hop.local, hop.ifindex) == (True, 1)
        assert stage.director.backend(*WEB1).mac is None


@pytest.mark.parametrize("key", [WEB1, WEB3], ids=["checked", "never heard of"])
@story
async def test_the_fake_checks_forget_what_was_removed(key: Key) -> None:
    async with two() as stage:
        stage.checks.remove(key)

        assert stage.checks.reports(key) == {}


# Verdicts at VIPs


def at_vips(*vips: Address, port: int = 80, **fields: Any) -> ServiceSpec:
    """`web` on web1 and web2, checked, with a listener at each of these."""
    listeners = [f"{vip}:{port}/tcp" if vip.version == 4 else f"[{vip}]:{port}/tcp" for vip in vips]
    return s.service("web1", "web2", **{"listeners": listeners, "check": s.CHECK, **fields})


async def all_up(stage: Stage) -> None:
    for key in (WEB1, WEB2):
        stage.checks.say(key, Operational.UP)
    await until(lambda: accepting(stage) == ["web1", "web2"] and not any(out_of(stage).values()))


def out_of(stage: Stage) -> dict[str, frozenset[Address]]:
    return {member.name: member.out for member in stage.plane.plans["web"].members}


FIRST = [("backend.up", "up")]


def told(stage: Stage) -> list[tuple[str, str]]:
    return [
        (event.kind, event.text) for event in stage.director.events.since(0)[1] if "web1" in event.subject
    ]


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(at_vips(VIP, OTHER_VIP), id="behind the others"),
        pytest.param(at_vips(OTHER_VIP, VIP), id="before the others"),
        pytest.param(at_vips(VIP, OTHER_VIP, VIP6), id="of two families"),
        pytest.param(at_vips(VIP, OTHER_VIP, check={**s.CHECK, "interval": "9s"}), id="and another check"),
        pytest.param(at_vips(VIP, OTHER_VIP, scheduler="mh"), id="and another scheduler"),
    ],
)
@story
async def test_a_listener_that_is_added_changes_nothing_that_is_known_of_the_others(
    changed: ServiceSpec,
) -> None:
    async with Stage(web=at_vips(VIP)) as stage:
        await all_up(stage)

        await stage.director.put_service("web", changed, intent=ME)

        new = frozenset(changed.vips) - {VIP}
        assert accepting(stage) == ["web1", "web2"]
        assert out_of(stage) == {"web1": new, "web2": new}
        shown = stage.director.backend(*WEB1)
        assert (shown.operational, shown.serving) == (Operational.PARTIAL, True)
        assert told(stage) == FIRST
        await all_up(stage)
        assert told(stage) == FIRST


@story
async def test_a_vip_that_a_server_lacks_takes_it_out_for_that_vip_alone() -> None:
    async with Stage(web=at_vips(VIP, OTHER_VIP)) as stage:
        await all_up(stage)

        stage.checks.say(WEB1, Operational.DOWN, "no answer", at=OTHER_VIP)
        await until(lambda: any(out_of(stage).values()))

        assert out_of(stage) == {"web1": {OTHER_VIP}, "web2": frozenset()}
        assert accepting(stage) == ["web1", "web2"]
        assert stage.director.service("web").operational is Operational.UP
        stage.checks.say(WEB1, Operational.DOWN, "gone", at=VIP)
        await until(lambda: stage.member(WEB1).state is State.DOWN)
        stage.checks.say(WEB1, Operational.UP)
        await until(lambda: accepting(stage) == ["web1", "web2"])
        _, partial, *later = told(stage)
        assert partial == ("backend.partial", f"partial: {OTHER_VIP}: no answer")
        assert [kind for kind, _ in later] == ["backend.down", "backend.up"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({"check": None}, {}, id="a check where there was none"),
        pytest.param({}, {"check": {**s.CHECK, "via": "address"}}, id="the servers' own addresses"),
        pytest.param({"check": {**s.CHECK, "via": "address"}}, {}, id="the VIPs"),
        pytest.param({}, {"check": {**s.CHECK, "port": 81}}, id="another port"),
        pytest.param({}, {"check": {"type": "http", "port": 80}}, id="another type"),
    ],
)
@story
async def test_another_check_takes_nobody_out_before_it_has_answered(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    async with Stage(web=at_vips(VIP, OTHER_VIP, **before)) as stage:
        if stage.checks.running:
            await all_up(stage)

        await stage.director.put_service("web", at_vips(VIP, OTHER_VIP, **after), intent=ME)

        assert accepting(stage) == ["web1", "web2"]
        assert not any(out_of(stage).values())


@story
async def test_another_machine_has_to_show_that_it_is_well() -> None:
    async with Stage(web=at_vips(VIP)) as stage:
        await all_up(stage)

        await stage.director.patch_backend("web", "web1", {"address": str(HOSTS["web4"])}, intent=ME)

        assert stage.director.backend(*WEB1).operational is Operational.UNKNOWN
        assert accepting(stage) == ["web2"]


@story
async def test_a_change_that_fails_leaves_each_vips_verdict() -> None:
    async with Stage(web=at_vips(VIP, OTHER_VIP)) as stage:
        await all_up(stage)
        stage.checks.say(WEB1, Operational.DOWN, "no answer", at=OTHER_VIP)
        await until(lambda: any(out_of(stage).values()))
        before = stage.shown()
        stage.history.full = CapacityError("the disk is full")

        with pytest.raises(CapacityError):
            await stage.director.put_service("web", at_vips(VIP), intent=ME)

        assert stage.shown() == before
        assert stage.director.backend(*WEB1).operational is Operational.PARTIAL


@story
async def test_a_restart_goes_on_from_what_the_plane_holds_of_each_vip() -> None:
    plane = FakePlane({WEB1: State.SERVING, WEB2: State.SERVING})
    plane.known_vips = {WEB1: {VIP: True, OTHER_VIP: False}, WEB2: {VIP: True, OTHER_VIP: True}}

    async with Stage(plane, web=at_vips(VIP, OTHER_VIP, VIP6)) as stage:
        assert accepting(stage) == ["web1", "web2"]
        assert out_of(stage) == {"web1": {OTHER_VIP, VIP6}, "web2": {VIP6}}
        reasons = {each.vip: each.operational for each in stage.director.backend(*WEB1).vips}
        assert reasons == {VIP: Operational.UP, OTHER_VIP: Operational.DOWN, VIP6: Operational.UNKNOWN}


@story
async def test_a_vip_that_comes_back_is_no_return_after_which_to_start_slowly() -> None:
    async with Stage(web=at_vips(VIP, OTHER_VIP, slow_start="60s")) as stage:
        await all_up(stage)
        stage.checks.say(WEB1, Operational.DOWN, "no answer", at=OTHER_VIP)
        await until(lambda: any(out_of(stage).values()))

        await all_up(stage)

        assert stage.director.backend(*WEB1).effective_weight == 1


# Room


def pair(number: int) -> ServiceSpec:
    return s.service("web1", "web2", listener=f"198.51.100.{number}:80/tcp")


@story
async def test_what_goes_makes_room_for_what_comes() -> None:
    async with Stage(a=pair(1), b=pair(2)) as stage:
        stage.plane.room = 4
        wanted = BASE.model_copy(update={"services": {"c": pair(3), "d": pair(4)}})

        await stage.director.configuration.apply(wanted, intent=ME)

        assert stage.plane.plans.keys() == {"c", "d"}
        assert stage.director.readiness().problems == ()


@story
async def test_what_has_no_room_changes_nothing() -> None:
    """Not even for a moment."""
    async with Stage(a=pair(1), b=pair(2)) as stage:
        stage.plane.room = 5
        before, applied = dict(stage.plane.plans), len(stage.plane.applied)
        wanted = BASE.model_copy(update={"services": {name: pair(n) for n, name in enumerate("abc", 1)}})

        with pytest.raises(CapacityError, match="room for 5 backends"):
            await stage.director.configuration.apply(wanted, intent=ME)

        assert stage.plane.plans == before
        assert len(stage.plane.applied) == applied
        assert stage.reconciler.services.keys() == {"a", "b"}


# Cost


@story
async def test_a_plan_is_made_anew_only_when_it_changes() -> None:
    async with two() as stage:
        for key in (WEB1, WEB2, MAIL3):
            stage.checks.say(key, Operational.UP)
        await stage.reconciler.upkeep()
        before = dict(stage.plane.plans)

        await stage.reconciler.upkeep()
        assert all(stage.plane.plans[name] is plan for name, plan in before.items())

        stage.checks.say(WEB1, Operational.DOWN)
        await stage.reconciler.upkeep()
        assert stage.plane.plans["mail"] is before["mail"]
        assert accepting(stage) == ["web2"]


@story
async def test_a_round_of_the_upkeep_costs_each_of_many_services_the_same() -> None:
    costs = []
    for count in (8, 64):
        listeners = {f"service{n}": f"198.51.100.{1 + n}:80/tcp" for n in range(count)}
        services = {name: s.service("web1", "web2", listener=each) for name, each in listeners.items()}
        async with Stage(**services) as stage:
            await stage.reconciler.upkeep()
            with Instructions() as counted:
                await stage.reconciler.upkeep()
        costs.append(counted.count / count)

    assert costs[1] < costs[0] * 1.3
