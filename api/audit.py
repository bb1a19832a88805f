# SPDX-License-Identifier: Apache-2.0
"""/v1/audit: who tried to change what, and what came of it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query

from xdpdirector.api.deps import AccessDep
from xdpdirector.audit import AuditView
from xdpdirector.fields import Frozen

router = APIRouter(prefix="/v1/audit", tags=["access"])


class AuditPage(Frozen):
    """`next`: the cursor of the older rows; null when there are none."""

    items: list[AuditView]
    next: str | None


@router.get("")
async def list_audit(
    access: AccessDep,
    author: Annotated[str | None, Query(description="Only by this one: root, token:deploy")] = None,
    operation: Annotated[str | None, Query(description="Only this operation: drain_backend")] = None,
    since: Annotated[datetime | None, Query(description="Only from then on")] = None,
    cursor: Annotated[
        str | None, Query(pattern=r"^\d{1,18}$", description="`next` of the page before")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="At most so many")] = 100,
) -> AuditPage:
    """Attempts to change something, the newest first. Those of the daemon itself have the source `daemon`."""
    found = access.audit.page(
        before=int(cursor) if cursor else None,
        limit=limit + 1,
        author=author,
        operation=operation,
        since=since,
    )
    more = len(found) > limit
    return AuditPage(items=found[:limit], next=str(found[limit - 1].id) if more else None)
