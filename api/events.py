# SPDX-License-Identifier: Apache-2.0
"""/v1/events: what happens, as server-sent events (WHATWG HTML, 9.2). The ring behind it is the director's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from xdpdirector.api.deps import DirectorDep
from xdpdirector.api.streams import Stream
from xdpdirector.events import CAPACITY, Event, Events, Gap

PATIENCE = 3600.0  # seconds; the framework sends comments meanwhile

router = APIRouter(prefix="/v1/events", tags=["events"])

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


@router.get("", response_class=EventSourceResponse)
async def follow_events(
    director: DirectorDep,
    stream: Stream,
    types: Types = "",
    last: Last = 0,
    follow: Follow = True,
    last_event_id: LastEventId = None,
) -> AsyncIterator[ServerSentEvent]:
    """What happens: verdicts of checks, changes, drains, VIPs, the data plane. A comment now and then keeps the
    connection alive. `id` is for `Last-Event-ID`; a `gap` says how many events the follower was too late for."""
    wanted = tuple(filter(None, types.split(",")))
    events = director.events
    with events.subscribe(last_event_id) as subscription:
        for event in _latest(events, wanted, last) if last_event_id is None else ():
            yield _sent(event)
        while True:
            gap, found = await subscription.take(PATIENCE if follow else 0)
            if gap:
                yield _missing(gap)
            for event in found:
                if _is_of(event, wanted):
                    yield _sent(event)
            if not follow or events.closed:
                return


def _latest(events: Events, wanted: tuple[str, ...], last: int) -> list[Event]:
    _, everything = events.since(0)
    matching = [event for event in everything if _is_of(event, wanted)]
    return matching[len(matching) - min(last, len(matching)) :]


def _is_of(event: Event, wanted: tuple[str, ...]) -> bool:
    return not wanted or any(event.kind == kind or event.kind.startswith(f"{kind}.") for kind in wanted)


def _sent(event: Event) -> ServerSentEvent:
    return ServerSentEvent(event=event.kind, id=str(event.id), data=event)


def _missing(gap: Gap) -> ServerSentEvent:
    """Its id leads to the first event that is there."""
    return ServerSentEvent(event="gap", id=str(gap.oldest - 1), data=gap._asdict())
