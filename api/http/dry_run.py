# SPDX-License-Identifier: Apache-2.0
"""The answer to a change that is only tried: 200 with a plan, whatever the change itself would be answered."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response

from xdpdirector.api.director_interface import Control
from xdpdirector.state.diff import Plan
from xdpdirector.state.dry_run import DryRunError


def install(app: FastAPI) -> None:
    app.add_exception_handler(DryRunError, _plan)


async def _plan(request: Request, error: Exception) -> Response:
    assert isinstance(error, DryRunError)
    director: Control = request.app.state.director
    plan = Plan(
        dry_run=True,
        revision=director.revision,
        changes=error.changes,
        affected=error.affected,
        missing=error.missing,
    )
    return Response(plan.model_dump_json(), media_type="application/json")
