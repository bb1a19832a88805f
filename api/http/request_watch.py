# SPDX-License-Identifier: Apache-2.0
"""Ends a request while it is answered: when its client has disconnected, or is not allowed any more.

A read is cancelled when its client has gone; a change is carried out all the same. A request with a token that is
removed or expires in between gets no further answer. Knows neither tokens nor routes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xdpdirector.errors import NotAuthenticatedError
from xdpdirector.system.threads import to_its_end

LOOK_APART = 1.0  # seconds


class _Answer:
    """Passes on what is sent, and knows how far it is."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = self.complete = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
        elif message["type"] == "http.response.body":
            self.complete = not message.get("more_body", False)
        await self._send(message)

    async def end(self) -> None:
        """In the middle, as if this were all."""
        if self.begun and not self.complete:
            self.complete = True
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})


async def watched(
    app: ASGIApp,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    gone: asyncio.Event | None,
    is_allowed: Callable[[], bool] | None,
) -> None:
    """`gone`: the client has left, where that ends the request. `is_allowed`: still, where that can change; it is
    asked in another thread. NotAuthenticatedError when it is not, and no answer was begun."""
    answer = _Answer(send)
    serving = asyncio.ensure_future(app(scope, receive, answer))
    leaving = asyncio.ensure_future(gone.wait()) if gone else None
    waited = {serving, leaving} if leaving else {serving}
    try:
        while not serving.done():
            await asyncio.wait(
                waited, timeout=LOOK_APART if is_allowed else None, return_when=asyncio.FIRST_COMPLETED
            )
            if serving.done():
                break
            if leaving and leaving.done():
                return
            if is_allowed and not await to_its_end(is_allowed):
                await _cancelled(serving)
                if not answer.begun:
                    raise NotAuthenticatedError(
                        "The token is not valid any more: it was removed, or has expired."
                    )
                await answer.end()
                return
        serving.result()
    finally:
        if leaving:
            leaving.cancel()
        await _cancelled(serving)


async def _cancelled(serving: asyncio.Future[None]) -> None:
    """Waits until it has ended; what it raises then is of no interest."""
    if not serving.done():
        serving.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await serving
