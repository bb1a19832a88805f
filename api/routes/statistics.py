# SPDX-License-Identifier: Apache-2.0
"""/v1/stats: the data plane's counters."""

from __future__ import annotations

from fastapi import Response

from xdpdirector.api.deps import DirectorDep
from xdpdirector.api.http.negotiation import JSON
from xdpdirector.api.http.read_queue import ReaderDep
from xdpdirector.api.routers import new_router
from xdpdirector.model.status import Statistics

router = new_router(prefix="/v1/stats", tags=["statistics"])


@router.get("", response_model=Statistics)
async def get_statistics(director: DirectorDep, reader: ReaderDep) -> Response:
    """Packets by verdict, traffic by service and backend, and where the program is attached."""
    vitals, services = director.vitals(), await reader.in_turns(director.service_traffic())

    def write() -> str:
        return Statistics.of(vitals, services).model_dump_json(by_alias=True)

    return Response(await reader.read(write), media_type=JSON)
