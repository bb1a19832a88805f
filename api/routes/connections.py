# SPDX-License-Identifier: Apache-2.0
"""/v1/connections: what the connection table holds, filtered and bounded."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Response

from xdpdirector.api.deps import DirectorDep
from xdpdirector.api.http import pagination
from xdpdirector.api.http.negotiation import JSON
from xdpdirector.api.http.read_queue import ReaderDep, as_json
from xdpdirector.api.routers import new_router
from xdpdirector.model import HostAddress
from xdpdirector.model.connection_query import ConnectionQuery
from xdpdirector.model.status import ConnectionView

ConnectionCursor = Annotated[pagination.Cursor, pagination.of("connections")]

router = new_router(prefix="/v1/connections", tags=["connections"])


@router.get("", response_model=pagination.Page[ConnectionView])
async def list_connections(
    director: DirectorDep,
    reader: ReaderDep,
    cursor: ConnectionCursor | None = None,
    service: Annotated[str | None, Query(description="Only of this service")] = None,
    backend: Annotated[str | None, Query(description="Only to the backend of this name")] = None,
    client: Annotated[HostAddress | None, Query(description="Only of this client address")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="At most so many")] = 100,
) -> Response:
    """Connections in the table; with `mh` only exceptions are stored.

    A sample: the table changes between two pages, so that one may be missed. A page looks at a bounded part of the
    table: where few connections match it may be short, or empty, and `next` leads on all the same.
    """
    look = director.connections(
        ConnectionQuery(
            service=service,
            backend=backend,
            client=None if client is None else str(client),
            limit=limit,
            place=cursor or 0,
        )
    )

    def write() -> bytes:
        found = look()
        following = None if found.next is None else pagination.encode("connections", found.next)
        return as_json(found.items, following)

    return Response(await reader.read(write), media_type=JSON)
