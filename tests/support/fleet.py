# SPDX-License-Identifier: Apache-2.0
"""Directors on stages that share an etcd: each with its own plane, copy of the state and connection to etcd."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from tests.support.stage import ME, WEB1, Stage, configuration, service
from xdpdirector.config import config_file
from xdpdirector.control.events import Event
from xdpdirector.model import Configuration
from xdpdirector.model.store import StoreSpec
from xdpdirector.state.change_request import Intent
from xdpdirector.state.denylist import Denials, StoredDenyList
from xdpdirector.storage.denylist_store import SqliteDenyList
from xdpdirector.storage.etcd.fleet_denylist import FleetDenyList
from xdpdirector.storage.etcd.fleet_orders import FleetOrders
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
    spec: StoreSpec, directory: Path, name: str, file: Configuration, denied: Denials | None = None
) -> AsyncIterator[FleetStage]:
    """Started as the daemon starts one; `file`: its configuration file; `denied`: what it denied before."""
    mirror = FallbackStore(directory / name / "fleet.db", directory / name / "spare", form=MIRROR_FORMAT)
    with contextlib.closing(mirror):
        store = FleetStore(Gateway(spec), spec.prefix, mirror, name)
        known = store.latest()
        before = StoredDenyList(denied or {})
        denials = FleetDenyList(store, SqliteDenyList(lambda: mirror.database), lambda: before)
        services = known.services if known else file.services
        base = file.model_copy(update={"services": {}})
        made = FleetStage(
            shared=store,
            shared_denials=denials,
            base=base,
            orders=FleetOrders(store),
            has_peers=True,
            **services,
        )
        made.store, made.mirror, made.denylist = store, mirror, denials
        async with made:
            assert made.director.fleet
            made.director.fleet.merge(file, config_file.digest(file))
            yield made


@contextlib.asynccontextmanager
async def directors(
    spec: StoreSpec, directory: Path, count: int, file: Configuration
) -> AsyncIterator[list[FleetStage]]:
    """`d1`, `d2` ..., started at once; each has the fleet's first revision."""
    async with contextlib.AsyncExitStack() as stack:
        fleet = [
            await stack.enter_async_context(director(spec, directory, f"d{number}", file))
            for number in range(1, count + 1)
        ]
        await agreed(fleet, is_new)
        yield fleet


async def agreed(stages: Sequence[FleetStage], condition: Callable[[FleetStage], object]) -> None:
    """Wait until that holds for each; AssertionError says for which it does not."""
    until = time.monotonic() + DEADLINE
    while not all(condition(each) for each in stages):
        if time.monotonic() > until:
            seen = [(each.director.revision, each.wanted(), each.director.readiness()) for each in stages]
            raise AssertionError(f"not all agree: {seen}")
        await asyncio.sleep(0.01)


def is_new(stage: FleetStage) -> bool:
    """Whether it has a revision of the fleet."""
    return stage.director.revision > 0


def has_merged(stage: FleetStage) -> bool:
    """Whether its configuration file is merged: of another one only what differs from that counts."""
    latest = stage.store.latest()
    return latest is not None and latest.file_digest is not None


def reaches_etcd(stage: FleetStage) -> bool:
    return stage.store.known().reached


def has_asked_again() -> Callable[[FleetStage], bool]:
    """Whether it and etcd agreed after this call: what was known before counts for nothing."""
    since = time.monotonic()

    def holds(stage: FleetStage) -> bool:
        known = stage.store.known()
        return known.reached and known.age is not None and time.monotonic() - known.age > since

    return holds


def all_ready(count: int) -> Callable[[FleetStage], bool]:
    """Whether it knows so many directors, and each of them as ready: it may still know of one that just began."""

    def holds(stage: FleetStage) -> bool:
        known = stage.director.fleet_view().directors
        return len(known) == count and all(each.ready for each in known)

    return holds


def weight(stage: FleetStage) -> int | None:
    """Of web1; None where the service has no such backend."""
    web = stage.wanted().get("web")
    return web.backends["web1"].weight if web and "web1" in web.backends else None


async def heavier(stage: FleetStage, intent: Intent = ME) -> None:
    """Add 1 to web1's weight."""
    now = weight(stage) or 0
    await stage.director.patch_backend(*WEB1, {"weight": now + 1}, intent=intent)


def happened(stage: FleetStage) -> Sequence[Event]:
    return stage.director.events.since(0)[1]


WEB_FILE = configuration(web=service("web1", "web2"))
"""A configuration file with `web` on web1 and web2."""
