# SPDX-License-Identifier: Apache-2.0
"""/v1/services: HTTP in, facade call, view out. No decision is made here."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response, status

from xdpdirector.api import cursors
from xdpdirector.api.conditions import etag
from xdpdirector.api.deps import DirectorDep, IntentDep, NewServiceName, ServiceName
from xdpdirector.api.idempotency import IdempotentDep, IdempotentRoute
from xdpdirector.api.negotiation import JSON
from xdpdirector.api.patches import ServicePatch
from xdpdirector.api.reading import ReaderDep, as_json
from xdpdirector.api.requests import ServiceCreate, ServicePut, require_name
from xdpdirector.api.turns import in_turns
from xdpdirector.views import ServiceView

ServiceCursor = Annotated[cursors.Cursor, cursors.of("services")]

router = APIRouter(prefix="/v1/services", tags=["services"], route_class=IdempotentRoute)


@router.get("", response_model=cursors.Page[ServiceView])
async def list_services(
    director: DirectorDep,
    reader: ReaderDep,
    cursor: ServiceCursor | None = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="At most so many")] = 100,
) -> Response:
    """The services with their backends. All pages have the same ETag, unless something was changed meanwhile."""
    begin, tag = cursor or 0, etag(director.tag())
    names = director.names()
    views = await in_turns(director.views(names[begin : begin + limit]))
    behind = begin + limit
    following = cursors.encode("services", behind) if behind < len(names) else None
    content = await reader.read(lambda: as_json(views, following))
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
