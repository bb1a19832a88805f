# SPDX-License-Identifier: Apache-2.0
"""Keeps the port of a check when the listeners of its service change. Pure.

Without a `port` a check asks the one that is usual for its type, if the service listens there, or else the lowest:
whatever the order of its listeners. A listener that is added could change that, and a check that asks another port
all of a sudden says nothing of the servers. So what was implied is said by the check from then on, as long as the
service listens there.
"""

from __future__ import annotations

from collections.abc import Mapping

from xdpdirector.model import ServiceSpec


def kept(before: ServiceSpec, after: ServiceSpec) -> ServiceSpec:
    """`after`, with the port that the same type of check asks in `before`, unless it says one itself."""
    if before.check is None or after.check is None or before.check.type != after.check.type:
        return after
    port = before.check_port
    if not after.check.has_port or after.check.port or port == after.check_port:
        return after
    return _asking(after, port) if port in after.exact_ports else after


def all_kept(before: Mapping[str, ServiceSpec], after: Mapping[str, ServiceSpec]) -> dict[str, ServiceSpec]:
    """Each service of `after` that is in both as `kept`."""
    return {name: kept(before[name], spec) if name in before else spec for name, spec in after.items()}


def of_first_listener(spec: ServiceSpec) -> ServiceSpec:
    """With the port that releases asked for which the order of listeners decided."""
    if spec.check is None or not spec.check.has_port or spec.check.port or not spec.exact_ports:
        return spec
    return spec if spec.exact_ports[0] == spec.check_port else _asking(spec, spec.exact_ports[0])


def _asking(spec: ServiceSpec, port: int | None) -> ServiceSpec:
    assert spec.check is not None
    return spec.model_copy(update={"check": spec.check.model_copy(update={"port": port})})
