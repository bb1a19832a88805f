# SPDX-License-Identifier: Apache-2.0
"""Access control: authenticates the client, limits its rate, checks its role, writes changes into the audit.

Routes call it before anything of the body is read (`xdpdirector.api.routers`). Knows operations by their ids
and roles by the table in `roles`; nothing of what an operation does.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Protocol

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from xdpdirector.api.auth import csrf
from xdpdirector.api.auth.access import Access
from xdpdirector.api.auth.auditing import Audited, reject_unauthenticated
from xdpdirector.api.auth.identity import (
    Identity,
    Peer,
    client_key,
    identify,
    identify_session,
)
from xdpdirector.api.auth.rate_limit import ConcurrencyLimiter, RateLimiter
from xdpdirector.api.auth.request_counts import RequestCounts
from xdpdirector.api.auth.roles import (
    BROWSERS,
    OPEN,
    ROLES,
    changes,
)
from xdpdirector.api.http.request_watch import watched
from xdpdirector.api.http.strict_parameters import one_header
from xdpdirector.errors import DirectorError, NotAllowedError, NotAuthenticatedError, StoreError
from xdpdirector.model.access import Role
from xdpdirector.system.threads import to_its_end

_NOBODY = Peer()


class ClientConnection(Protocol):
    """The connection that a request came over."""

    @property
    def gone(self) -> asyncio.Event:
        """Set when the client has left."""

    def authenticated(self, *, privileged: bool) -> None:
        """The client is authenticated. OverloadedError when there are too many connections of such clients."""


class AccessControl:
    """Leaves `operation` and `identity` in the request's state."""

    def __init__(self, access: Access, request_counts: RequestCounts) -> None:
        self._access, self._request_counts = access, request_counts
        self._rate_limiter = RateLimiter(access.spec.rate, 2 * access.spec.rate)
        self._under_way = ConcurrencyLimiter()

    async def serve(
        self, operation: str | None, app: ASGIApp, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Let `app` answer, if the client may. `operation`: None where `app` answers 404 or 405.

        DirectorError when the client may not."""
        request = Request(scope)
        request.state.operation = operation
        peer: Peer = getattr(request.state, "peer", _NOBODY)
        connection: ClientConnection | None = getattr(request.state, "line", None)
        if operation in OPEN:
            self._rate_limiter.take(client_key(peer))
            if operation in BROWSERS:
                csrf.require_own_host(request.url.scheme, request.headers)
            await app(scope, receive, send)
            return
        identity = await self._identify(request, operation, peer)
        request.state.identity = identity
        privileged = identity.role.covers(Role.ADMIN)
        if connection:
            connection.authenticated(privileged=privileged)
        with self._under_way.one(_key(identity), privileged=privileged):
            is_change = operation is not None and changes(operation, request.method)

            async def served(scope: Scope, receive: Receive, send: Send) -> None:
                gone = connection.gone if connection and not is_change else None
                allowed = partial(self._is_still, request, identity) if identity.can_end else None
                await watched(app, scope, receive, send, gone=gone, is_allowed=allowed)

            if not is_change:
                _authorize(operation, identity)
                await served(scope, receive, send)
                return
            audited = Audited(self._access.audit, request, operation, identity)
            try:
                _authorize(operation, identity)
            except DirectorError as error:
                await audited.refused(error)
                raise
            await audited.run(served, receive, send)

    async def _identify(self, request: Request, operation: str | None, peer: Peer) -> Identity:
        """A request that fails counts against the rate of its address."""
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
                failed_logins = self._request_counts.failed_logins
                await reject_unauthenticated(self._access.audit, failed_logins, request, operation, peer)
            self._rate_limiter.take(client_key(peer))
            raise
        self._rate_limiter.take(_key(identity))
        return identity

    def _named(self, request: Request, authorization: str | None, peer: Peer) -> Identity:
        """By a token; else by a session, else by the kernel's credentials of the peer. Without a token the
        client may be a browser that a page of another site uses. NotAuthenticatedError, NotAllowedError."""
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
        """Whether the token or the session still has the same name and role. While the store cannot be read:
        yes."""
        try:
            now = self._named(request, request.headers.get("authorization"), identity.peer)
        except NotAuthenticatedError:
            return False
        except StoreError:
            return True
        return now == identity


def _authorize(operation: str | None, identity: Identity) -> None:
    """NotAllowedError. What is no operation is answered with 404 or 405."""
    if operation is None:
        return
    role = ROLES.get(operation)
    if role is None:
        raise NotAllowedError(f"The operation {operation} has no role: nobody may use it.")
    if not identity.role.covers(role):
        raise NotAllowedError(_denial(operation, role, identity))


def _denial(operation: str, needed: Role, identity: Identity) -> str:
    return f"{operation} needs the role {needed}, and '{identity.name}' has the role {identity.role}."


def _key(identity: Identity) -> str:
    """The key of the limits that a request counts against."""
    return identity.name
