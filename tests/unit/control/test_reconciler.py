# SPDX-License-Identifier: Apache-2.0
"""The plane follows what is wanted and what is true, and one thing that fails stops nothing else."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

import tests.support.stage as s
from tests.support.fake_plane import FakePlane
from tests.support.stage import (
    BASE,
    FAR,
    HOSTS,
    MACS,
    MAIL3,
    ME,
    VIP,
    WEB1,
    WEB2,
    WEB3,
    Stage,
    story,
    web_and_mail_stage,
)
from xdpdirector.control.reconciler import APPLY_APART, RESOLVE_WITHIN
from xdpdirector.dataplane.service_plan import State
from xdpdirector.errors import CapacityError, DataplaneError, InvalidRequestError
from xdpdirector.model import Key, ServiceSpec
from xdpdirector.model.status import Operational
from xdpdirector.net.neighbours import Route

OLD = ("old", "web1")


# Start and end


@story
async def test_a_start_brings_everything() -> None:
    async with web_and_mail_stage() as stage:
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

    async with web_and_mail_stage(plane) as stage:
        assert (stage.member(WEB1).state, stage.member(WEB1).accepts) == (state, accepts)


@story
async def test_a_restart_does_not_wait_for_the_mac_of_who_was_down_before() -> None:
    stage = web_and_mail_stage(FakePlane({WEB1: State.SERVING, WEB2: State.DOWN, MAIL3: State.SERVING}))
    stage.neighbours.forget(HOSTS["web2"])

    await asyncio.wait_for(stage.director.start(), RESOLVE_WITHIN / 2)
    await stage.director.close()

    assert stage.member(WEB1).accepts
    assert not stage.member(WEB2).accepts


@story
async def test_a_restart_removes_what_is_not_wanted_any_more() -> None:
    async with web_and_mail_stage(FakePlane({OLD: State.SERVING})) as stage:
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
    async with web_and_mail_stage() as stage:
        plans = dict(stage.plane.plans)

    assert stage.plane.plans == plans
    assert stage.vips.wanted == {VIP}


# News


@story
async def test_a_verdict_reaches_the_plane() -> None:
    async with web_and_mail_stage() as stage:
        stage.plane.applied.clear()
        stage.checks.say(WEB1, Operational.UP)
        await s.until(lambda: stage.accepting() == ["web1"])
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
    async with web_and_mail_stage() as stage:
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
    async with web_and_mail_stage() as stage:
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
        await s.until(lambda: stage.accepting() == ["web1", "web2"])


@story
async def test_news_wait_for_a_change_under_way() -> None:
    async with web_and_mail_stage() as stage:
        stage.plane.applied.clear()
        async with stage.reconciler.lock:
            stage.checks.say(WEB1, Operational.UP)
            for _ in range(5):
                await asyncio.sleep(0)
            meanwhile = list(stage.plane.applied)
        await s.until(lambda: stage.accepting() == ["web1"])

        assert meanwhile == []


@pytest.mark.parametrize(
    "error",
    [DataplaneError("the kernel said no"), OSError(12, "Cannot allocate memory"), KeyError("web1")],
    ids=["of ours", "of the kernel", "a bug"],
)
@story
async def test_news_are_followed_also_after_a_failure(error: Exception) -> None:
    async with web_and_mail_stage() as stage:
        stage.plane.broken = error
        stage.checks.say(WEB1, Operational.UP)
        await s.until(lambda: stage.director.readiness().problems)
        problems = stage.director.readiness().problems
        stage.plane.broken = None
        stage.checks.say(WEB2, Operational.UP)
        await s.until(lambda: stage.accepting() == ["web1", "web2"])

        assert [problem.split(":")[0] for problem in problems] == [
            "service 'web' is not in the data plane as wanted"
        ]
        assert stage.plane.swept == []  # it was no upkeep that mended it
        assert stage.director.readiness().ready


@story
async def test_a_verdict_is_shown_once_the_plane_holds_it() -> None:
    async with web_and_mail_stage() as stage:
        async with stage.reconciler.lock:
            stage.checks.say(WEB1, Operational.UP)
            meanwhile = stage.director.backend(*WEB1).operational
        await s.until(lambda: stage.accepting() == ["web1"])

        assert meanwhile is Operational.UNKNOWN
        assert stage.director.backend(*WEB1).operational is Operational.UP


# Upkeep


# VIPs


@story
async def test_a_vip_that_stands_nowhere_is_a_problem() -> None:
    async with web_and_mail_stage() as stage:
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
    async with web_and_mail_stage() as stage:
        stage.vips.lost, stage.vips.routed = {VIP}, {VIP}

        ready = stage.director.readiness()

        assert (ready.ready, ready.problems) == (True, ())
        assert any(f"VIP {VIP} is on no interface" in warning for warning in ready.warnings)


@story
async def test_a_vip_that_cannot_be_placed_is_tried_again() -> None:
    stage = web_and_mail_stage()
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
    async with web_and_mail_stage() as stage:
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
    async with web_and_mail_stage() as stage:
        stage.checks.remove(key)

        assert stage.checks.reports(key) == {}


# Verdicts at VIPs


def told(stage: Stage) -> list[tuple[str, str]]:
    return [
        (event.kind, event.text) for event in stage.director.events.since(0)[1] if "web1" in event.subject
    ]


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
