# SPDX-License-Identifier: Apache-2.0
"""/v1/explain: what would become of a packet, and why."""

from __future__ import annotations

from xdpdirector.api.deps import DirectorDep
from xdpdirector.api.routers import TextRoute, new_router
from xdpdirector.control.explain_text import Explanation
from xdpdirector.dataplane.explain_types import Question

router = new_router(prefix="/v1/explain", tags=["explain"], route_class=TextRoute)


@router.post("")
async def explain(body: Question, director: DirectorDep) -> Explanation:
    """Ask the packet program itself; nothing is counted, recorded or sent."""
    return await director.explaining.explain(body)
