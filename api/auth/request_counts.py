# SPDX-License-Identifier: Apache-2.0
"""What the API itself did, for metrics: requests by operation and status, how long they took, who is inside.

Knows operations by their ids, of which there are a bounded number.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xdpdirector.api.auth.failed_logins import Strangers

NO_OPERATION = "none"


class Tallies:
    """Counts since the daemon started."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.seconds: Counter[str] = Counter()
        self.under_way = 0
        self.strangers = Strangers()

    @contextmanager
    def one(self, scope: Scope, send: Send) -> Iterator[Send]:
        """A request for the length of the block; its answer goes through what this gives. One without an answer
        has the status 0. The route leaves the operation in the request's state."""
        status, begun = 0, time.monotonic()

        async def watching(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
            await send(message)

        self.under_way += 1
        try:
            yield watching
        finally:
            name = scope.get("state", {}).get("operation") or NO_OPERATION
            self.under_way -= 1
            self.requests[name, status] += 1
            self.seconds[name] += time.monotonic() - begun  # type: ignore[assignment]


class CountRequests:
    """A plain ASGI layer around the routes."""

    def __init__(self, app: ASGIApp, tallies: Tallies) -> None:
        self._app, self._tallies = app, tallies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with self._tallies.one(scope, send) as counted:
            await self._app(scope, receive, counted)
