# SPDX-License-Identifier: Apache-2.0
"""/v1/tokens: who may come in with a token. A token's text is in the answer to its making, nowhere else."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response, status
from pydantic import AfterValidator

from xdpdirector.accessspec import Role
from xdpdirector.api.deps import AccessDep
from xdpdirector.api.requests import Items
from xdpdirector.fields import Duration, Frozen, Name
from xdpdirector.tokens import Token

router = APIRouter(prefix="/v1/tokens", tags=["access"])
LONGEST_LIFE = 3660 * 86400.0
TokenName = Annotated[str, Path(description="A token's name", examples=["prometheus"])]


def _lifetime(seconds: float) -> float:
    if not 1 <= seconds <= LONGEST_LIFE:
        raise ValueError("must be from 1s to 3660d; leave it out for a token that does not expire")
    return seconds


class TokenCreate(Frozen):
    """`lifetime`: how long it is valid; for ever when it is left out."""

    name: Name
    role: Role
    lifetime: Annotated[Duration, AfterValidator(_lifetime)] | None = None


class NewToken(Token):
    """A token with its text, `token`, which nobody can ask for again."""

    token: str


@router.get("")
async def list_tokens(access: AccessDep) -> Items[Token]:
    """All tokens, without their texts; expired ones, too."""
    return Items(items=access.tokens.list())


@router.post("", status_code=status.HTTP_201_CREATED)
async def create_token(body: TokenCreate, access: AccessDep, response: Response) -> NewToken:
    """Make a token; 409 when the name is taken. Its text is only in this answer."""
    token, text = access.tokens.add(body.name, body.role, body.lifetime)
    response.headers["location"] = f"/v1/tokens/{token.name}"
    response.headers["cache-control"] = "no-store"
    return NewToken(token=text, **dict(token))


@router.delete("/{token}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_token(token: TokenName, access: AccessDep) -> None:
    """Remove a token: it is not valid any more."""
    access.tokens.remove(token)
