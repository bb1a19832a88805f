# SPDX-License-Identifier: Apache-2.0
"""/v1/fleet: the other directors: how far they and this one have each other's connections and desired state; and
directors that leave for maintenance and come back.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from fastapi import Path, Query, Response

from xdpdirector.api.deps import DirectorDep, IntentDep
from xdpdirector.api.http.etags import etag
from xdpdirector.api.http.request_models import ReasonBody, Wait
from xdpdirector.api.idempotency import IdempotentDep, IdempotentRoute
from xdpdirector.api.routers import new_router
from xdpdirector.model.fleet import DirectorView
from xdpdirector.sync.status import FleetView

DirectorName = Annotated[
    str, Path(description="A director's name, as /v1/fleet has it", examples=["director1"])
]

router = new_router(prefix="/v1/fleet", tags=["fleet"], route_class=IdempotentRoute)


@router.get("")
async def get_fleet(director: DirectorDep) -> FleetView:
    """The peers that connections are sent to and come from, with the reason where they are not; where the desired
    state is kept, and the directors that share it."""
    return director.fleet_view()


@router.get("/{name}")
async def get_director(
    name: DirectorName,
    director: DirectorDep,
    response: Response,
    wait: Annotated[Literal["drained"] | None, Query(description="Answer only when it is so")] = None,
    timeout: Annotated[Wait, Query(description="How long to wait; then 504")] = 60.0,
) -> DirectorView:
    """One director; with `wait=drained` a long poll that ends when no traffic comes to it any more."""
    maintenance = director.maintenance
    view = await maintenance.wait_drained(name, timeout) if wait == "drained" else maintenance.view(name)
    return _tagged(view, director, response)


@router.post("/{name}/drain", dependencies=[IdempotentDep])
async def drain_director(
    name: DirectorName,
    director: DirectorDep,
    intent: IntentDep,
    response: Response,
    body: ReasonBody | None = None,
    force: Annotated[bool, Query(description="Also when no other director is ready")] = False,
) -> DirectorView:
    """Let it attract no traffic: it is not ready, and its VIPs go elsewhere. What comes all the same is forwarded.
    409 when no other director is ready."""
    intent = replace(intent, reason=intent.reason or (body.reason if body else ""))
    view = await director.maintenance.drain(name, force=force, intent=intent)
    return _tagged(view, director, response)


@router.post("/{name}/enable", dependencies=[IdempotentDep])
async def enable_director(
    name: DirectorName, director: DirectorDep, intent: IntentDep, response: Response
) -> DirectorView:
    """Let it take traffic again."""
    return _tagged(await director.maintenance.enable(name, intent=intent), director, response)


def _tagged(view: DirectorView, director: DirectorDep, response: Response) -> DirectorView:
    response.headers["etag"] = etag(director.maintenance.tag(view.name))
    return view
