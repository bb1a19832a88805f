# SPDX-License-Identifier: Apache-2.0
"""/metrics for Prometheus: one look at the director, written down beside the loop, so that it goes on meanwhile.

No metric lives between two scrapes. Which ones there are stands in `measures`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

from fastapi import APIRouter, Request, Response
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from xdpdirector.api import measures
from xdpdirector.api.deps import DirectorDep
from xdpdirector.api.measures import Look
from xdpdirector.api.protocol import Control
from xdpdirector.errors import DirectorError, NotFoundError

router = APIRouter(tags=["status"])


@router.get("/metrics", response_class=Response)
async def get_metrics(director: DirectorDep, request: Request) -> Response:
    """Prometheus text, or OpenMetrics where the scraper accepts it."""
    from prometheus_client.exposition import choose_encoder  # it brings servers along

    seen = await look(director)
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    text = await asyncio.to_thread(lambda: encode(registry(seen)))
    return Response(text, headers={"content-type": content_type})


async def look(director: Control) -> Look | None:
    """None when the data plane cannot be read. The loop gets its turn after each service."""
    services = []
    try:
        for name in director.names():
            with contextlib.suppress(NotFoundError):  # deleted meanwhile
                services.append(director.service(name))
            await asyncio.sleep(0)
        return Look(
            readiness=director.readiness(),
            services=services,
            vitals=director.vitals(),
            checks=director.tallies(),
            findings=director.lan.findings,
            mac_changes=director.lan.mac_changes,
        )
    except DirectorError:
        return None


def registry(seen: Look | None) -> CollectorRegistry:
    """Of this look, and of this process. `xdpdirector_up` 0 means that the data plane could not be read."""
    made = CollectorRegistry()
    ProcessCollector(registry=made)
    made.register(_Looked(seen))
    return made


class _Looked(Collector):
    def __init__(self, seen: Look | None) -> None:
        self._seen = seen

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that registering does not collect."""
        return ()

    def collect(self) -> Iterable[Metric]:
        yield measures.build()
        yield measures.up(self._seen is not None)
        if self._seen is not None:
            yield from measures.families(self._seen)
