# SPDX-License-Identifier: Apache-2.0
"""Routers of this API: each route of them passes the same checks, and promises the same document for errors.

They have all that a route needs, so that an application takes their routes as they are. FastAPI's `include_router`
would make each route a second time for each application, on the event loop, while the first requests wait.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends
from fastapi.routing import APIRoute

from xdpdirector.api.auth.auth_middleware import through_the_gate
from xdpdirector.api.http import negotiation, problems, strict_parameters


def new_router(prefix: str = "", **options: Any) -> APIRouter:
    """`options` are APIRouter's."""
    return APIRouter(
        prefix=prefix,
        responses=problems.RESPONSES,
        dependencies=[
            Depends(through_the_gate),
            Depends(strict_parameters.strict),
            Depends(negotiation.acceptable),
        ],
        generate_unique_id_function=_operation_id,
        **options,
    )


def _operation_id(route: APIRoute) -> str:
    return route.name
