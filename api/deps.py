# SPDX-License-Identifier: Apache-2.0
"""What handlers declare that they need. All are coroutines: FastAPI runs plain functions in threads."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Path, Request

from xdpdirector.api import conditions
from xdpdirector.api.access import Access
from xdpdirector.api.identity import Identity
from xdpdirector.api.protocol import Control
from xdpdirector.intent import Intent


async def _director(request: Request) -> Control:
    director: Control = request.app.state.director
    return director


async def _access(request: Request) -> Access:
    access: Access = request.app.state.access
    return access


async def _author(request: Request) -> str:
    """Who is named beside a change: the gate knows."""
    identity: Identity = request.state.identity
    return identity.name


AccessDep = Annotated[Access, Depends(_access)]
DirectorDep = Annotated[Control, Depends(_director)]
AuthorDep = Annotated[str, Depends(_author)]
IfMatch = Annotated[
    str | None, Header(description="Only if its ETag is still this one, as it was read; else 412")
]
ChangeReason = Annotated[str | None, Header(max_length=500, description="Why; kept with the revision")]


async def _intent(
    request: Request, author: AuthorDep, if_match: IfMatch = None, change_reason: ChangeReason = None
) -> Intent:
    return Intent(author, change_reason or "", conditions.expected(conditions.whole(request, "if-match")))


IntentDep = Annotated[Intent, Depends(_intent)]
ServiceName = Annotated[str, Path(description="A service's name", examples=["web"])]
BackendName = Annotated[str, Path(description="A backend's name inside the service", examples=["web1"])]
