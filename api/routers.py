# SPDX-License-Identifier: Apache-2.0
"""Routes and routers of this API: each route passes the same checks, and promises the same document for errors.

The application's router looks up a request's route, once; the route then asks access control, before anything of
the body is read. Routers have all that a route needs, so that an application takes their routes as they are.
FastAPI's `include_router` would make each route a second time for each application, on the event loop, while the
first requests wait.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from starlette.datastructures import URL
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from xdpdirector.api.auth.access_control import AccessControl
from xdpdirector.api.http import body_validation, negotiation, problems, strict_parameters, unicode_text
from xdpdirector.api.http.body_limit import BodyLimit
from xdpdirector.api.http.json_body import JsonRequest

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class ControlledRoute(APIRoute):
    """Answers only clients that access control lets pass."""

    is_last_of_path = False
    """It answers the methods that no route of its path has. So a request belongs to the first path that matches: a
    path with a literal is registered before one with a parameter in its place."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child_scope = super().matches(scope)
        return Match.FULL if match is Match.PARTIAL and self.is_last_of_path else match, child_scope

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] in (self.methods or ()):
            await _controlled(self.name, super().handle, scope, receive, send)
        else:
            await _controlled(None, self._method_not_allowed, scope, receive, send)

    async def _method_not_allowed(self, scope: Scope, receive: Receive, send: Send) -> None:
        methods = methods_of(scope["app"], self.path)
        raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers={"allow": ", ".join(methods)})


class TextRoute(ControlledRoute):
    """Its bodies hold Unicode text only, and no key twice: NotUnicodeError, or RepeatedError, with a pointer."""

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            reading = JsonRequest(request.scope, request.receive)
            await body_validation.look_at(reading, self.body_field, unicode_text.require_unicode)
            return await handle(reading)

        return checked


def new_router(
    prefix: str = "", route_class: type[ControlledRoute] = ControlledRoute, **options: Any
) -> APIRouter:
    """`options` are APIRouter's."""
    return APIRouter(
        prefix=prefix,
        route_class=route_class,
        responses=problems.RESPONSES,
        dependencies=[Depends(strict_parameters.strict), Depends(negotiation.acceptable)],
        generate_unique_id_function=_operation_id,
        **options,
    )


def install(app: FastAPI, routers: Iterable[APIRouter], control: AccessControl) -> None:
    """Make the routes of `routers` those of `app`. `control` decides who gets an answer, 404 and 405 included."""
    app.state.access_control = control
    for router in routers:
        app.router.routes += router.routes
    for route in {route.path: route for route in app.routes if isinstance(route, ControlledRoute)}.values():
        route.is_last_of_path = True
    app.router.redirect_slashes = False  # the router would redirect before access control
    app.router.default = _no_route


def methods_of(app: FastAPI, path: str) -> list[str]:
    """What is possible on a route's path; HEAD is GET without the content."""
    routes = (route for route in app.routes if isinstance(route, APIRoute) and route.path == path)
    methods = set[str]().union(*(route.methods or () for route in routes))
    return sorted(methods | {"HEAD"} if "GET" in methods else methods)


async def _no_route(scope: Scope, receive: Receive, send: Send) -> None:
    await _controlled(None, _redirect_or_404, scope, receive, send)


async def _redirect_or_404(scope: Scope, receive: Receive, send: Send) -> None:
    """To the same path with, or without, a slash at its end, if that has a route."""
    path = scope["path"]
    other = {**scope, "path": path.rstrip("/") if path.endswith("/") else f"{path}/"}
    if path == "/" or all(route.matches(other)[0] is Match.NONE for route in scope["app"].routes):
        raise HTTPException(HTTPStatus.NOT_FOUND)
    await RedirectResponse(str(URL(scope=other)))(scope, receive, send)


async def _controlled(
    operation: str | None, app: ASGIApp, scope: Scope, receive: Receive, send: Send
) -> None:
    control: AccessControl = scope["app"].state.access_control
    await control.serve(operation, BodyLimit(app), scope, receive, send)


def _operation_id(route: APIRoute) -> str:
    return route.name
