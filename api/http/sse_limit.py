# SPDX-License-Identifier: Apache-2.0
"""Server-sent streams (WHATWG HTML, 9.2): how many may run at once, how one ends, and how it is written. Knows
nothing of what they say.

They are written in blocks: one for all that there is to say, and not many in a second, so that thirty streams of a
busy director do not cost what thirty directors do. The framework's own go event by event through two pipes and four
tasks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request, Response
from fastapi.responses import StreamingResponse

from xdpdirector.api.http.read_queue import STREAMS
from xdpdirector.errors import OverloadedError

MOST = STREAMS
APART = 0.1  # seconds between two blocks at least
ALIVE_EVERY = 15.0  # seconds without anything to say, after which a comment goes out
ALIVE = b": ping\n\n"


class EventStream(StreamingResponse):
    """Of an endpoint that yields blocks."""

    media_type = "text/event-stream"


def message(event: str, data: str, identity: int | None = None) -> bytes:
    """On the wire; `data` has no line break, as JSON has none."""
    behind = "" if identity is None else f"id: {identity}\n"
    return f"event: {event}\ndata: {data}\n{behind}\n".encode()


async def _stream(request: Request, response: Response) -> AsyncIterator[None]:
    """A place among them for as long as the response takes; OverloadedError when there is none."""
    state = request.app.state
    running = getattr(state, "streams", 0)
    if running >= MOST:
        raise OverloadedError(f"{MOST} streams run already, which is the most: end one of them first")
    response.headers["cache-control"] = "no-cache"
    response.headers["x-accel-buffering"] = "no"  # nginx would collect them
    state.streams = running + 1
    try:
        yield
    finally:
        state.streams -= 1


Stream = Annotated[None, Depends(_stream)]
