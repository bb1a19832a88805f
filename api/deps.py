# SPDX-License-Identifier: Apache-2.0
"""What handlers declare that they need. All are coroutines: FastAPI runs plain functions in threads."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Path, Query, Request

from xdpdirector.api.auth.access import Access
from xdpdirector.api.auth.identity import Identity
from xdpdirector.api.director_interface import Control
from xdpdirector.api.http import etags
from xdpdirector.api.http.unicode_text import utf8
from xdpdirector.model import Name
from xdpdirector.state.change_request import Intent


async def _director(request: Request) -> Control:
    director: Control = request.app.state.director
    return director


async def _access(request: Request) -> Access:
    access: Access = request.app.state.access
    return access


async def _author(request: Request) -> str:
    """The author of a change, as access control has authenticated it."""
    identity: Identity = request.state.identity
    return identity.name


AccessDep = Annotated[Access, Depends(_access)]
DirectorDep = Annotated[Control, Depends(_director)]
AuthorDep = Annotated[str, Depends(_author)]
IfMatch = Annotated[
    str | None, Header(description="Only if its ETag is still this one, as it was read; else 412")
]
IfNoneMatch = Annotated[
    str | None,
    Header(
        description="`*`: only if it does not exist yet, else 412: so a PUT creates, and replaces nothing"
    ),
]
DryRun = Annotated[bool, Query(description="Change nothing: answer 200 with what would change, as a plan")]
ChangeReason = Annotated[str | None, Header(max_length=500, description="Why; kept with the revision")]


async def _intent(
    request: Request,
    author: AuthorDep,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
    change_reason: ChangeReason = None,
    dry_run: DryRun = False,
) -> Intent:
    match, none_match = (etags.whole(request, name) for name in ("if-match", "if-none-match"))
    return Intent(
        author,
        utf8(change_reason or ""),
        etags.expected(match),
        etags.unwanted(none_match),
        only_present=etags.is_any(match),
        only_new=etags.is_any(none_match),
        dry_run=dry_run,
    )


IntentDep = Annotated[Intent, Depends(_intent)]
ServiceName = Annotated[str, Path(description="A service's name", examples=["web"])]
BackendName = Annotated[str, Path(description="A backend's name inside the service", examples=["web1"])]
NewServiceName = Annotated[Name, Path(description="A service's name", examples=["web"])]
NewBackendName = Annotated[Name, Path(description="A backend's name inside the service", examples=["web1"])]
"""Where it may not exist yet: what is made has a sound name."""
