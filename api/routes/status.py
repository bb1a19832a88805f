# SPDX-License-Identifier: Apache-2.0
"""/healthz and /readyz: does the daemon answer, and do the maps hold what is desired."""

from __future__ import annotations

from typing import Literal

from fastapi import Response, status
from pydantic import BaseModel

from xdpdirector.api.deps import DirectorDep
from xdpdirector.api.routers import new_router
from xdpdirector.model.status import Readiness

router = new_router(tags=["status"])


class Liveness(BaseModel):
    status: Literal["ok"] = "ok"


@router.get("/healthz")
async def get_liveness() -> Liveness:
    """200 as long as the daemon's loop turns."""
    return Liveness()


@router.get("/readyz", responses={503: {"model": Readiness, "description": "Not ready; `problems` says why"}})
async def get_readiness(director: DirectorDep, response: Response) -> Readiness:
    """200 when the maps hold the desired state, else 503 with the same document."""
    readiness = director.readiness()
    if not readiness.ready:
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    return readiness
