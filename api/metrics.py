# SPDX-License-Identifier: Apache-2.0
"""/metrics for Prometheus. Names follow node_exporter's ipvs collector where it has the metric.

Values are read when asked for, from the facade's views; no metric lives between two scrapes. Labels are the
operator's own names: never a client's address, which would grow without bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from xdpdirector import __version__
from xdpdirector.api.protocol import Control
from xdpdirector.errors import DirectorError
from xdpdirector.model import AdminState
from xdpdirector.views import BackendView, Operational, Statistics

router = APIRouter(tags=["status"])
_BACKEND = ("service", "backend", "address")
_Rows = tuple[tuple[str, str, Callable[[BackendView], float]], ...]
_GAUGES: _Rows = (
    ("connections_active", "Active connections", lambda backend: backend.connections.active),
    ("connections_inactive", "Inactive connections", lambda backend: backend.connections.inactive),
    ("weight", "Configured weight", lambda backend: backend.weight),
    ("serving", "1 when new connections may go there", lambda backend: backend.serving),
)
_COUNTERS: _Rows = (
    ("incoming_packets", "Packets forwarded", lambda backend: backend.traffic.packets),
    ("incoming_bytes", "Bytes forwarded, from the IP header on", lambda backend: backend.traffic.bytes),
    ("connections", "Connections opened", lambda backend: backend.traffic.connections),
)


@router.get("/metrics", response_class=Response)
async def get_metrics(request: Request) -> Response:
    """Prometheus text, or OpenMetrics where the scraper accepts it."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(request.app.state.metrics), headers={"content-type": content_type})


def registry(director: Control) -> CollectorRegistry:
    """A registry of its own with the director's collector only."""
    metrics = CollectorRegistry()
    metrics.register(DirectorCollector(director))
    return metrics


class DirectorCollector(Collector):
    """Reads the director at each scrape. `xdpdirector_up` 0 means that the data plane could not be read."""

    def __init__(self, director: Control) -> None:
        self._director = director

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that registering does not read the data plane."""
        return ()

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("xdpdirector_build", "The director's version", value={"version": __version__})
        try:
            readiness = self._director.readiness()
            backends = [backend for service in self._director.services() for backend in service.backends]
            statistics = self._director.statistics()
        except DirectorError:
            yield GaugeMetricFamily("xdpdirector_up", "1 when the data plane could be read", value=0)
            return
        yield GaugeMetricFamily("xdpdirector_up", "1 when the data plane could be read", value=1)
        yield GaugeMetricFamily(
            "xdpdirector_ready", "1 when the maps hold the desired state", value=int(readiness.ready)
        )
        yield from _verdicts(statistics)
        yield from _gauges(backends)
        yield from _counters(backends)
        yield from _states(backends)


def _labels(backend: BackendView) -> list[str]:
    return [backend.service, backend.name, str(backend.address)]


def _verdicts(statistics: Statistics) -> Iterator[Metric]:
    verdicts = CounterMetricFamily("xdpdirector_verdicts", "Packets by verdict", labels=["reason"])
    for reason, count in statistics.verdicts.items():
        verdicts.add_metric([reason], count)
    yield verdicts
    yield GaugeMetricFamily(
        "xdpdirector_connections", "Connections in the table", value=statistics.connections
    )
    yield CounterMetricFamily(
        "xdpdirector_drift_repaired",
        "Entries of the maps found different and repaired",
        value=statistics.drift_repaired,
    )


def _gauges(backends: list[BackendView]) -> Iterator[Metric]:
    for name, text, value in _GAUGES:
        gauge = GaugeMetricFamily(f"xdpdirector_backend_{name}", text, labels=_BACKEND)
        for backend in backends:
            gauge.add_metric(_labels(backend), value(backend))
        yield gauge


def _counters(backends: list[BackendView]) -> Iterator[Metric]:
    for name, text, value in _COUNTERS:
        counter = CounterMetricFamily(f"xdpdirector_backend_{name}", text, labels=_BACKEND)
        for backend in backends:
            counter.add_metric(_labels(backend), value(backend))
        yield counter


def _states(backends: list[BackendView]) -> Iterator[Metric]:
    operational = StateSetMetricFamily(
        "xdpdirector_backend_operational", "The health check's verdict", labels=_BACKEND
    )
    admin = StateSetMetricFamily("xdpdirector_backend_admin", "What the operator wants", labels=_BACKEND)
    for backend in backends:
        operational.add_metric(
            _labels(backend), {state: state is backend.operational for state in Operational}
        )
        admin.add_metric(_labels(backend), {state: state is backend.admin for state in AdminState})
    yield operational
    yield admin
