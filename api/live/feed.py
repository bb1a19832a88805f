# SPDX-License-Identifier: Apache-2.0
"""What the dashboard shows of the present second: computed once for all viewers, and only while there are any.

Knows counters and states, no HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager

from xdpdirector.api.director_interface import Control
from xdpdirector.api.http.loop_turns import in_turns
from xdpdirector.api.live.documents import (
    MOST_TROUBLED,
    Document,
    Snapshot,
    by_topic,
    encoded,
    is_of_services,
)
from xdpdirector.api.live.history import INTERVAL as HISTORY_INTERVAL
from xdpdirector.api.live.history import History
from xdpdirector.errors import DirectorError
from xdpdirector.model.status import GuardView

INTERVAL = 1.0  # seconds between two snapshots while there are viewers
MOST_DENIED = 5000  # prefixes, of which the busiest can still be found
TOP = 20
MANY_BACKENDS = 250  # from which on all of them are not read each second
SLOW_TOPICS_EVERY = 3  # snapshots, for what changes little and costs more; few enough that it is never stale

log = logging.getLogger(__name__)


class Viewer:
    """Takes what there is of its topics, snapshot by snapshot; one that is slow misses some."""

    def __init__(self, feed: LiveFeed, topics: frozenset[str]) -> None:
        self.topics = topics
        self._feed, self._seen = feed, feed._number if feed._following is None else 0

    async def take(self, within: float) -> dict[str, bytes] | None:
        """By topic, and `state`, as JSON; None when nothing new comes within so many seconds."""
        found = await self._feed._after(self._seen, within)
        if found is None:
            return None
        self._seen, parts = found
        return {name: part for name, part in parts.items() if name == "state" or name in self.topics}


class LiveFeed:
    """Everything happens on the loop, but for the encoding. `now`: seconds since 1970; `clock`:
    monotonic ones."""

    def __init__(
        self,
        director: Control,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._director, self._now, self._clock = director, now, clock
        self.history = History()
        self._viewers: set[Viewer] = set()
        self._following: asyncio.Task[None] | None = None
        self._news = asyncio.Condition()
        self._number = 0
        self._last: Snapshot | None = None
        self._earlier: Snapshot | None = None  # with which that one was compared
        self._parts: dict[str, bytes] = {}

    # Reading

    async def record(self) -> None:
        """Keep an entry of the history every ten seconds, for ever."""
        while True:
            try:
                self.keep()
            except DirectorError as error:
                log.debug("no rates can be kept: %s", error.detail)
            await asyncio.sleep(HISTORY_INTERVAL)

    def keep(self) -> None:
        """Costs little: it is done for ever, with thousands of services, and mostly nobody looks."""
        vitals, services = self._director.vitals(), self._director.service_counters()
        self.history.add(self._clock(), self._now(), vitals, services)
        if self._last is not None and self._clock() - self._last.moment > 2 * HISTORY_INTERVAL:
            self._last = self._earlier = None  # nobody has looked for long, and they are large

    async def _snapshot(self, known: Snapshot | None = None) -> Snapshot:
        """`known`: with that one's services, which cost most."""
        event = self._director.events.last
        services = known.services if known else tuple(await in_turns(self._director.samples()))
        readiness, vitals = self._director.readiness(), self._director.vitals()
        at, moment = self._now(), self._clock()
        sampled, event = (known.sampled, known.event) if known else (moment, event)
        return Snapshot(at, moment, services, readiness, vitals, sampled, event)

    def _still_true(self, snapshot: Snapshot, topics: frozenset[str]) -> bool:
        """Many services are read anew when something has happened, and else as often as what costs much."""
        return (
            sum(len(each.backends) for each in snapshot.services) > MANY_BACKENDS
            and snapshot.event == self._director.events.last
            and self._clock() - snapshot.sampled < (SLOW_TOPICS_EVERY - 0.5) * INTERVAL
            and {each for each in topics if is_of_services(each)} <= self._parts.keys()
        )

    # Following

    @asynccontextmanager
    async def viewer(self, topics: Iterable[str]) -> AsyncIterator[Viewer]:
        """Of these topics; `service:NAME` is one."""
        key = Viewer(self, frozenset(topics))
        self._viewers.add(key)
        if self._following is None:
            self._following = asyncio.create_task(self._follow(), name="the dashboard's snapshots")
        try:
            yield key
        finally:
            self._viewers.discard(key)
            if not self._viewers and self._following is not None:
                following, self._following = self._following, None
                self._parts = {}  # the next one gets nothing old
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)

    async def _after(self, seen: int, within: float) -> tuple[int, Mapping[str, bytes]] | None:
        """The present behind snapshot number `seen`; None when there is none within so many seconds."""
        try:
            async with asyncio.timeout(within), self._news:
                await self._news.wait_for(lambda: self._number > seen and bool(self._parts))
                return self._number, self._parts
        except TimeoutError:
            return None

    async def _follow(self) -> None:
        while True:
            begun = self._clock()
            try:
                self._parts = await self._present()
            except DirectorError as error:
                self._parts = {"state": encoded({"at": self._now(), "trouble": error.detail})}
            except Exception:
                log.exception("the dashboard cannot be shown the present")
                self._parts = {
                    "state": encoded({"at": self._now(), "trouble": "The director's log says more."})
                }
            async with self._news:
                self._number += 1
                self._news.notify_all()
            await asyncio.sleep(max(0.2, INTERVAL - (self._clock() - begun)))

    async def _present(self) -> dict[str, bytes]:
        """By topic, as JSON."""
        before, topics = self._last, frozenset[str]().union(*(each.topics for each in self._viewers))
        if before is not None and self._clock() - before.moment < INTERVAL / 4:  # too close for a rate
            before = self._earlier
        if before is not None and self._clock() - before.moment > 2 * HISTORY_INTERVAL:
            before = None
        parts: dict[str, bytes] = {}
        if self._last is not None and self._still_true(self._last, topics):
            snapshot = await self._snapshot(self._last)
            parts = {topic: part for topic, part in self._parts.items() if is_of_services(topic)}
        else:
            snapshot = await self._snapshot()
        self._earlier, self._last = before, snapshot
        for topic, show in (("guard", self._guard), ("lan", self._lan)):
            if topic in topics:
                is_due = self._number % SLOW_TOPICS_EVERY == 0 or topic not in self._parts
                parts[topic] = await show() if is_due else self._parts[topic]
        findings = [each.model_dump(mode="json") for each in self._director.lan.findings[:MOST_TROUBLED]]
        beside = {
            "tag": self._director.tag(),
            "findings": findings,
            "fleet": self._director.fleet_view().model_dump(mode="json"),
        }
        unknown = topics - parts.keys()
        return parts | await asyncio.to_thread(lambda: dict(by_topic(snapshot, before, unknown, beside)))

    async def _lan(self) -> bytes:
        view = self._director.lan.view()
        return await asyncio.to_thread(lambda: view.model_dump_json().encode())

    async def _guard(self) -> bytes:
        guard = self._director.guard
        view: GuardView = guard.view()
        prefixes = guard.denied()
        top: list[Document] = []
        if len(prefixes) <= MOST_DENIED:

            def denials() -> Iterator[Document | None]:
                for prefix in prefixes:
                    try:
                        yield guard.denial(prefix).model_dump(mode="json")
                    except DirectorError:  # it went meanwhile
                        yield None

            found = await in_turns(denials())
            top = sorted(found, key=lambda each: -each["packets"])[:TOP]
        return encoded(
            view.model_dump(mode="json") | {"top": top, "top_is_known": len(prefixes) <= MOST_DENIED}
        )
