# SPDX-License-Identifier: Apache-2.0
"""/v1/services/{service}/backends, and /v1/backends of all services: HTTP in, facade call, view out.

No decision is made here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Literal

from fastapi import Depends, Query, Response, status

from xdpdirector.api.deps import BackendName, DirectorDep, IntentDep, NewBackendName, ServiceName
from xdpdirector.api.director_interface import Control
from xdpdirector.api.http import pagination
from xdpdirector.api.http.etags import etag
from xdpdirector.api.http.list_query import (
    Fields,
    Limit,
    Part,
    Place,
    Selector,
    Sort,
    Wanted,
)
from xdpdirector.api.http.merge_patch import BackendPatch
from xdpdirector.api.http.negotiation import JSON
from xdpdirector.api.http.read_queue import Reader, ReaderDep
from xdpdirector.api.http.request_models import (
    AdminChange,
    BackendCreate,
    BackendPut,
    DrainChange,
    Items,
    Wait,
    require_name,
)
from xdpdirector.api.idempotency import IdempotentDep, IdempotentRoute
from xdpdirector.api.routers import new_router
from xdpdirector.errors import InvalidRequestError
from xdpdirector.model import AdminState, labels
from xdpdirector.model.status import BackendView, Operational
from xdpdirector.state import admin_change

EVERYWHERE = "all-backends"
BackendCursor = Annotated[pagination.Cursor, pagination.of("backends")]
AnyBackendCursor = Annotated[pagination.Cursor, pagination.of(EVERYWHERE)]
IsSo = Annotated[Operational | None, Query(description="Only those that are so")]
WantedSo = Annotated[AdminState | None, Query(description="Only those that are wanted so")]

router = new_router(prefix="/v1/services/{service}/backends", tags=["backends"], route_class=IdempotentRoute)
everywhere = new_router(prefix="/v1/backends", tags=["backends"], route_class=IdempotentRoute)
"""Backends of all services."""


async def _set_admin(
    service: ServiceName,
    backend: BackendName,
    director: DirectorDep,
    intent: IntentDep,
    response: Response,
) -> Callable[[admin_change.AdminChange], Awaitable[BackendView]]:
    """Sets the admin state of the backend that a request's path names."""

    async def set_admin(change: admin_change.AdminChange) -> BackendView:
        view = await director.drains.set_admin(service, backend, change, intent=intent)
        return _tagged(view, director, response)

    return set_admin


SetAdmin = Annotated[Callable[[admin_change.AdminChange], Awaitable[BackendView]], Depends(_set_admin)]


@router.get("", response_model=pagination.Page[BackendView] | pagination.Page[Part])
async def list_backends(
    service: ServiceName,
    director: DirectorDep,
    reader: ReaderDep,
    selector: Selector | None = None,
    operational: IsSo = None,
    admin: WantedSo = None,
    sort: Sort = "",
    fields: Fields = "",
    cursor: BackendCursor | None = None,
    limit: Limit = 100,
) -> Response:
    """The backends of a service, or some of them."""
    begin, tag = cursor or 0, etag(director.tag(service))
    place = Place(begin, begin + limit, director.events.last)
    wanted = Wanted(BackendView, _chooser(selector, operational, admin), sort, fields)
    views = await reader.in_turns(director.views([service]))
    backends = [backend for view in views for backend in view.backends]
    content = await reader.read(lambda: wanted.page("backends", backends, place))
    return Response(content, media_type=JSON, headers={"etag": tag})


@everywhere.get("", response_model=pagination.Page[BackendView] | pagination.Page[Part])
async def list_all_backends(
    director: DirectorDep,
    reader: ReaderDep,
    selector: Selector | None = None,
    operational: IsSo = None,
    admin: WantedSo = None,
    sort: Sort = "",
    fields: Fields = "",
    cursor: AnyBackendCursor | None = None,
    limit: Limit = 100,
) -> Response:
    """The backends of all services, or some of them."""
    begin, tag = cursor or 0, etag(director.tag())
    place = Place(begin, begin + limit, director.events.last)
    wanted = Wanted(BackendView, _chooser(selector, operational, admin), sort, fields)
    if wanted.as_they_are:
        names, before, total = _spanned(director, place)
        backends = await _backends(director, reader, names)
        some = backends[place.begin - before : place.end - before]
        content = await reader.read(lambda: wanted.written(EVERYWHERE, some, total, place))
    else:
        backends = await _backends(director, reader, director.names())
        content = await reader.read(lambda: wanted.page(EVERYWHERE, backends, place))
    return Response(content, media_type=JSON, headers={"etag": tag})


@everywhere.post("/drain", dependencies=[IdempotentDep])
async def drain_backends(
    director: DirectorDep,
    intent: IntentDep,
    response: Response,
    selector: Selector,
    body: DrainChange | None = None,
) -> Items[BackendView]:
    """Send the backends with these labels no new connections; running ones go on. One revision, all or none."""
    change = (body or DrainChange()).drain()
    views = await director.drains.set_admin_of(labels.parse(selector), change, intent=intent)
    return _changed(views, director, response)


@everywhere.post("/enable", dependencies=[IdempotentDep])
async def enable_backends(
    director: DirectorDep,
    intent: IntentDep,
    response: Response,
    selector: Selector,
    body: AdminChange | None = None,
) -> Items[BackendView]:
    """Take the backends with these labels into service again. One revision."""
    change = (body or AdminChange()).to(AdminState.ENABLED)
    views = await director.drains.set_admin_of(labels.parse(selector), change, intent=intent)
    return _changed(views, director, response)


@everywhere.post("/maintenance", dependencies=[IdempotentDep])
async def maintain_backends(
    director: DirectorDep,
    intent: IntentDep,
    response: Response,
    selector: Selector,
    body: AdminChange | None = None,
) -> Items[BackendView]:
    """Send the backends with these labels nothing at all; running connections are cut. One revision."""
    change = (body or AdminChange()).to(AdminState.MAINTENANCE)
    views = await director.drains.set_admin_of(labels.parse(selector), change, intent=intent)
    return _changed(views, director, response)


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=[IdempotentDep])
async def create_backend(
    service: ServiceName, body: BackendCreate, director: DirectorDep, intent: IntentDep, response: Response
) -> BackendView:
    """Add a backend; it serves once its neighbour entry is known and its check, if any, is up."""
    view = await director.create_backend(service, body.name, body.spec(), intent=intent)
    response.headers["location"] = f"/v1/services/{service}/backends/{view.name}"
    return _tagged(view, director, response)


@router.get("/{backend}")
async def get_backend(
    service: ServiceName,
    backend: BackendName,
    director: DirectorDep,
    response: Response,
    wait: Annotated[Literal["drained"] | None, Query(description="Answer only when it is so")] = None,
    timeout: Annotated[Wait, Query(description="How long to wait; then 504")] = 60.0,
) -> BackendView:
    """One backend; with `wait=drained` a long poll that ends when no connection is left."""
    if wait == "drained":
        return _tagged(await director.drains.wait_drained(service, backend, timeout), director, response)
    return _tagged(director.backend(service, backend), director, response)


@router.put("/{backend}", responses={201: {"model": BackendView, "description": "It is new"}})
async def put_backend(
    service: ServiceName,
    backend: NewBackendName,
    body: BackendPut,
    director: DirectorDep,
    intent: IntentDep,
    response: Response,
) -> BackendView:
    """Create a backend (201), or replace it whole: what the body leaves out takes its default."""
    require_name(body.service, service, "service")
    require_name(body.name, backend, "name")
    view, is_new = await director.put_backend(service, backend, body.spec(), intent=intent)
    if is_new:
        response.status_code = status.HTTP_201_CREATED
        response.headers["location"] = f"/v1/services/{service}/backends/{backend}"
    return _tagged(view, director, response)


@router.patch("/{backend}")
async def patch_backend(
    service: ServiceName,
    backend: BackendName,
    body: BackendPatch,
    director: DirectorDep,
    intent: IntentDep,
    response: Response,
) -> BackendView:
    """Change some fields: an RFC 7396 merge patch, null takes a field back to its default."""
    view = await director.patch_backend(service, backend, body, intent=intent)
    return _tagged(view, director, response)


@router.delete("/{backend}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_backend(
    service: ServiceName,
    backend: BackendName,
    director: DirectorDep,
    intent: IntentDep,
    force: Annotated[bool, Query(description="Remove it even with connections")] = False,
    drain: Annotated[Wait | None, Query(description="Drain it first, this long at most")] = None,
) -> None:
    """Remove a backend; 409 while it has connections, unless forced, or drained first (504 if still busy)."""
    if force and drain is not None:
        raise InvalidRequestError("force and drain exclude each other: force does not wait, drain does")
    await director.drains.delete_backend(service, backend, force=force, drain=drain, intent=intent)


@router.post("/{backend}/drain", dependencies=[IdempotentDep])
async def drain_backend(set_admin: SetAdmin, body: DrainChange | None = None) -> BackendView:
    """Send it no new connections; running ones go on."""
    return await set_admin((body or DrainChange()).drain())


@router.post("/{backend}/enable", dependencies=[IdempotentDep])
async def enable_backend(set_admin: SetAdmin, body: AdminChange | None = None) -> BackendView:
    """Take it into service again."""
    return await set_admin((body or AdminChange()).to(AdminState.ENABLED))


@router.post("/{backend}/maintenance", dependencies=[IdempotentDep])
async def maintain_backend(set_admin: SetAdmin, body: AdminChange | None = None) -> BackendView:
    """Send it nothing at all; running connections are cut."""
    return await set_admin((body or AdminChange()).to(AdminState.MAINTENANCE))


async def _backends(director: Control, reader: Reader, services: Sequence[str]) -> list[BackendView]:
    return [backend for view in await reader.in_turns(director.views(services)) for backend in view.backends]


def _spanned(director: Control, place: Place) -> tuple[list[str], int, int]:
    """The services whose backends a page of all backends has, how many backends stand before those, and how many
    there are."""
    names, before, total = [], 0, 0
    for name in director.names():
        behind = total + director.size(name)
        if total < place.end and behind > place.begin:
            names.append(name)
        elif behind <= place.begin:
            before = behind
        total = behind
    return names, before, total


def _chooser(
    selector: str | None, operational: Operational | None, admin: AdminState | None
) -> Callable[[BackendView], bool] | None:
    if selector is None and operational is None and admin is None:
        return None
    labelled = labels.parse(selector) if selector else None

    def chosen(view: BackendView) -> bool:
        return (
            operational in (None, view.operational)
            and admin in (None, view.admin)
            and (labelled is None or labelled.matches(view.labels))
        )

    return chosen


def _changed(views: list[BackendView], director: Control, response: Response) -> Items[BackendView]:
    response.headers["etag"] = etag(director.tag())
    return Items(items=views, last_event_id=director.events.last)


def _tagged(view: BackendView, director: DirectorDep, response: Response) -> BackendView:
    response.headers["etag"] = etag(director.tag(view.service, view.name))
    return view
