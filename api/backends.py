# SPDX-License-Identifier: Apache-2.0
"""/v1/services/{service}/backends: HTTP in, facade call, view out. No decision is made here."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response, status

from xdpdirector.api import cursors
from xdpdirector.api.conditions import etag
from xdpdirector.api.deps import BackendName, DirectorDep, IntentDep, NewBackendName, ServiceName
from xdpdirector.api.idempotency import IdempotentDep, IdempotentRoute
from xdpdirector.api.negotiation import JSON
from xdpdirector.api.patches import BackendPatch
from xdpdirector.api.reading import ReaderDep, as_json
from xdpdirector.api.requests import (
    AdminChange,
    BackendCreate,
    BackendPut,
    DrainChange,
    Wait,
    require_name,
)
from xdpdirector.api.turns import in_turns
from xdpdirector.errors import InvalidRequestError
from xdpdirector.model import AdminState
from xdpdirector.views import BackendView

BackendCursor = Annotated[cursors.Cursor, cursors.of("backends")]

router = APIRouter(prefix="/v1/services/{service}/backends", tags=["backends"], route_class=IdempotentRoute)


@router.get("", response_model=cursors.Page[BackendView])
async def list_backends(
    service: ServiceName,
    director: DirectorDep,
    reader: ReaderDep,
    cursor: BackendCursor | None = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="At most so many")] = 100,
) -> Response:
    """The backends of a service."""
    begin, tag = cursor or 0, etag(director.tag(service))
    backends = [backend for view in await in_turns(director.views([service])) for backend in view.backends]
    behind = begin + limit
    following = cursors.encode("backends", behind) if behind < len(backends) else None
    content = await reader.read(lambda: as_json(backends[begin:behind], following))
    return Response(content, media_type=JSON, headers={"etag": tag})


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
        return _tagged(await director.wait_drained(service, backend, timeout), director, response)
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
    await director.delete_backend(service, backend, force=force, drain=drain, intent=intent)


@router.post("/{backend}/drain", dependencies=[IdempotentDep])
async def drain_backend(
    service: ServiceName,
    backend: BackendName,
    director: DirectorDep,
    intent: IntentDep,
    response: Response,
    body: DrainChange | None = None,
) -> BackendView:
    """Send it no new connections; running ones go on."""
    change = body or DrainChange()
    view = await director.set_admin(
        service,
        backend,
        AdminState.DRAIN,
        reason=change.reason,
        deadline=change.deadline,
        on_deadline=change.on_deadline,
        intent=intent,
    )
    return _tagged(view, director, response)


@router.post("/{backend}/enable", dependencies=[IdempotentDep])
async def enable_backend(
    service: ServiceName,
    backend: BackendName,
    director: DirectorDep,
    intent: IntentDep,
    response: Response,
    body: AdminChange | None = None,
) -> BackendView:
    """Take it into service again."""
    reason = body.reason if body else ""
    view = await director.set_admin(service, backend, AdminState.ENABLED, reason=reason, intent=intent)
    return _tagged(view, director, response)


@router.post("/{backend}/maintenance", dependencies=[IdempotentDep])
async def maintain_backend(
    service: ServiceName,
    backend: BackendName,
    director: DirectorDep,
    intent: IntentDep,
    response: Response,
    body: AdminChange | None = None,
) -> BackendView:
    """Send it nothing at all; running connections are cut."""
    reason = body.reason if body else ""
    view = await director.set_admin(service, backend, AdminState.MAINTENANCE, reason=reason, intent=intent)
    return _tagged(view, director, response)


def _tagged(view: BackendView, director: DirectorDep, response: Response) -> BackendView:
    response.headers["etag"] = etag(director.tag(view.service, view.name))
    return view
