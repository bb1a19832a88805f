# SPDX-License-Identifier: Apache-2.0
"""/metrics for Prometheus: one snapshot of the director, encoded beside the event loop, which goes on meanwhile.

No metric lives between two scrapes. Which ones there are stands in `metric_families`.
"""

from __future__ import annotations

from itertools import chain

from fastapi import Request, Response

from xdpdirector.api.auth.request_counts import RequestCounts
from xdpdirector.api.deps import DirectorDep
from xdpdirector.api.director_interface import Control
from xdpdirector.api.http.read_queue import Reader, ReaderDep
from xdpdirector.api.metrics import metric_families, process_metrics
from xdpdirector.api.metrics.exposition import OPENMETRICS, TEXT, takes_openmetrics
from xdpdirector.api.metrics.metric_families import Snapshot
from xdpdirector.api.routers import new_router
from xdpdirector.errors import DirectorError

router = new_router(tags=["status"])


@router.get("/metrics", response_class=Response)
async def get_metrics(director: DirectorDep, request: Request, reader: ReaderDep) -> Response:
    """Prometheus text, or OpenMetrics where the scraper accepts it."""
    seen = await snapshot(director, reader)
    openmetrics = takes_openmetrics(request.headers.get("accept", ""))
    request_counts: RequestCounts = request.app.state.request_counts

    def write() -> bytes:
        return text(seen, request_counts, openmetrics=openmetrics)

    content_type = OPENMETRICS if openmetrics else TEXT
    return Response(await reader.read(write), headers={"content-type": content_type})


_END = b"# EOF\n"


async def snapshot(director: Control, reader: Reader) -> Snapshot | None:
    """None when the data plane cannot be read. The loop gets its turn now and then."""
    try:
        return Snapshot(
            services=await reader.in_turns(director.samples()),
            readiness=director.readiness(),
            vitals=director.vitals(),
            checks=director.tallies(),
            findings=director.lan.findings,
            mac_changes=director.lan.mac_changes,
            fleet=director.fleet_view(),
        )
    except DirectorError:
        return None


def text(
    seen: Snapshot | None, request_counts: RequestCounts | None = None, *, openmetrics: bool = False
) -> bytes:
    """Of this snapshot. `xdpdirector_up` 0 means that the data plane could not be read."""
    families = chain(
        (metric_families.build(), metric_families.up(seen is not None)),
        process_metrics.families(),
        metric_families.of_api(request_counts or RequestCounts()),
        metric_families.families(seen) if seen is not None else (),
    )
    # Family by family: all lines of a thousand backends at once would take 6 MB, each a piece of its own.
    written = b"".join(family.written(openmetrics).encode() for family in families)
    return written + _END if openmetrics else written
