# SPDX-License-Identifier: Apache-2.0
"""The gate before all routes: who asks, how often, how much at once, and whether that one may do this.

A plain ASGI layer. Nothing of a request's body is read before it is through. Knows operations by their ids, roles
from the table, and nothing of what an operation does.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network

from fastapi import Request
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from xdpdirector.accessspec import Role
from xdpdirector.api import problems
from xdpdirector.api.access import Access
from xdpdirector.api.auditing import Audited
from xdpdirector.api.identity import Identity, Peer, identify
from xdpdirector.api.rates import Rates, UnderWay
from xdpdirector.api.roles import OPEN, ROLES, Operations, changes
from xdpdirector.api.strictness import one_header
from xdpdirector.errors import DirectorError, NotAllowedError

_NOBODY = Peer()


class Gate:
    """Leaves `operation` (else the path's `methods`) and `identity` in the request's state for those behind it."""

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute], access: Access) -> None:
        self._app, self._operations, self._access = app, Operations(routes), access
        self._rates, self._under_way = Rates(access.spec.rate, 2 * access.spec.rate), UnderWay()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        operation = request.state.operation = self._operations.of(scope)
        if operation is None:
            request.state.methods = self._operations.methods(scope)
        try:
            await self._pass(request, operation, receive, send)
        except DirectorError as error:  # of the gate itself: those of the routes are answered behind it
            await problems.of_error(request, error)(scope, receive, send)

    async def _pass(self, request: Request, operation: str | None, receive: Receive, send: Send) -> None:
        peer: Peer = getattr(request.state, "peer", _NOBODY)
        if operation in OPEN:
            self._rates.take(_whence(peer))
            await self._app(request.scope, receive, send)
            return
        identity = self._identify(request, peer)
        request.state.identity = identity
        with self._under_way.one(_key(identity)):
            audited = Audited(self._access.audit, request, operation, identity)
            if operation is None or not changes(operation, request.method):
                self._authorize(operation, identity)
                await self._app(request.scope, receive, send)
                return
            try:
                self._authorize(operation, identity)
            except DirectorError as error:
                audited.refused(error)
                raise
            await audited.run(self._app, receive, send)

    def _identify(self, request: Request, peer: Peer) -> Identity:
        """Who cannot be named asks on the account of the address."""
        try:
            authorization = one_header(request, "authorization")
            identity = identify(peer, authorization, self._access.tokens, self._access.spec.role)
        except DirectorError:
            self._rates.take(_whence(peer))
            raise
        self._rates.take(_key(identity))
        return identity

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


def _whence(peer: Peer) -> str:
    """The user, or the address, of IPv6 its /64: one host has them all."""
    if peer.uid is not None:
        return f"uid {peer.uid}"
    if ":" in peer.host:
        return str(ip_network((peer.host.partition("%")[0], 64), strict=False))
    return peer.host
