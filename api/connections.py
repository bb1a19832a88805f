# SPDX-License-Identifier: Apache-2.0
"""/v1/connections: what the connection table holds, filtered and bounded."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from xdpdirector.api import cursors
from xdpdirector.api.deps import DirectorDep
from xdpdirector.model import HostAddress
from xdpdirector.views import ConnectionView

ConnectionCursor = Annotated[cursors.Cursor, cursors.of("connections")]

router = APIRouter(prefix="/v1/connections", tags=["connections"])


@router.get("")
async def list_connections(
    director: DirectorDep,
    cursor: ConnectionCursor | None = None,
    service: Annotated[str | None, Query(description="Only of this service")] = None,
    backend: Annotated[str | None, Query(description="Only to the backend of this name")] = None,
    client: Annotated[HostAddress | None, Query(description="Only of this client address")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="At most so many")] = 100,
) -> cursors.Page[ConnectionView]:
    """Connections in the table; with `mh` only exceptions are stored.

    A sample: the table changes between two pages, so that one may be missed or shown twice.
    """
    skip, clients = cursor or 0, None if client is None else str(client)
    found = director.connections(service=service, backend=backend, client=clients, limit=limit + 1, skip=skip)
    return cursors.page("connections", found, limit, skip + limit)
