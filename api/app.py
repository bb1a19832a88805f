# SPDX-License-Identifier: Apache-2.0
"""The REST API as one ASGI application. Knows the routes; sockets and processes are the daemon's."""

from __future__ import annotations

import warnings
from typing import Any

from fastapi import FastAPI
from pydantic.warnings import UnsupportedFieldAttributeWarning

from xdpdirector import __version__
from xdpdirector.api import (
    audit,
    backends,
    configuration,
    connections,
    dashboard,
    dataplane,
    document,
    dry_runs,
    events,
    explain,
    fleet,
    guard,
    head,
    idempotency,
    lan,
    live,
    metrics,
    problems,
    reference,
    services,
    sessions,
    statistics,
    status,
    tokens,
    trace,
)
from xdpdirector.api.access import Access
from xdpdirector.api.gate import Gate
from xdpdirector.api.limits import BodyLimit
from xdpdirector.api.protocol import Control
from xdpdirector.api.pulse import Pulse
from xdpdirector.api.reading import Reading
from xdpdirector.api.tallies import Tallies
from xdpdirector.storage.idempotency_store import Answers, PassingAnswers

_ROUTERS = (
    services.router,
    backends.router,
    backends.everywhere,
    configuration.router,
    connections.router,
    dataplane.router,
    explain.router,
    guard.router,
    fleet.router,
    lan.router,
    live.router,
    statistics.router,
    events.router,
    trace.router,
    status.router,
    metrics.router,
    tokens.router,
    sessions.router,
    audit.router,
    reference.router,
    dashboard.router,
)


class _Application(FastAPI):
    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = document.completed(super().openapi())
        return self.openapi_schema


def create_app(director: Control, access: Access | None = None, answers: Answers | None = None) -> FastAPI:
    """The API over `director`, for whom `access` lets in; without it nothing can be changed. `answers` remembers
    what was answered to an Idempotency-Key."""
    # FastAPI keeps this quiet about its own fields, but only where a model's validator is made at once (`Frozen`).
    warnings.filterwarnings("ignore", category=UnsupportedFieldAttributeWarning)
    app = _Application(
        title="XDP Director",
        version=__version__,
        summary="Layer-2 direct routing at the XDP hook",
        docs_url=None,
        redoc_url=None,
    )
    app.state.director = director
    app.state.access = access = access or Access.nowhere()
    app.state.reading = Reading()
    app.state.pulse = Pulse(director)
    app.state.dashboard = dashboard.Files()
    app.state.tallies = tallies = Tallies()
    problems.install(app)
    dry_runs.install(app)
    idempotency.install(app, answers or PassingAnswers())
    for router in _ROUTERS:
        app.router.routes += router.routes
    app.add_middleware(BodyLimit)
    app.add_middleware(Gate, routes=[*app.routes], access=access, tallies=tallies)
    app.add_middleware(head.HeadAsGet)
    return app
