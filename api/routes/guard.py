# SPDX-License-Identifier: Apache-2.0
"""/v1/guard: who is denied, and what limits refused. HTTP in, facade call, view out; no decision is made here.

A prefix stands in a path as it is (`/v1/guard/deny/203.0.113.0/24`) or with its slash encoded.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

from fastapi import Path, Query, Response, status
from pydantic import Field

from xdpdirector.api.deps import DirectorDep, IntentDep
from xdpdirector.api.http import pagination
from xdpdirector.api.http.etags import etag
from xdpdirector.api.http.negotiation import JSON
from xdpdirector.api.http.read_queue import ReaderDep, as_json
from xdpdirector.api.http.request_models import DenialAsShown, DenialPut, require_name
from xdpdirector.api.idempotency import IdempotentDep, IdempotentRoute
from xdpdirector.api.routers import new_router
from xdpdirector.errors import NotFoundError
from xdpdirector.model import HostAddress
from xdpdirector.model.fields import Frozen
from xdpdirector.model.guard import MOST_DENIED, DenyEntry, PrefixField
from xdpdirector.model.status import DeniedView, GuardView

router = new_router(prefix="/v1/guard", tags=["guard"], route_class=IdempotentRoute)
DeniedCursor = Annotated[pagination.Cursor, pagination.of("denied")]
PrefixPath = Annotated[PrefixField, Path(description="A denied prefix", examples=["203.0.113.0/24"])]


class DenyList(Frozen):
    """All that is denied; also as GET shows it, when that has all."""

    items: Annotated[tuple[DenialAsShown, ...], Field(max_length=MOST_DENIED)]
    next: Annotated[None, Field(description="As GET shows it on the last page: a page is not the list.")] = (
        None
    )
    last_event_id: Annotated[
        int | None, Field(strict=True, description="As GET shows it; it is passed over.")
    ] = None


@router.get("")
async def get_guard(director: DirectorDep) -> GuardView:
    """How many prefixes are denied, and the limits of new connections with what they refused."""
    return director.guard.view()


@router.get("/deny", response_model=pagination.Page[DeniedView])
async def list_denied(
    director: DirectorDep,
    reader: ReaderDep,
    cursor: DeniedCursor | None = None,
    client: Annotated[HostAddress | None, Query(description="Only prefixes over this address")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="At most so many")] = 100,
) -> Response:
    """The denied prefixes and how many packets each of them dropped; the longest prefix counts a packet."""
    begin, guard, last = cursor or 0, director.guard, director.events.last
    prefixes = guard.denied(client)[begin : begin + limit + 1]
    following = pagination.encode("denied", begin + limit) if len(prefixes) > limit else None

    def write() -> bytes:
        views = []
        for prefix in prefixes[:limit]:
            with suppress(NotFoundError):  # it is denied no more
                views.append(guard.denial(prefix))
        return as_json(views, following, last)

    headers = {"etag": etag(guard.tag())}
    return Response(await reader.read(write), media_type=JSON, headers=headers)


@router.post("/deny", status_code=status.HTTP_201_CREATED, dependencies=[IdempotentDep])
async def create_denial(
    body: DenyEntry, director: DirectorDep, intent: IntentDep, response: Response
) -> DeniedView:
    """Drop every packet of these clients from now on, also of running connections; 409 when denied already."""
    view = await director.guard.add(body, intent=intent)
    response.headers["location"] = f"/v1/guard/deny/{view.prefix}"
    response.headers["etag"] = etag(director.guard.tag(view.prefix))
    return view


@router.put("/deny")
async def replace_denied(
    body: DenyList, director: DirectorDep, intent: IntentDep, response: Response
) -> GuardView:
    """Deny exactly these, all of it or nothing; what is denied before and after is never let in meanwhile."""
    await director.guard.replace(body.items, intent=intent)
    response.headers["etag"] = etag(director.guard.tag())
    return director.guard.view()


@router.get("/deny/{prefix:path}")
async def get_denial(prefix: PrefixPath, director: DirectorDep, response: Response) -> DeniedView:
    """One denied prefix."""
    view = director.guard.denial(prefix)
    response.headers["etag"] = etag(director.guard.tag(prefix))
    return view


@router.put("/deny/{prefix:path}")
async def put_denial(
    prefix: PrefixPath, body: DenialPut, director: DirectorDep, intent: IntentDep, response: Response
) -> DeniedView:
    """Deny a prefix, or give another reason for it."""
    require_name(body.prefix, prefix, "prefix")
    view = await director.guard.put(DenyEntry(prefix=prefix, reason=body.reason), intent=intent)
    response.headers["etag"] = etag(director.guard.tag(prefix))
    return view


@router.delete("/deny/{prefix:path}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_denial(prefix: PrefixPath, director: DirectorDep, intent: IntentDep) -> None:
    """Let a prefix in again; a wider one may still deny it."""
    await director.guard.remove(prefix, intent=intent)
