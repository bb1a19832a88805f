# SPDX-License-Identifier: Apache-2.0
"""The event log: a bounded ring of events in their order, to publish to and to subscribe to.

Knows neither publishers nor subscribers. Runs on one asyncio loop. A subscriber keeps only its place in the ring,
so a slow one costs no memory: it learns how many events it missed.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple, overload

from xdpdirector.system import sanitize

CAPACITY = 10_000

log = logging.getLogger(__name__)


class Event(NamedTuple):
    """`kind` is dotted, the family first (`backend.down`). `json_text`: all of it, with `subject`, what it is
    about, such as `web/web1`, an address or an interface; `text`, a sentence for people; `data`, the same for
    programs."""

    id: int
    kind: str
    json_text: str

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.json_text)
        return found

    @property
    def subject(self) -> str:
        return str(self.document["subject"])

    @property
    def text(self) -> str:
        return str(self.document["text"])

    @property
    def data(self) -> dict[str, Any]:
        return dict(self.document["data"])


Fields = tuple[int, str, str]
"""Of an event. The garbage collector passes over plain tuples of text; to look through ten thousand objects with
their dictionaries took it 20 ms each time."""


class Found(Sequence[Event]):
    """Some of the ring's events. Each is an object only while somebody looks at it."""

    def __init__(self, fields: Iterable[Fields]) -> None:
        self._fields = list(fields)

    def __len__(self) -> int:
        return len(self._fields)

    @overload
    def __getitem__(self, place: int) -> Event: ...
    @overload
    def __getitem__(self, place: slice) -> Found: ...
    def __getitem__(self, place: int | slice) -> Event | Found:
        if isinstance(place, slice):
            return Found(self._fields[place])
        return Event(*self._fields[place])

    def __iter__(self) -> Iterator[Event]:
        return itertools.starmap(Event, self._fields)


class Gap(NamedTuple):
    """`missed`: how many events are lost to the follower, None when that is unknown: its place is from another run
    of the daemon. `oldest`: the id of the first one that is there, or that will be."""

    missed: int | None
    oldest: int


class Events:
    """Ids increase by one, from `first` on. Those of a later daemon are higher: see
    `xdpdirector.storage.event_ids`."""

    def __init__(self, capacity: int = CAPACITY, first: int | None = None) -> None:
        self._ring: deque[Fields] = deque(maxlen=capacity)
        self._first = self._next = time.time_ns() // 1_000_000 if first is None else first
        self._followers: set[Subscription] = set()
        self._closed = False
        self._held: list[tuple[str, str, str, dict[str, Any]]] | None = None

    @property
    def last(self) -> int:
        """The id of the latest event, or the one before the first."""
        return self._next - 1

    @property
    def closed(self) -> bool:
        return self._closed

    @contextmanager
    def behind(self, news: Callable[[], None]) -> Iterator[None]:
        """Hold back all events of the block, and of other tasks meanwhile, until its end. When the block succeeds,
        `news` publishes its own events before them."""
        held = self._held = []
        try:
            yield
            self._held = None
            news()
        finally:
            self._held = None
            for kind, subject, text, data in held:
                self.publish(kind, subject, text, **data)

    def publish(self, kind: str, subject: str, text: str, **data: Any) -> None:
        """Add an event to the ring and a line to the log. `data` must fit into JSON."""
        if self._held is not None:
            self._held.append((kind, subject, text, data))
            return
        subject, text = sanitize.line(subject), sanitize.line(text)
        at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        document = {
            "id": self._next, "at": at, "kind": kind, "subject": subject, "text": text, "data": data
        }  # fmt: skip
        self._ring.append((self._next, kind, json.dumps(document, separators=(",", ":"), default=str)))
        self._next += 1
        log.info("%s %s: %s", kind, subject, text)
        self._wake()

    def since(self, after: int) -> tuple[Gap | None, Found]:
        """All events after the one with that id, and the gap before them if they do not follow on it."""
        oldest = self._ring[0][0] if self._ring else self._next
        if after > self.last or after < self._first - 1:
            return Gap(None, oldest), self._from(0)
        if after + 1 < oldest:
            return Gap(oldest - after - 1, oldest), self._from(0)
        return None, self._from(after + 1 - oldest)

    def _from(self, place: int) -> Found:
        return Found(itertools.islice(self._ring, place, None))

    def subscribe(self, after: int | None = None) -> Subscription:
        """Follow the events after that id, or from now on. A context manager."""
        return Subscription(self, self.last if after is None else after)

    def close(self) -> None:
        """End: subscribers get what is there, and then end."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        for follower in self._followers:
            follower.news.set()


class Subscription:
    """A place in the ring."""

    def __init__(self, events: Events, after: int) -> None:
        self._events, self._after = events, after
        self.news = asyncio.Event()
        """Set by `Events` when there may be something to take."""

    def __enter__(self) -> Subscription:
        self._events._followers.add(self)
        self.news.set()
        return self

    def __exit__(self, *_: object) -> None:
        self._events._followers.discard(self)

    async def take(self, within: float) -> tuple[Gap | None, Found]:
        """What has happened since it was asked last; waits so many seconds for something, then there is nothing.
        Nothing comes at once when the events are at their end (`Events.closed`)."""
        try:
            async with asyncio.timeout(within):
                await self.news.wait()
        except TimeoutError:
            return None, Found(())
        if not self._events.closed:
            self.news.clear()
        gap, found = self._events.since(self._after)
        self._after = self._events.last
        return gap, found
