# SPDX-License-Identifier: Apache-2.0
"""What passive health does to a service: weights, views, events, and what it leaves alone."""

from __future__ import annotations

import tests.support.stage as s
from tests.support.stage import ME, WEB1, WEB2, Stage, story
from xdpdirector.control.passive_health import sentence
from xdpdirector.dataplane.service_plan import State
from xdpdirector.health.passive import Figures, Opened
from xdpdirector.model import Scheduler
from xdpdirector.model.passive import PassiveCounts, PassiveState
from xdpdirector.model.status import Operational

NAMES = ("web1", "web2", "web3")


def stage(scheduler: Scheduler = Scheduler.WLC, **passive: object) -> Stage:
    return Stage(web=s.service(*NAMES, scheduler=scheduler, passive=passive))


class Clients:
    """Open 50 connections to each backend before each look; those to some must send half of their SYNs again."""

    def __init__(self, stage: Stage, *bad: str) -> None:
        self._stage, self.bad, self._now = stage, set(bad), 1000.0
        self.look()

    def look(self, times: int = 1) -> None:
        watched = self._stage.plane.watched_packets
        for _ in range(times):
            self._now += 5.0
            for name in NAMES:
                before = watched.get(("web", name), PassiveCounts())
                more = 25 if name in self.bad else 0
                watched["web", name] = PassiveCounts(
                    syns=before.syns + 50,
                    retransmissions=before.retransmissions + 2 * more,
                    retransmitted=before.retransmitted + more,
                )
            self._stage.reconciler.passive.look(self._now)


def kinds(stage: Stage) -> list[tuple[str, str]]:
    found = stage.reconciler.events.since(0)[1]
    return [(event.kind, event.subject) for event in found if event.kind.startswith("passive")]


@story
async def test_a_suspect_is_shown_and_keeps_its_connections() -> None:
    async with stage() as it:
        Clients(it, "web1").look(4)

        view = it.director.backend(*WEB1)

        assert view.passive
        assert (view.passive.state, view.operational) == (PassiveState.SUSPECT, Operational.UP)
        assert (view.passive.connections, view.passive.share, view.passive.siblings) == (200, 0.5, 0.0)
        assert (view.passive.syns, view.passive.retransmitted) == (250, 125)
        assert "50 of its last 100 connections had to send their SYN again (50%" in view.reason
        assert (view.serving, view.effective_weight) == (True, 1)
        assert it.accepting() == list(NAMES)
        assert kinds(it) == [("passive.suspect", "web/web1")]


@story
async def test_an_ejected_backend_takes_no_new_connections_and_keeps_those_it_has() -> None:
    async with stage(eject=True) as it:
        Clients(it, "web1").look(2)
        await s.until(lambda: it.accepting() == ["web2", "web3"])

        view = it.director.backend(*WEB1)

        assert view.passive
        assert view.passive.state is PassiveState.EJECTED
        assert (view.serving, view.effective_weight, view.operational) == (False, 0, Operational.UP)
        assert it.member(WEB1).state is State.SERVING
        assert it.director.service("web").operational is Operational.UP
        assert it.director.backend(*WEB2).serving


@story
async def test_it_comes_back_by_a_trial() -> None:
    async with stage(scheduler=Scheduler.MH, eject=True) as it:
        clients = Clients(it, "web1")
        clients.look(2)
        await s.until(lambda: it.accepting() == ["web2", "web3"])
        clients.bad.clear()
        clients.look(6)
        await s.until(lambda: it.accepting() == list(NAMES))
        assert it.member(WEB1).weight * 10 == it.member(WEB2).weight

        clients.look(3)

        await s.until(lambda: it.member(WEB1).weight == it.member(WEB2).weight)
        assert [kind for kind, _ in kinds(it)] == ["passive.ejected", "passive.trial", "passive.normal"]
        assert it.director.backend(*WEB1).reason == ""


@story
async def test_without_the_option_nothing_is_watched() -> None:
    async with stage(eject=True) as it:
        clients = Clients(it, "web1")
        clients.look(2)
        await s.until(lambda: it.accepting() == ["web2", "web3"])

        await it.director.patch_service("web", {"passive": None}, intent=ME)
        clients.look(4)

        assert it.accepting() == list(NAMES)
        assert it.director.backend(*WEB1).passive is None
        assert not any(member.watched for member in it.plane.plans["web"].members)


@story
async def test_backends_are_watched_in_the_data_plane() -> None:
    async with stage() as it:
        assert all(member.watched for member in it.plane.plans["web"].members)
        assert it.plane.plans["web"].passive


@story
async def test_one_that_drains_is_not_judged() -> None:
    async with stage(eject=True) as it:
        clients = Clients(it, "web1")
        await it.director.patch_backend("web", "web1", {"admin": "drain"}, intent=ME)

        clients.look(6)

        view = it.director.backend(*WEB1)
        assert view.passive
        assert view.passive.state is PassiveState.NORMAL
        assert kinds(it) == []


@story
async def test_who_is_down_stays_down_for_its_own_reason() -> None:
    spec = s.service(*NAMES, check=s.CHECK, passive={"eject": True})
    async with Stage(web=spec) as it:
        for name in NAMES:
            it.checks.say(("web", name), Operational.UP)
        Clients(it, "web1").look(2)
        it.checks.say(WEB1, Operational.DOWN, "connection refused")
        await s.until(lambda: it.member(WEB1).state is State.DOWN)

        assert it.director.backend(*WEB1).reason == "connection refused"


def test_the_sentence_has_the_figures() -> None:
    assert sentence(Figures()) == ""
    assert sentence(Figures(Opened(40, 10), Opened(0, 0))) == (
        "10 of its last 40 connections had to send their SYN again"
    )
    assert sentence(Figures(Opened(40, 10), Opened(200, 1))) == (
        "10 of its last 40 connections had to send their SYN again (25%; its siblings' 0.5%)"
    )
