# SPDX-License-Identifier: Apache-2.0
"""The gate before all routes: who asks, how often, how much at once, and whether that one may do this.

A plain ASGI layer. Nothing of a request's body is read before it is through. Knows operations by their ids, roles
from the table, and nothing of what an operation does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from functools import partial
from typing import Protocol

from fastapi import Request
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from xdpdirector.accessspec import Role
from xdpdirector.api import problems
from xdpdirector.api.access import Access
from xdpdirector.api.auditing import Audited, tell_of_stranger
from xdpdirector.api.identity import Identity, Peer, identify, whence
from xdpdirector.api.rates import Rates, UnderWay
from xdpdirector.api.roles import OPEN, ROLES, Operations, changes
from xdpdirector.api.strictness import one_header
from xdpdirector.api.tallies import Tallies
from xdpdirector.api.vigil import watched
from xdpdirector.errors import DirectorError, NotAllowedError, NotAuthenticatedError, StoreError

_NOBODY = Peer()
log = logging.getLogger(__name__)


async def pause(seconds: float) -> None:
    await asyncio.sleep(seconds)


class Line(Protocol):
    """The connection that a request came over."""

    @property
    def gone(self) -> asyncio.Event:
        """Set when the client has left."""

    def introduce(self, *, privileged: bool) -> None:
        """The client has said who it is. OverloadedError when there is no room for it."""


class Gate:
    """Leaves `operation` (else the path's `methods`) and `identity` in the request's state for those behind it."""

    def __init__(
        self, app: ASGIApp, routes: Iterable[BaseRoute], access: Access, tallies: Tallies | None = None
    ) -> None:
        self._app, self._operations, self._access = app, Operations(routes), access
        self._rates, self._under_way = Rates(access.spec.rate, 2 * access.spec.rate), UnderWay()
        self._tallies = tallies or Tallies()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        operation = request.state.operation = self._operations.of(scope)
        if operation is None:
            request.state.methods = self._operations.methods(scope)
        with self._tallies.one(operation, send) as counted:
            try:
                await self._pass(request, operation, receive, counted)
            except DirectorError as error:  # of the gate itself: those of the routes are answered behind it
                await problems.of_error(request, error)(scope, receive, counted)

    async def _pass(self, request: Request, operation: str | None, receive: Receive, send: Send) -> None:
        peer: Peer = getattr(request.state, "peer", _NOBODY)
        line: Line | None = getattr(request.state, "line", None)
        if operation in OPEN:
            self._rates.take(whence(peer))
            await self._app(request.scope, receive, send)
            return
        identity = await self._identify(request, operation, peer)
        request.state.identity = identity
        privileged = identity.role.covers(Role.ADMIN)
        if line:
            line.introduce(privileged=privileged)
        with self._under_way.one(_key(identity), privileged=privileged):
            is_change = operation is not None and changes(operation, request.method)

            async def served(scope: Scope, receive: Receive, send: Send) -> None:
                gone = line.gone if line and not is_change else None
                allowed = partial(self._is_still, request, identity) if identity.has_token else None
                await watched(self._app, scope, receive, send, gone=gone, is_allowed=allowed)

            if not is_change:
                self._authorize(operation, identity)
                await served(request.scope, receive, send)
                return
            audited = Audited(self._access.audit, request, operation, identity)
            try:
                self._authorize(operation, identity)
            except DirectorError as error:
                await audited.refused(error)
                raise
            await audited.run(served, receive, send)

    async def _identify(self, request: Request, operation: str | None, peer: Peer) -> Identity:
        """Who cannot be named asks on the account of the address."""
        authorization = None
        try:
            authorization = one_header(request, "authorization")
            identity = identify(peer, authorization, self._access.tokens, self._access.spec.role)
        except DirectorError as error:
            if authorization is not None and isinstance(error, NotAuthenticatedError):
                await self._fail(request, operation, peer)
            self._rates.take(whence(peer))
            raise
        self._rates.take(_key(identity))
        return identity

    async def _fail(self, request: Request, operation: str | None, peer: Peer) -> None:
        """Somebody came with a token that is none: told once in a while, and slowed down when it goes on."""
        failure = self._tallies.strangers.failed(whence(peer))
        if failure.tell:
            text = f"requests without a valid token from {whence(peer)}: {failure.tell}"
            log.warning("%s", text)
            await tell_of_stranger(self._access.audit, request, operation, peer, text)
        if failure.delay:
            await pause(failure.delay)

    def _is_still(self, request: Request, identity: Identity) -> bool:
        """Whether the token still says the same. While nobody can tell, it does."""
        authorization = request.headers.get("authorization")
        try:
            now = identify(identity.peer, authorization, self._access.tokens, self._access.spec.role)
        except NotAuthenticatedError:
            return False
        except StoreError:
            return True
        return now == identity

    def _authorize(self, operation: str | None, identity: Identity) -> None:
        """What is no operation is left to the router, which has 404 or 405 for it."""
        if operation is None:
            return
        role = ROLES.get(operation)
        if role is None:
            raise NotAllowedError(f"The operation {operation} has no role: nobody may use it.")
        if not identity.role.covers(role):
            raise NotAllowedError(_denial(operation, role, identity))


async def through_the_gate(request: Request) -> None:
    """A second lock, on every route: what the gate let through is what is carried out."""
    route = getattr(request.scope.get("route"), "name", None)
    if route is None or route != getattr(request.state, "operation", None):
        raise NotAllowedError(f"The operation {route} was not let in: nobody may use it this way.")


def _denial(operation: str, needed: Role, identity: Identity) -> str:
    return f"{operation} needs the role {needed}, and '{identity.name}' has the role {identity.role}."


def _key(identity: Identity) -> str:
    """Whose account a request is on."""
    return identity.name
