# SPDX-License-Identifier: Apache-2.0
"""The REST API as one ASGI application. Knows the routes; sockets and processes are the daemon's."""

from __future__ import annotations

import warnings
from typing import Any

from fastapi import FastAPI
from pydantic.warnings import UnsupportedFieldAttributeWarning

from xdpdirector import __version__
from xdpdirector.api import idempotency, routers
from xdpdirector.api.auth.access import Access
from xdpdirector.api.auth.access_control import AccessControl
from xdpdirector.api.auth.request_counts import CountRequests, RequestCounts
from xdpdirector.api.director_interface import Control
from xdpdirector.api.http import dry_run, head_method, problems
from xdpdirector.api.http.fleet_headers import FleetHeaders, Shared
from xdpdirector.api.http.read_queue import Reading
from xdpdirector.api.live.feed import LiveFeed
from xdpdirector.api.openapi import document, page
from xdpdirector.api.routes import (
    audit,
    backends,
    configuration,
    connections,
    dashboard,
    dataplane,
    doctor,
    events,
    explain,
    fleet,
    guard,
    lan,
    live,
    metrics,
    services,
    sessions,
    statistics,
    status,
    tokens,
    trace,
)
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
    doctor.router,
    live.router,
    statistics.router,
    events.router,
    trace.router,
    status.router,
    metrics.router,
    tokens.router,
    sessions.router,
    audit.router,
    page.router,
    dashboard.router,
)


class _Application(FastAPI):
    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = document.completed(super().openapi())
        return self.openapi_schema


def create_app(
    director: Control,
    access: Access | None = None,
    answers: Answers | None = None,
    *,
    examine: doctor.Examine = list,
    fleet: Shared | None = None,
) -> FastAPI:
    """The API of `director`, for clients known to `access`; without it nothing can be changed. `answers` remembers
    what was answered to an Idempotency-Key. `examine`: what the doctor finds. `fleet`: the desired state
    that other directors share."""
    # FastAPI keeps this quiet about its own fields, but only where a model's validator is made at once (`Frozen`).
    warnings.filterwarnings("ignore", category=UnsupportedFieldAttributeWarning)
    app = _Application(
        title="XDP Director",
        version=__version__,
        summary="Layer-2 direct routing at the XDP hook",
        openapi_url=None,  # and no pages: FastAPI's routes are not under access control
    )
    app.state.director = director
    app.state.access = access = access or Access.nowhere()
    app.state.reading = Reading()
    app.state.live_feed = LiveFeed(director)
    app.state.dashboard = dashboard.Files()
    app.state.doctor = doctor.Doctor(examine)
    app.state.request_counts = request_counts = RequestCounts()
    problems.install(app)
    dry_run.install(app)
    idempotency.install(app, answers or PassingAnswers())
    routers.install(app, _ROUTERS, AccessControl(access, request_counts))
    if fleet:
        app.add_middleware(FleetHeaders, fleet=fleet)
    app.add_middleware(CountRequests, request_counts=request_counts)
    app.add_middleware(head_method.HeadAsGet)
    return app
