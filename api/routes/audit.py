# SPDX-License-Identifier: Apache-2.0
"""/v1/audit: who tried to change what, and what came of it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Query
from pydantic import AfterValidator, BeforeValidator

from xdpdirector.api.deps import AccessDep
from xdpdirector.api.http.read_queue import ReaderDep
from xdpdirector.api.routers import new_router
from xdpdirector.model.fields import Frozen
from xdpdirector.storage.audit_log import AuditView

router = new_router(prefix="/v1/audit", tags=["access"])
_MOMENT = re.compile(
    "[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def _written_out(text: object) -> object:
    """As RFC 3339 has it; pydantic takes bare numbers for moments, too."""
    if not _MOMENT.fullmatch(str(text)):
        raise ValueError(f"'{text}' is no moment: write it like 2026-01-31T12:00:00Z")
    return text


def _in_utc(moment: datetime) -> datetime:
    """The first and the last hours of the calendar are none in UTC."""
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(
            f"'{moment}' is before the first or after the last moment that can be told"
        ) from error


Moment = Annotated[datetime, BeforeValidator(_written_out), AfterValidator(_in_utc)]


class AuditPage(Frozen):
    """`next`: the cursor of the older rows; null when there are none."""

    items: list[AuditView]
    next: str | None


@router.get("")
async def list_audit(
    access: AccessDep,
    reader: ReaderDep,
    author: Annotated[str | None, Query(description="Only by this one: root, token:deploy")] = None,
    operation: Annotated[str | None, Query(description="Only this operation: drain_backend")] = None,
    since: Annotated[Moment | None, Query(description="Only from then on")] = None,
    cursor: Annotated[
        str | None, Query(pattern="^[0-9]{1,18}$", description="`next` of the page before")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="At most so many")] = 100,
) -> AuditPage:
    """Attempts to change something, the newest first. Those of the daemon itself have the source `daemon`."""
    found = await reader.read(
        lambda: access.audit.page(
            before=int(cursor) if cursor else None,
            limit=limit + 1,
            author=author,
            operation=operation,
            since=since,
        )
    )
    more = len(found) > limit
    return AuditPage(items=found[:limit], next=str(found[limit - 1].id) if more else None)
