# SPDX-License-Identifier: Apache-2.0
"""Directors on stages that share an etcd: each with its own plane, copy of the state and connection to etcd."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from tests.support.stage import BASE, Stage
from xdpdirector.config import config_file
from xdpdirector.model import Configuration, ServiceSpec
from xdpdirector.model.store import StoreSpec
from xdpdirector.state.denylist import Denials, StoredDenyList
from xdpdirector.storage.denylist_store import SqliteDenyList
from xdpdirector.storage.etcd.fleet_denylist import FleetDenyList
from xdpdirector.storage.etcd.fleet_store import FleetStore
from xdpdirector.storage.etcd.gateway import Gateway
from xdpdirector.storage.fallback import FallbackStore
from xdpdirector.storage.store import MIRROR_FORMAT

DEADLINE = 60.0


class FleetStage(Stage):
    """A director of a fleet. `store`: what it knows of the fleet's state."""

    store: FleetStore
    mirror: FallbackStore
    denylist: FleetDenyList


@contextlib.asynccontextmanager
async def director(
    spec: StoreSpec, directory: Path, name: str, file: Configuration = BASE, denied: Denials | None = None
) -> AsyncIterator[FleetStage]:
    """Started as the daemon starts one; `file`: its configuration file; `denied`: what it denied before."""
    mirror = FallbackStore(directory / name / "fleet.db", directory / name / "spare", form=MIRROR_FORMAT)
    with contextlib.closing(mirror):
        store = FleetStore(Gateway(spec), spec.prefix, mirror, name)
        known = store.latest()
        before = StoredDenyList(denied or {})
        denials = FleetDenyList(store, SqliteDenyList(lambda: mirror.database), lambda: before)
        services = known.services if known else file.services
        made = FleetStage(shared=store, shared_denials=denials, guard=file.guard, **services)
        made.store, made.mirror, made.denylist = store, mirror, denials
        async with made:
            assert made.director.fleet
            made.director.fleet.merge(file, config_file.digest(file))
            yield made


@contextlib.asynccontextmanager
async def directors(
    spec: StoreSpec, directory: Path, count: int, file: Configuration = BASE
) -> AsyncIterator[list[FleetStage]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(director(spec, directory, f"d{number}", file))
            for number in range(1, count + 1)
        ]


async def agreed(stages: Sequence[FleetStage], condition: Callable[[FleetStage], object]) -> None:
    """Wait until that holds for each; AssertionError says for which it does not."""
    until = time.monotonic() + DEADLINE
    while not all(condition(each) for each in stages):
        if time.monotonic() > until:
            seen = [(each.director.revision, each.wanted(), each.director.readiness()) for each in stages]
            raise AssertionError(f"not all agree: {seen}")
        await asyncio.sleep(0.01)


def file_of(**services: ServiceSpec) -> Configuration:
    return BASE.model_copy(update={"services": services})
