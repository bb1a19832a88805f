# SPDX-License-Identifier: Apache-2.0
"""HEAD is GET without the content (RFC 9110, section 9.3.2). A plain ASGI layer before all others."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadAsGet:
    """What is behind it sees GET. It ends when the answer's head is there: a stream would go on for ever."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        begun = asyncio.Event()

        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                begun.set()

        answering = asyncio.ensure_future(self._app({**scope, "method": "GET"}, receive, headed))
        enough = asyncio.ensure_future(begun.wait())
        try:
            await asyncio.wait([answering, enough], return_when=asyncio.FIRST_COMPLETED)
        finally:
            enough.cancel()
            if begun.is_set() or not answering.done():
                answering.cancel()
        with suppress(asyncio.CancelledError):
            await answering
