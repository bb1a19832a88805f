# SPDX-License-Identifier: Apache-2.0
"""/v1/services: HTTP in, facade call, view out. No decision is made here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Query, Response, status

from xdpdirector.api.deps import DirectorDep, IntentDep, NewServiceName, ServiceName
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
from xdpdirector.api.http.merge_patch import ServicePatch
from xdpdirector.api.http.negotiation import JSON
from xdpdirector.api.http.read_queue import ReaderDep
from xdpdirector.api.http.request_models import ServiceCreate, ServicePut, require_name
from xdpdirector.api.idempotency import IdempotentDep, IdempotentRoute
from xdpdirector.api.routers import new_router
from xdpdirector.model import labels
from xdpdirector.model.status import Operational, ServiceView

ServiceCursor = Annotated[pagination.Cursor, pagination.of("services")]

router = new_router(prefix="/v1/services", tags=["services"], route_class=IdempotentRoute)


@router.get("", response_model=pagination.Page[ServiceView] | pagination.Page[Part])
async def list_services(
    director: DirectorDep,
    reader: ReaderDep,
    selector: Selector | None = None,
    operational: Annotated[Operational | None, Query(description="Only those that are so")] = None,
    sort: Sort = "",
    fields: Fields = "",
    cursor: ServiceCursor | None = None,
    limit: Limit = 100,
) -> Response:
    """The services with their backends, or some of them. All pages have the same ETag, unless something was changed
    meanwhile; those of a list that is chosen from or sorted move with what it is chosen by."""
    begin, tag = cursor or 0, etag(director.tag())
    place = Place(begin, begin + limit, director.events.last)
    wanted = Wanted(ServiceView, _chooser(selector, operational), sort, fields)
    names = director.names()
    if wanted.as_they_are:
        views = await reader.in_turns(director.views(names[place.begin : place.end]))
        content = await reader.read(lambda: wanted.written("services", views, len(names), place))
    else:
        views = await reader.in_turns(director.views(names))
        content = await reader.read(lambda: wanted.page("services", views, place))
    return Response(content, media_type=JSON, headers={"etag": tag})


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=[IdempotentDep])
async def create_service(
    body: ServiceCreate, director: DirectorDep, intent: IntentDep, response: Response
) -> ServiceView:
    """Make a service; 409 when the name or a listener is taken."""
    view = await director.create_service(body.name, body.spec(), intent=intent)
    response.headers["location"] = f"/v1/services/{view.name}"
    response.headers["etag"] = etag(director.tag(view.name))
    return view


@router.get("/{service}")
async def get_service(service: ServiceName, director: DirectorDep, response: Response) -> ServiceView:
    """One service."""
    view = director.service(service)
    response.headers["etag"] = etag(director.tag(service))
    return view


@router.put("/{service}", responses={201: {"model": ServiceView, "description": "It is new"}})
async def replace_service(
    service: NewServiceName,
    body: ServicePut,
    director: DirectorDep,
    intent: IntentDep,
    response: Response,
) -> ServiceView:
    """Create a service (201), or replace it whole: what the body leaves out takes its default."""
    require_name(body.name, service, "name")
    view, is_new = await director.put_service(service, body.spec(), intent=intent)
    response.headers["etag"] = etag(director.tag(service))
    if is_new:
        response.status_code = status.HTTP_201_CREATED
        response.headers["location"] = f"/v1/services/{view.name}"
    return view


@router.patch("/{service}")
async def patch_service(
    service: ServiceName, body: ServicePatch, director: DirectorDep, intent: IntentDep, response: Response
) -> ServiceView:
    """Change some fields: an RFC 7396 merge patch, null takes a field back to its default."""
    view = await director.patch_service(service, body, intent=intent)
    response.headers["etag"] = etag(director.tag(service))
    return view


@router.delete("/{service}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_service(service: ServiceName, director: DirectorDep, intent: IntentDep) -> None:
    """Remove a service and its backends."""
    await director.delete_service(service, intent=intent)


def _chooser(selector: str | None, operational: Operational | None) -> Callable[[ServiceView], bool] | None:
    if selector is None and operational is None:
        return None
    labelled = labels.parse(selector) if selector else None

    def chosen(view: ServiceView) -> bool:
        return operational in (None, view.operational) and (labelled is None or labelled.matches(view.labels))

    return chosen
