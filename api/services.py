# SPDX-License-Identifier: Apache-2.0
"""/v1/services: HTTP in, facade call, view out. No decision is made here."""

from __future__ import annotations

from fastapi import APIRouter, Response, status

from xdpdirector.api.conditions import etag
from xdpdirector.api.deps import DirectorDep, IntentDep, NewServiceName, ServiceName
from xdpdirector.api.idempotency import IdempotentDep, IdempotentRoute
from xdpdirector.api.patches import ServicePatch
from xdpdirector.api.requests import Items, ServiceCreate, ServicePut, require_name
from xdpdirector.views import ServiceView

router = APIRouter(prefix="/v1/services", tags=["services"], route_class=IdempotentRoute)


@router.get("")
async def list_services(director: DirectorDep, response: Response) -> Items[ServiceView]:
    """All services with their backends."""
    response.headers["etag"] = etag(director.tag())
    return Items(items=director.services())


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
