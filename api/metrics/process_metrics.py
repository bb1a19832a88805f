# SPDX-License-Identifier: Apache-2.0
"""Metrics of this process, by the names and meanings that all of Prometheus' client libraries have.

prometheus_client's collector reads them. Its writers are not used: they bring an HTTP server along, and 2 MB that
stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from xdpdirector.api.metrics.exposition import Family, Kind


def families() -> Iterator[Family]:
    """None of what /proc does not say."""
    from prometheus_client.process_collector import ProcessCollector

    for metric in ProcessCollector(registry=None).collect():
        family = Family(metric.name, cast(Kind, metric.type), metric.documentation)
        for sample in metric.samples:
            family.add(sample.value)
        yield family
