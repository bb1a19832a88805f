# SPDX-License-Identifier: Apache-2.0
"""/v1/lan: what is true on the network, and what is wrong with it."""

from __future__ import annotations

from xdpdirector.api.deps import DirectorDep
from xdpdirector.api.routers import new_router
from xdpdirector.lan.types import LanView

router = new_router(prefix="/v1/lan", tags=["network"])


@router.get("")
async def get_lan(director: DirectorDep) -> LanView:
    """Findings with evidence and remedy; each backend's MAC; and whether each backend has its VIPs."""
    return director.lan.view()
