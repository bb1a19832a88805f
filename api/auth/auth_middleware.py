# SPDX-License-Identifier: Apache-2.0
"""The gate before all routes: who asks, how often, how much at once, and whether that one may do this.

A plain ASGI layer. Nothing of a request's body is read before it is through. Knows operations by their ids, roles
from the table, and nothing of what an operation does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Protocol

from fastapi import Request
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from xdpdirector.api.auth import csrf
from xdpdirector.api.auth.access import Access
from xdpdirector.api.auth.auditing import Audited, turn_away
from xdpdirector.api.auth.identity import (
    Identity,
    Peer,
    identify,
    identify_session,
    whence,
)
from xdpdirector.api.auth.rate_limit import Rates, UnderWay
from xdpdirector.api.auth.request_counts import Tallies
from xdpdirector.api.auth.roles import (
    BROWSERS,
    OPEN,
    ROLES,
    Operations,
    changes,
)
from xdpdirector.api.http import problems
from xdpdirector.api.http.request_watch import watched
from xdpdirector.api.http.strict_parameters import one_header
from xdpdirector.errors import DirectorError, NotAllowedError, NotAuthenticatedError, StoreError
from xdpdirector.model.access import Role
from xdpdirector.system.threads import to_its_end

_NOBODY = Peer()


class Line(Protocol):
    """The connection that a request came over."""

    @property
    def gone(self) -> asyncio.Event:
        """Set when the client has left."""

    def introduce(self, *, privileged: bool) -> None:
        """The client has said who it is. OverloadedError when there is no room for it."""


class Gate:
    """Leaves `operation` and `identity` in the request's state for those behind it."""

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
            if operation in BROWSERS:
                csrf.require_own_host(request.url.scheme, request.headers)
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
                allowed = partial(self._is_still, request, identity) if identity.can_end else None
                await watched(self._app, scope, receive, send, gone=gone, is_allowed=allowed)

            if operation is None and (methods := self._operations.methods(request.scope)):
                await problems.method_not_allowed(request, methods)(request.scope, receive, send)
                return
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
            named = partial(self._named, request, authorization, peer)
            may_wait = authorization is not None or bool(
                request.cookies
            )  # for a file that another process holds
            identity = await to_its_end(named) if may_wait else named()
        except DirectorError as error:
            if authorization is not None and isinstance(error, NotAuthenticatedError):
                strangers = self._tallies.strangers
                await turn_away(self._access.audit, strangers, request, operation, peer)
            self._rates.take(whence(peer))
            raise
        self._rates.take(_key(identity))
        return identity

    def _named(self, request: Request, authorization: str | None, peer: Peer) -> Identity:
        """By a token; else by a session, else by the kernel, and then it may be a browser that another site's page
        has set to work. NotAuthenticatedError, NotAllowedError."""
        access, headers, method = self._access, request.headers, request.method
        if authorization is not None:
            return identify(peer, authorization, access.tokens, access.spec.role)
        csrf.require_own_host(request.url.scheme, headers)
        csrf.require_own_page(method, headers)
        cookie = request.cookies.get(csrf.cookie_name(request.url.scheme, headers))
        if cookie and access.spec.dashboard:
            found = identify_session(peer, cookie, access.sessions, access.tokens, access.spec.role)
            if found:
                csrf.require_own_header(method, headers)
                return found
            if peer.uid is None:
                raise NotAuthenticatedError("The session is over: log in again.")
        return identify(peer, None, access.tokens, access.spec.role)

    def _is_still(self, request: Request, identity: Identity) -> bool:
        """Whether the token or the session still says the same. While nobody can tell, it does."""
        try:
            now = self._named(request, request.headers.get("authorization"), identity.peer)
        except NotAuthenticatedError:
            return False
        except StoreError:
            return True
        return now == identity

    def _authorize(self, operation: str | None, identity: Identity) -> None:
        """What is no operation is left to the router, which has 404 for it."""
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
