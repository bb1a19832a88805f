# SPDX-License-Identifier: Apache-2.0
"""/v1/fleet: the other directors: how far they and this one have each other's connections and desired state."""

from __future__ import annotations

from xdpdirector.api.deps import DirectorDep
from xdpdirector.api.routers import new_router
from xdpdirector.sync.status import FleetView

router = new_router(prefix="/v1/fleet", tags=["fleet"])


@router.get("")
async def get_fleet(director: DirectorDep) -> FleetView:
    """The peers that connections are sent to and come from, with the reason where they are not; where the desired
    state is kept, and the directors that share it."""
    return director.fleet_view()
