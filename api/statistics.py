# SPDX-License-Identifier: Apache-2.0
"""/v1/stats: the data plane's counters."""

from __future__ import annotations

from fastapi import APIRouter

from xdpdirector.api.deps import DirectorDep
from xdpdirector.views import Statistics

router = APIRouter(prefix="/v1/stats", tags=["statistics"])


@router.get("")
async def get_statistics(director: DirectorDep) -> Statistics:
    """Packets by verdict, traffic by service and backend, and where the program is attached."""
    return director.statistics()
