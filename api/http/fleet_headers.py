# SPDX-License-Identifier: Apache-2.0
"""What a desired state that several directors share adds to answers: how old what is read may be (Age, RFC 9111,
section 5.1), and which directors have a change already. A plain ASGI layer; only where there is such a state.
"""

from __future__ import annotations

from typing import Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xdpdirector.model.fleet import StoreView

APPLIED, PENDING = b"fleet-applied", b"fleet-pending"


class Shared(Protocol):
    """`xdpdirector.control.fleet_follower.FleetFollower` is one."""

    @property
    def position(self) -> tuple[int, int]:
        """What this director has: the revision, and how many changes of the deny list."""

    def store(self) -> StoreView: ...

    async def applied(self) -> tuple[list[str], list[str]]:
        """The directors that have what this one has, and those that do not have it yet."""


class FleetHeaders:
    """Without Age it is not known how old it is."""

    def __init__(self, app: ASGIApp, fleet: Shared) -> None:
        self._app, self._fleet = app, fleet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        before = self._fleet.position

        async def completed(message: Message) -> None:
            if message["type"] == "http.response.start":
                more = await self._headers(scope["method"], before)
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        await self._app(scope, receive, completed)

    async def _headers(self, method: str, before: tuple[int, int]) -> list[tuple[bytes, bytes]]:
        if method in ("GET", "HEAD"):
            age = self._fleet.store().age
            return [] if age is None else [(b"age", str(int(age)).encode())]
        if self._fleet.position == before:  # nothing was changed
            return []
        named = zip((APPLIED, PENDING), await self._fleet.applied(), strict=True)
        return [(name, ", ".join(directors).encode()) for name, directors in named if directors]
