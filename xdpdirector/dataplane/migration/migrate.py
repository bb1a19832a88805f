# SPDX-License-Identifier: Apache-2.0
"""Migrates map contents when the new program's map layout differs from the running one's: the order of it.

Everything is first copied while the old program still forwards, into maps that no packet sees, and records that do
not fit are counted, so losses are known before the switch. Once the new program forwards, `complete` copies the
flows that arrived meanwhile. Until then, copying can be repeated. A packet of such a flow that comes between the
switch and `complete` is dropped (`forbearing`), and its client sends it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from xdpdirector.dataplane.maps import Tables
from xdpdirector.dataplane.migration.connections import adopt, adopt_afresh, unplaced
from xdpdirector.dataplane.migration.copying import copy, prepare_entrance, prepare_owners
from xdpdirector.dataplane.migration.fates import Carried, fates, obstacle, refuse_losses
from xdpdirector.dataplane.migration.map_kinds import (
    CONNECTIONS,
)
from xdpdirector.loader import build, layout
from xdpdirector.loader.layout import Loaded
from xdpdirector.paths import InstancePaths


def predecessor(paths: InstancePaths, loaded: Loaded) -> Loaded | None:
    """The previously running layout, if its maps differ from those of `loaded` and still exist."""
    return next((found for found in layout.set_aside(paths) if found.pins != loaded.pins), None)


def running_otherwise(paths: InstancePaths, pins: Path) -> Loaded | None:
    """The running layout, if the coming program would have its maps elsewhere, at `pins`."""
    candidates = [build.running(paths), *layout.set_aside(paths)]
    return next((found for found in candidates if found and found.pins != pins and found.pins.is_dir()), None)


def plan(old: Loaded, new: Loaded) -> list[Carried]:
    """What would happen to each map. Copies connections on trial, into maps that no packet sees."""
    plans = fates(old, new)
    for name in ("services", "fronts"):
        if not obstacle(old, new, name):
            copy(old, new, name)
    return _with_unplaced(plans, adopt_afresh(old, new), new)


def _with_unplaced(plans: list[Carried], unplaced: Mapping[str, int], new: Loaded) -> list[Carried]:
    found = []
    for each in plans:
        lost = unplaced.get(each.name, 0)
        found.append(replace(each, entries=each.entries - lost))
        if lost:
            room = getattr(new.sizes, each.name.removesuffix("4"))
            found.append(
                Carried(each.name, "lost", lost, f"there is no place for them in a table for {room}")
            )
    return found


def carry(paths: InstancePaths, loaded: Loaded, *, lose: bool = False) -> list[Carried]:
    """Copy everything that can be copied into maps that no packet sees yet; empty without a predecessor.

    ConflictError when connections would be lost and `lose` is false.
    """
    old = predecessor(paths, loaded)
    if old is None:
        return []
    plans = fates(old, loaded)
    if not lose:
        refuse_losses(plans)
    for each in plans:
        if each.fate != "lost" and each.name not in CONNECTIONS:
            copy(old, loaded, each.name)
    prepare_owners(loaded)
    prepare_entrance(old, loaded)
    plans = _with_unplaced(plans, adopt_afresh(old, loaded), loaded)
    if not lose:
        refuse_losses(plans)
    return plans


@contextmanager
def forbearing(loaded: Loaded) -> Iterator[None]:
    """Inside, the program drops packets of unknown connections, whatever `on_unknown` says. For where no daemon
    does so (`xdpdirector.control.take_over`): the next one that starts stores all policies anew."""
    with Tables(loaded) as tables:
        services, drop = tables.services, tables.enums["policy"]["POLICY_DROP"]
        others = np.flatnonzero(services["on_unknown"] != drop).tolist()
        before = {index: int(services[index]["on_unknown"]) for index in others}
        try:
            for index in before:
                tables.store(services, index, {"on_unknown": drop})
            yield
        finally:
            for index, policy in before.items():
                tables.store(services, index, {"on_unknown": policy})
            del services


@dataclass(frozen=True)
class Completed:
    """`records`: records of the old program; `unplaced`: connections among them that do not fit into the new
    table."""

    records: int
    unplaced: int


def complete(paths: InstancePaths, loaded: Loaded) -> Completed:
    """Copy the flows that the old program saw since `carry`; call it once the new program forwards.

    Records that the new program made itself are not changed.
    """
    old = predecessor(paths, loaded)
    if old is None:
        return Completed(0, 0)
    adopted = adopt(old, loaded)
    return Completed(adopted.records, sum(unplaced(adopted, loaded).values()))
