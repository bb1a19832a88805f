# SPDX-License-Identifier: Apache-2.0
"""/v1/services: HTTP in, facade call, view out. No decision is made here."""

from __future__ import annotations

from fastapi import APIRouter, Response, status

from xdpdirector.api.deps import AuthorDep, DirectorDep, ServiceName
from xdpdirector.api.requests import Items, MergePatch, ServiceCreate
from xdpdirector.model import ServiceSpec
from xdpdirector.views import ServiceView

router = APIRouter(prefix="/v1/services", tags=["services"])


@router.get("")
async def list_services(director: DirectorDep) -> Items[ServiceView]:
    """All services with their backends."""
    return Items(items=director.services())


@router.post("", status_code=status.HTTP_201_CREATED)
async def create_service(
    body: ServiceCreate, director: DirectorDep, author: AuthorDep, response: Response
) -> ServiceView:
    """Make a service; 409 when the name or a listener is taken."""
    view = await director.create_service(body.name, body.spec(), author=author)
    response.headers["location"] = f"/v1/services/{view.name}"
    return view


@router.get("/{service}")
async def get_service(service: ServiceName, director: DirectorDep) -> ServiceView:
    """One service."""
    return director.service(service)


@router.put("/{service}")
async def replace_service(
    service: ServiceName, body: ServiceSpec, director: DirectorDep, author: AuthorDep
) -> ServiceView:
    """Replace a service whole; what the body leaves out takes its default."""
    return await director.replace_service(service, body, author=author)


@router.patch("/{service}")
async def patch_service(
    service: ServiceName, body: MergePatch, director: DirectorDep, author: AuthorDep
) -> ServiceView:
    """Change some fields: an RFC 7396 merge patch, null takes a field back to its default."""
    return await director.patch_service(service, body, author=author)


@router.delete("/{service}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_service(service: ServiceName, director: DirectorDep, author: AuthorDep) -> None:
    """Remove a service and its backends."""
    await director.delete_service(service, author=author)
