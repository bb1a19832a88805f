# SPDX-License-Identifier: Apache-2.0
"""The ring of events: what a follower gets to see, whatever its place."""

import asyncio
import contextlib
import gc
from collections.abc import Callable
from pathlib import Path

import pytest

from xdpdirector.control.events import Events, Gap
from xdpdirector.storage import event_ids

SOON = 5.0
AT_ONCE = 0.0


def filled(count: int, capacity: int = 10) -> Events:
    events = Events(capacity)
    for number in range(count):
        events.publish("backend.up", "web/web1", str(number))
    return events


def test_an_event_says_what_it_was_given() -> None:
    # given
    events = Events()

    # when
    events.publish("backend.down", "web/web1", "refused", since=3.5)
    [event] = events.since(events.last - 1)[1]

    # then
    assert (event.kind, event.subject, event.text) == ("backend.down", "web/web1", "refused")
    assert event.data == {"since": 3.5}
    assert event.id == events.last


def test_the_garbage_collector_passes_over_events() -> None:
    # given
    events = Events()
    for number in range(1000):
        events.publish(
            "backend.down", "web/web1", str(number), before="up", reason=f"refused {number}", since=3.5
        )

    # when
    gc.collect()

    # then
    assert not any(gc.is_tracked(each) for each in events._ring)


def test_a_place_in_the_ring_leads_to_all_behind_it() -> None:
    # given
    events = filled(5)
    third = events.since(events.last - 3)[1][0]

    # when
    gap, found = events.since(third.id)

    # then
    assert gap is None
    assert [event.text for event in found] == ["3", "4"]
    assert [event.id for event in found] == [third.id + 1, third.id + 2]


@pytest.mark.parametrize(
    ("place", "missed"),
    [
        pytest.param(lambda events: events.last - 12, 2, id="fell out of the ring"),
        pytest.param(lambda events: events.last - 15, 5, id="before the first, which fell out"),
        pytest.param(lambda events: 17, None, id="of an earlier daemon"),
        pytest.param(lambda events: events.last + 1, None, id="of a daemon whose clock was ahead"),
    ],
)
def test_who_comes_too_late_is_told(place: Callable[[Events], int], missed: int | None) -> None:
    # given
    events = filled(15)

    # when
    gap, found = events.since(place(events))

    # then
    assert gap == Gap(missed, events.last - 9)
    assert [event.text for event in found] == [str(number) for number in range(5, 15)]


def test_a_follower_is_woken_by_what_happens_and_gets_it_once() -> None:
    async def follow() -> list[list[str]]:
        # given
        events = filled(3)
        with events.subscribe() as subscription:
            taken = [await subscription.take(AT_ONCE)]
            waiting = asyncio.create_task(subscription.take(SOON))
            await asyncio.sleep(0)

            # when
            events.publish("backend.down", "web/web1", "gone")
            events.publish("backend.up", "web/web1", "back")
            taken += [await waiting, await subscription.take(AT_ONCE)]
        return [[event.text for event in found] for _, found in taken]

    # then
    assert asyncio.run(follow()) == [[], ["gone", "back"], []]


def test_a_slow_follower_is_told_how_many_it_missed() -> None:
    async def follow() -> tuple[Gap | None, int]:
        # given
        events = filled(0)
        with events.subscribe() as subscription:
            # when
            for number in range(25):
                events.publish("backend.up", "web/web1", str(number))
            gap, found = await subscription.take(SOON)
        return gap, len(found)

    # then
    gap, found = asyncio.run(follow())
    assert gap is not None
    assert (gap.missed, found) == (15, 10)


def test_the_end_wakes_all_and_keeps_them_awake() -> None:
    async def follow() -> list[int]:
        # given
        events = filled(0)
        with events.subscribe() as subscription:
            await subscription.take(AT_ONCE)
            waiting = asyncio.create_task(subscription.take(SOON))
            await asyncio.sleep(0)

            # when
            events.publish("vip.gone", "192.0.2.10", "gone")
            events.close()
            return [len((await waiting)[1]), len((await subscription.take(SOON))[1])]

    # then
    assert asyncio.run(follow()) == [1, 0]


@pytest.mark.parametrize("well", [True, False])
def test_what_follows_from_a_change_comes_behind_its_news(well: bool) -> None:
    events = Events()
    before = events.last

    with (
        contextlib.suppress(RuntimeError),
        events.behind(lambda: events.publish("service.created", "web", "")),
    ):
        events.publish("backend.down", "web/web1", "refused")
        if not well:
            raise RuntimeError

    told = [event.kind for event in events.since(before)[1]]
    assert told == (["service.created"] if well else []) + ["backend.down"]


@pytest.mark.parametrize("later", [1_000_000, 10, 2_000_000_000_000])
def test_ids_of_a_later_daemon_are_higher_whatever_the_clock_says(tmp_path: Path, later: int) -> None:
    first = event_ids.begin(tmp_path / "events", now_ms=1_000_000)

    second = event_ids.begin(tmp_path / "events", now_ms=later)

    assert second >= first + event_ids.AHEAD
    assert Events(first=second).last == second - 1


@pytest.mark.parametrize("content", ["", "nonsense", "\xff"])
def test_what_cannot_be_read_leaves_the_clock(tmp_path: Path, content: str) -> None:
    (tmp_path / "events").write_text(content, encoding="latin-1")

    assert event_ids.begin(tmp_path / "events", now_ms=77) == 77


def test_what_cannot_be_written_keeps_nobody_from_starting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    assert event_ids.begin(tmp_path / "file" / "events", now_ms=77) == 77
