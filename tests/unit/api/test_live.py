# SPDX-License-Identifier: Apache-2.0
"""What the dashboard is shown of the present: once for all viewers, with rates, history, problems and drains."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.support.fake_director import FakeDirector
from tests.support.stage import story
from xdpdirector.api.live import feed
from xdpdirector.api.live.feed import LiveFeed
from xdpdirector.api.live.history import INTERVAL, LENGTH
from xdpdirector.api.live.rates import Counts
from xdpdirector.api.routes.live import _stream
from xdpdirector.model import AdminState, ServiceSpec
from xdpdirector.model.guard import DenyEntry, parse_prefix
from xdpdirector.model.passive import PassiveState, PassiveView
from xdpdirector.model.status import Traffic
from xdpdirector.state.admin_change import AdminChange
from xdpdirector.state.change_request import Intent

ME = Intent("operator")
WITHIN = 10.0
WEB = ServiceSpec.model_validate(
    {
        "listeners": ["192.0.2.10:80/tcp"],
        "check": {"type": "tcp", "port": 80},
        "backends": {name: {"address": f"192.0.2.2{name[-1]}"} for name in ("web1", "web2", "web3")},
    }
)

MAIL = ServiceSpec.model_validate({"listeners": ["192.0.2.11:25/tcp"]})


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def director() -> FakeDirector:
    made = FakeDirector()
    await made.create_service("web", WEB, intent=ME)
    return made


async def present(live: LiveFeed, *topics: str) -> dict[str, Any]:
    """By topic."""
    async with live.viewer(topics) as viewer:
        parts = await viewer.take(WITHIN)
    assert parts is not None
    return {name: json.loads(part) for name, part in parts.items()}


@pytest.mark.parametrize(
    ("before", "seconds", "rates"),
    [
        (Counts(10, 100, 1000, 1), 2.0, Counts(5, 50, 500, 0.5)),
        (None, 1.0, None),
        (Counts(), 0.0, None),
        (Counts(100, 1000, 10_000, 10), 1.0, Counts(0, 0, 0, 0)),
    ],
    ids=["rate", "nothing before", "no time", "counted anew"],
)
def test_rates(before: Counts | None, seconds: float, rates: Counts | None) -> None:
    now = Counts.of(Traffic(connections=20, packets=200, bytes=2000), {"drop_denied": 1, "reject_down": 1})

    assert now.since(before, seconds) == rates


@story
async def test_the_state_of_all_is_always_there() -> None:
    shown = await present(LiveFeed(await director()))

    assert [*shown] == ["state"]
    assert (shown["state"]["services"], shown["state"]["backends"], shown["state"]["ready"]) == (1, 3, True)


@story
async def test_only_what_is_asked_for_is_there() -> None:
    shown = await present(LiveFeed(await director()), "services", "service:web", "service:mail")

    assert {*shown} == {"state", "services", "service:web"}
    assert [each["name"] for each in shown["services"]] == ["web"]
    assert [each["name"] for each in shown["service:web"]["backends"]] == ["web1", "web2", "web3"]


@story
async def test_what_is_wrong_is_told_with_its_reason() -> None:
    wrong = await director()
    wrong.down["web", "web2"] = "connection refused"

    shown = await present(LiveFeed(wrong), "services", "service:web")

    [troubled] = shown["state"]["troubled"]
    assert (troubled["backend"], troubled["operational"], troubled["reason"]) == (
        "web2",
        "down",
        "connection refused",
    )
    assert shown["services"][0]["states"] == {"down": 1, "up": 2}


@story
async def test_what_passive_health_has_against_a_backend_is_told() -> None:
    watching = await director()
    views = [watching.backend("web", name) for name in ("web1", "web2", "web3")]
    states = [PassiveView(state=PassiveState.SUSPECT, share=0.376), PassiveView(share=0.01), None]
    shown = [
        view.model_copy(update={"passive": passive, "reason": "suspect: why"})
        for view, passive in zip(views, states, strict=True)
    ]
    watching.backend = lambda _, name: shown[int(name[-1]) - 1]  # type: ignore[method-assign]

    backends = (await present(LiveFeed(watching), "service:web"))["service:web"]["backends"]

    assert [each["passive"] for each in backends] == ["suspect 38%", None, None]
    assert [each["reason"] for each in backends] == ["suspect: why", "", ""]


@story
async def test_how_packets_reach_a_backend_is_told() -> None:
    """The service's word, unless the backend has its own."""
    backends = {"web1": {"address": "203.0.113.21"}, "web2": {"address": "192.0.2.22", "forward": "direct"}}
    document = WEB.model_dump() | {"forward": "gue", "backends": backends}
    tunnelling = FakeDirector()
    await tunnelling.create_service("web", ServiceSpec.model_validate(document), intent=ME)

    shown = (await present(LiveFeed(tunnelling), "service:web"))["service:web"]["backends"]

    assert [(each["name"], each["forward"]) for each in shown] == [("web1", "gue"), ("web2", "direct")]


@story
async def test_what_becomes_of_a_services_packets() -> None:
    clock, dropping = Clock(), await director()
    await dropping.create_service("mail", MAIL, intent=ME)
    dropping.plane.service_drops["web"] = {"drop_denied": 3}
    live = LiveFeed(dropping, clock, clock)
    async with live.viewer(("services", "service:web")) as viewer:
        await viewer.take(WITHIN)
        dropping.plane.service_drops["web"] = {"drop_denied": 13, "reject_empty": 2}
        clock.now += 2.0
        parts = await viewer.take(WITHIN)
    assert parts

    shown = {name: json.loads(part) for name, part in parts.items()}
    assert [each["rates"][3] for each in shown["services"]] == [6, 0]
    verdicts = shown["service:web"]["verdicts"]
    assert verdicts == {"forward": [4500, 0], "drop_denied": [13, 5], "reject_empty": [2, 1]}


@story
async def test_a_drain_is_told_and_is_no_trouble() -> None:
    draining = await director()
    draining.busy["web", "web1"] = 7
    await draining.drains.set_admin(
        "web", "web1", AdminChange(AdminState.DRAIN, reason="new disk"), intent=ME
    )

    shown = await present(LiveFeed(draining), "services")

    [drain] = shown["state"]["drains"]
    assert (drain["backend"], drain["reason"], drain["remaining"]) == ("web1", "new disk", 7)
    assert shown["state"]["troubled"] == []
    assert shown["services"][0]["states"] == {"drain": 1, "up": 2}


@story
async def test_who_is_denied() -> None:
    guarded = await director()
    await guarded.guard.add(DenyEntry(prefix=parse_prefix("203.0.113.0/24"), reason="<b>scan</b>"), intent=ME)

    shown = await present(LiveFeed(guarded), "guard")

    assert [(each["prefix"], each["reason"]) for each in shown["guard"]["top"]] == [
        ("203.0.113.0/24", "<b>scan</b>")
    ]


@story
async def test_all_viewers_share_one_snapshot() -> None:
    looked_at = await director()
    live, readings = LiveFeed(looked_at), 0
    readiness = looked_at.readiness

    def counted() -> Any:
        nonlocal readings
        readings += 1
        return readiness()

    looked_at.readiness = counted  # type: ignore[method-assign]
    async with live.viewer(()) as one, live.viewer(()) as other:
        first = [await each.take(WITHIN) for each in (one, other)]

    assert first[0] == first[1]
    assert readings == 1


@story
async def test_who_comes_later_is_shown_nothing_old() -> None:
    """Also of what is looked at more seldom."""
    guarded = await director()
    live = LiveFeed(guarded)
    before = await present(live, "guard")
    await guarded.guard.add(DenyEntry(prefix=parse_prefix("203.0.113.0/24")), intent=ME)

    after = await present(live, "guard")

    assert (before["guard"]["denied"], after["guard"]["denied"]) == (0, 1)
    assert after["state"]["at"] > before["state"]["at"]


@story
async def test_rates_are_known_at_once_by_who_goes_to_another_page() -> None:
    clock = Clock()
    live = LiveFeed(await director(), clock, clock)
    await present(live)
    clock.now += 1.0
    await present(live)
    clock.now += 0.01

    shown = await present(live)

    assert shown["state"]["rates"] is not None


@story
async def test_many_backends_are_looked_at_anew_when_something_happens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And else every third second only; by this clock there is none."""
    monkeypatch.setattr(feed, "MANY_BACKENDS", 0)
    monkeypatch.setattr(feed, "INTERVAL", 0.1)
    clock, looked_at = Clock(), await director()
    live, samples, seen = LiveFeed(looked_at, clock, clock), looked_at.samples, []
    looked_at.busy["web", "web1"] = 7

    def counted() -> Any:
        seen.append(clock.now)
        return samples()

    looked_at.samples = counted  # type: ignore[method-assign]
    async with live.viewer(["services"]) as viewer:
        for _ in range(3):
            parts = await viewer.take(WITHIN)
            assert parts is not None
            assert {*parts} == {"state", "services"}
        quiet = len(seen)
        await looked_at.drains.set_admin("web", "web1", AdminChange(AdminState.DRAIN), intent=ME)
        looked_at.events.publish("backend.drain", "web/web1", "draining")
        for _ in range(2):  # one may be under way
            parts = await viewer.take(WITHIN)
            assert parts is not None

    assert quiet == 1
    assert json.loads(parts["services"])[0]["states"] == {"drain": 1, "up": 2}
    assert len(seen) == 2


@story
async def test_nobody_reads_when_there_is_no_viewer() -> None:
    live = LiveFeed(await director())

    await present(live)

    assert len(asyncio.all_tasks()) == 1


@story
async def test_history_begins_before_anybody_looks() -> None:
    clock, kept = Clock(), await director()
    live = LiveFeed(kept, clock, clock)

    for _ in range(LENGTH + 10):
        live.keep()
        clock.now += INTERVAL

    history = live.history.document()
    assert len(history["at"]) == len(history["totals"]["packets"]) == LENGTH
    assert len(history["services"]["web"]["connections"]) == LENGTH


@story
async def test_a_service_that_is_new_has_a_history_with_a_hole() -> None:
    clock, kept = Clock(), await director()
    live = LiveFeed(kept, clock, clock)
    for name in ("", "mail", "", ""):
        live.keep()
        clock.now += INTERVAL
        if name:
            await kept.create_service(name, MAIL, intent=ME)

    assert live.history.document()["services"]["mail"]["packets"] == [None, None, 0]


@story
async def test_a_plane_that_cannot_be_read_is_told() -> None:
    broken = await director()

    def fail() -> Any:
        raise RuntimeError("no map")

    broken.readiness = fail  # type: ignore[method-assign]
    shown = await present(LiveFeed(broken))

    assert shown["state"]["trouble"]


@story
async def test_a_stream_goes_on_behind_the_last_event() -> None:
    told = await director()
    live = LiveFeed(told)
    told.events.publish("backend.down", "web/web1", "one")
    last = told.events.last
    told.events.publish("backend.up", "web/web1", "two")

    stream = _stream(live, told, {"events"}, None, last)
    history, shown = [await anext(stream) for _ in range(2)]
    await stream.aclose()  # type: ignore[attr-defined]

    assert history.startswith(b"event: history\n")
    number, _, data, *_ = shown.decode().split("\n")
    assert number == f"id: {told.events.last}"
    events = json.loads(data.removeprefix("data: "))["events"]
    assert [each["text"] for each in events] == ["two"]


@story
async def test_a_stream_ends_with_the_daemon() -> None:
    ending = await director()
    stream = _stream(LiveFeed(ending), ending, set(), None, None)
    await anext(stream)
    await anext(stream)

    ending.events.close()

    assert [piece async for piece in stream] == []
