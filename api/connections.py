# SPDX-License-Identifier: Apache-2.0
"""/v1/connections: what the connection table holds, filtered and bounded."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from xdpdirector.api.deps import DirectorDep
from xdpdirector.api.requests import Items
from xdpdirector.model import HostAddress
from xdpdirector.views import ConnectionView

router = APIRouter(prefix="/v1/connections", tags=["connections"])


@router.get("")
async def list_connections(
    director: DirectorDep,
    service: Annotated[str | None, Query(description="Only of this service")] = None,
    backend: Annotated[str | None, Query(description="Only to the backend of this name")] = None,
    client: Annotated[HostAddress | None, Query(description="Only of this client address")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="At most so many")] = 100,
) -> Items[ConnectionView]:
    """Connections in the table; with `mh` only exceptions are stored."""
    found = director.connections(
        service=service, backend=backend, client=None if client is None else str(client), limit=limit
    )
    return Items(items=found)
