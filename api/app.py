# SPDX-License-Identifier: Apache-2.0
"""The REST API as one ASGI application. Knows the routes; sockets and processes are the daemon's."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from xdpdirector import __version__
from xdpdirector.api import backends, connections, events, metrics, problems, services, statistics, status
from xdpdirector.api.limits import BodyLimit
from xdpdirector.api.protocol import Control


class _Application(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, with the problem schema that all error responses refer to."""
        document = super().openapi()
        schema = problems.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        document["components"]["schemas"].update({**schema.pop("$defs"), "Problem": schema})
        return document


def create_app(director: Control, *, docs: bool = False) -> FastAPI:
    """The API over `director`. `docs` serves /docs, whose scripts come from the internet: off by default."""
    app = _Application(
        title="XDP Director",
        version=__version__,
        summary="Layer-2 direct routing at the XDP hook",
        docs_url="/docs" if docs else None,
        redoc_url=None,
        generate_unique_id_function=_operation_id,
        responses=problems.RESPONSES,
    )
    app.state.director = director
    app.state.metrics = metrics.registry(director)
    app.add_middleware(BodyLimit)
    problems.install(app)
    for module in (services, backends, connections, statistics, events, status, metrics):
        app.include_router(module.router)
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name
