# SPDX-License-Identifier: Apache-2.0
"""Metrics of the API itself: requests by operation and status, their durations, and how many are being answered.

Knows operations by their ids, of which there are a bounded number.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xdpdirector.api.auth.failed_logins import FailedLogins

NO_OPERATION = "none"


class RequestCounts:
    """Counts since the daemon started."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.seconds: Counter[str] = Counter()
        self.under_way = 0
        self.failed_logins = FailedLogins()

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

    def __init__(self, app: ASGIApp, request_counts: RequestCounts) -> None:
        self._app, self._request_counts = app, request_counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with self._request_counts.one(scope, send) as counted:
            await self._app(scope, receive, counted)
