# SPDX-License-Identifier: Apache-2.0
"""/v1/events: what happens, as server-sent events (WHATWG HTML, 9.2). The ring behind it is the director's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Annotated

from fastapi import Header, Query

from xdpdirector.api.deps import DirectorDep
from xdpdirector.api.http.read_queue import ReaderDep
from xdpdirector.api.http.sse_limit import (
    ALIVE,
    ALIVE_EVERY,
    APART,
    EventStream,
    Stream,
    message,
)
from xdpdirector.api.routers import new_router
from xdpdirector.control.events import CAPACITY, Event, Gap

router = new_router(prefix="/v1/events", tags=["events"])

Types = Annotated[
    str,
    Query(
        pattern=r"^([a-z]+(\.[a-z]+)?(,[a-z]+(\.[a-z]+)?)*)?$",
        max_length=1000,
        description="Only these kinds, with commas between: `backend.down`, or `backend` for all that begin so",
    ),
]
Last = Annotated[int, Query(ge=0, le=CAPACITY, description="Begin with so many of those that were before")]
Follow = Annotated[bool, Query(description="Go on with what will happen")]
LastEventId = Annotated[
    int | None, Header(description="Begin behind this event; a `gap` comes first when some are lost")
]


@router.get("", response_class=EventStream)
async def follow_events(
    director: DirectorDep,
    reader: ReaderDep,
    stream: Stream,
    types: Types = "",
    last: Last = 0,
    follow: Follow = True,
    last_event_id: LastEventId = None,
) -> AsyncIterator[bytes]:
    """What happens: verdicts of checks, changes, drains, VIPs, the data plane. A comment now and then keeps the
    connection alive. `id` is for `Last-Event-ID`; a `gap` says how many events the follower was too late for."""
    wanted = tuple(filter(None, types.split(",")))
    events = director.events
    with events.subscribe(last_event_id) as subscription:
        if last and last_event_id is None:
            yield await reader.in_a_stream(_sent(events.since(0)[1], wanted), last)
        while True:
            ends = not follow or events.closed
            gap, found = await subscription.take(0 if ends else ALIVE_EVERY)
            block = _missing(gap) if gap else b""
            block += await reader.in_a_stream(_sent(found, wanted))
            if block or not (found or ends):
                yield block or ALIVE
            if ends:
                return
            await asyncio.sleep(APART)


def _sent(found: Iterable[Event], wanted: tuple[str, ...]) -> Iterator[bytes]:
    """On the wire; nothing for one that is not wanted."""
    for event in found:
        yield message(event.kind, event.json_text, event.id) if _is_of(event, wanted) else b""


def _is_of(event: Event, wanted: tuple[str, ...]) -> bool:
    return not wanted or any(event.kind == kind or event.kind.startswith(f"{kind}.") for kind in wanted)


def _missing(gap: Gap) -> bytes:
    """Its id leads to the first event that is there."""
    return message("gap", json.dumps(gap._asdict()), gap.oldest - 1)
