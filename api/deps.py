# SPDX-License-Identifier: Apache-2.0
"""What handlers declare that they need. All are coroutines: FastAPI runs plain functions in threads."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Request

from xdpdirector.api.protocol import Control


async def _director(request: Request) -> Control:
    director: Control = request.app.state.director
    return director


async def _author() -> str:
    """Who is named beside a change. All who may open the socket are one: there are no tokens."""
    return "api"


DirectorDep = Annotated[Control, Depends(_director)]
AuthorDep = Annotated[str, Depends(_author)]
ServiceName = Annotated[str, Path(description="A service's name", examples=["web"])]
BackendName = Annotated[str, Path(description="A backend's name inside the service", examples=["web1"])]
