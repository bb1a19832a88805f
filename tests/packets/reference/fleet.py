# SPDX-License-Identifier: Apache-2.0
"""Connection sync between directors of the model: what each knows of connections, all know.

Of two records of a connection the one of the later packet counts. Rings are not exchanged here: each model is told
its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tests.packets.reference.director import Director, Record
from tests.packets.reference.frame import Flow
from tests.packets.reference.state import Backend


def exchange(directors: Sequence[Director]) -> None:
    """Each has the others' records afterwards, of backends that it has."""
    known = [list(each.records.items()) for each in directors]
    for target in directors:
        for source, records in zip(directors, known, strict=True):
            if source is not target:
                _tell(records, _counterparts(source, target), target)
    for each in directors:
        each.moment += 1


def _tell(records: Sequence[tuple[Flow, Record]], ours: Mapping[Backend, Backend], target: Director) -> None:
    for flow, record in records:
        known = target.records.get(flow)
        if record.backend in ours and (known is None or known.seen < record.seen):
            target.merge(flow, replace(record, backend=ours[record.backend], later=set(record.later)))


def _counterparts(source: Director, target: Director) -> dict[Backend, Backend]:
    """Of each backend that both have, by the names of service and backend."""
    return {
        backend: target.services[name].backends[key]
        for name, service in source.services.items()
        for key, backend in service.backends.items()
        if name in target.services and key in target.services[name].backends
    }
