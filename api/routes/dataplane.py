# SPDX-License-Identifier: Apache-2.0
"""/v1/dataplane: what the kernel holds of the director."""

from __future__ import annotations

from xdpdirector.api.deps import DirectorDep
from xdpdirector.api.routers import new_router
from xdpdirector.dataplane.inventory_types import Holdings

router = new_router(prefix="/v1/dataplane", tags=["dataplane"])


@router.get("")
async def get_dataplane(director: DirectorDep) -> Holdings:
    """Programs and where they run, maps and how full they are, backends as packets see them, repaired drift."""
    return await director.holdings()
