# SPDX-License-Identifier: Apache-2.0
"""/v1/live: one stream for all that a page of the dashboard shows, at most once a second. `api/live` fills it.

It goes on behind the last event that a viewer has (`Last-Event-ID`), so that who comes back misses none.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from xdpdirector.api.deps import DirectorDep
from xdpdirector.api.director_interface import Control
from xdpdirector.api.http.sse_limit import Stream
from xdpdirector.api.live.feed import LiveFeed
from xdpdirector.api.routers import new_router
from xdpdirector.model import Name

MOST_EVENTS = 200  # at once; the log has the others
SILENCE = 5.0  # seconds, after which something is said in any case

router = new_router(prefix="/v1/live", tags=["statistics"])

Topics = Annotated[
    str,
    Query(
        pattern="^((services|guard|lan|events)(,(services|guard|lan|events))*)?$",
        description="What besides the state of all: `services`, `guard`, `lan`, `events`, with commas between",
    ),
]
Service = Annotated[Name | None, Query(description="With this service's backends")]
Follow = Annotated[bool, Query(description="Go on with the seconds to come")]
LastEventId = Annotated[int | None, Header(description="With the events behind this one")]


class _Ending(StreamingResponse):
    """A stream whose generator ends with it, and not when it is garbage-collected."""

    media_type = "text/event-stream"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self.body_iterator):  # type: ignore[type-var]
            await super().__call__(scope, receive, send)


@router.get(
    "",
    response_class=_Ending,
    responses={
        200: {
            "description": "`history` once, then `present` each second",
            "content": {"text/event-stream": {}},
        }
    },
)
async def follow_present(
    request: Request,
    director: DirectorDep,
    stream: Stream,
    topics: Topics = "",
    service: Service = None,
    follow: Follow = True,
    last_event_id: LastEventId = None,
) -> Response:
    """What the dashboard shows, once a second: states, rates, problems. The same for all who follow; its fields may
    change with each release, so programs take /metrics, /v1/stats or /v1/events."""
    if service is not None:
        director.tag(service)
    wanted = set(filter(None, topics.split(",")))
    feed: LiveFeed = request.app.state.live_feed
    content = _stream(feed, director, wanted, service, last_event_id, follow=follow)
    return _Ending(content, headers={"cache-control": "no-store", "x-accel-buffering": "no"})


async def _stream(
    feed: LiveFeed,
    director: Control,
    topics: set[str],
    service: str | None,
    last_event_id: int | None,
    *,
    follow: bool = True,
) -> AsyncIterator[bytes]:
    events = director.events
    after = last_event_id
    if after is None:
        _, known = events.since(0)
        after = known[-MOST_EVENTS - 1].id if len(known) > MOST_EVENTS else 0
    named = {f"service:{service}"} if service else set()
    history = await asyncio.to_thread(
        lambda: json.dumps(feed.history.document(), separators=(",", ":")).encode()
    )
    yield b"event: history\ndata: %b\n\n" % history
    async with feed.viewer(topics | named) as viewer:
        while not events.closed:
            parts = await viewer.take(SILENCE)
            if parts is None:
                yield b": the director is busy\n\n"
                continue
            last = events.last
            if "events" in topics:
                gap, found = events.since(after)
                missed = max(0, len(found) - MOST_EVENTS) + ((gap.missed or 0) if gap else 0)
                texts = b",".join(each.json_text.encode() for each in found[-MOST_EVENTS:])
                parts["events"] = b"[%b]" % texts
                parts["events_missed"] = b"%d" % missed
            after = last
            body = b",".join(b'"%b":%b' % (_topic(name), part) for name, part in parts.items())
            yield b"id: %d\nevent: present\ndata: {%b}\n\n" % (last, body)
            if not follow:
                return


def _topic(name: str) -> bytes:
    return name.partition(":")[0].encode()
