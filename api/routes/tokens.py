# SPDX-License-Identifier: Apache-2.0
"""/v1/tokens: who may come in with a token. A token's text is in the answer to its making, nowhere else."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import Path, Response, status

from xdpdirector.api.deps import AccessDep, DryRun
from xdpdirector.api.http.request_models import Items
from xdpdirector.api.routers import TextRoute, new_router
from xdpdirector.storage.tokens import Token, TokenSpec
from xdpdirector.system.threads import to_its_end

router = new_router(prefix="/v1/tokens", tags=["access"], route_class=TextRoute)
TokenName = Annotated[str, Path(description="A token's name", examples=["prometheus"])]


class NewToken(Token):
    """A token with its text, `token`, which cannot be shown again."""

    token: str


@router.get("")
async def list_tokens(access: AccessDep) -> Items[Token]:
    """All tokens, without their texts; expired ones, too."""
    return Items(items=access.tokens.list())


@router.post("", status_code=status.HTTP_201_CREATED)
async def create_token(
    body: TokenSpec, access: AccessDep, response: Response, dry_run: DryRun = False
) -> NewToken:
    """Make a token; 409 when the name is taken. Its text is only in this answer."""
    token, text = await to_its_end(partial(access.tokens.add, body, dry_run=dry_run))
    response.headers["location"] = f"/v1/tokens/{token.name}"
    response.headers["cache-control"] = "no-store"
    return NewToken(token=text, **dict(token))


@router.delete("/{token}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_token(token: TokenName, access: AccessDep, dry_run: DryRun = False) -> None:
    """Remove a token: it is not valid any more."""
    await to_its_end(partial(access.tokens.remove, token, dry_run=dry_run))
