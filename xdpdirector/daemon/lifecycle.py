# SPDX-License-Identifier: Apache-2.0
"""The daemon's life, in order: privileges, lock, listening sockets, program, director, API, until a signal ends it.

Nothing is taken down at the end: packets never depend on this process. Knows every room, decides nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from xdpdirector.api.app import create_app
from xdpdirector.api.auth.access import Access
from xdpdirector.api.server.server import ListeningSocket, Server
from xdpdirector.api.server.sockets import Certificates, open_sockets
from xdpdirector.config import config_file
from xdpdirector.control.attach_keeper import AttachKeeper
from xdpdirector.control.configuration import InitialState, initial_state
from xdpdirector.control.director import Director
from xdpdirector.control.events import Events
from xdpdirector.control.guard_controller import GuardController
from xdpdirector.control.reconciler import Reconciler
from xdpdirector.daemon import (
    configured_parts,
    drop_privileges,
    log_format,
    malloc,
    rlimits,
    startup,
)
from xdpdirector.daemon.systemd import Supervisor
from xdpdirector.dataplane.kernel import RealPlane
from xdpdirector.errors import DirectorError
from xdpdirector.health.checks import exec as exec_check
from xdpdirector.health.checks import registry, trust_store
from xdpdirector.health.checks.metrics import Measured
from xdpdirector.health.monitor import Monitor
from xdpdirector.health.vip_network import CheckNetwork
from xdpdirector.lan.monitor import Lan
from xdpdirector.loader import attachment
from xdpdirector.loader.layout import Loaded
from xdpdirector.model import Address, Configuration
from xdpdirector.model.configuration import VipsOnDummy
from xdpdirector.net.interfaces import Interface
from xdpdirector.net.neighbours import Neighbours, OnChange
from xdpdirector.net.own_macs import FormerMacs, own_macs
from xdpdirector.net.secondary_macs import SecondaryMacs
from xdpdirector.paths import InstancePaths
from xdpdirector.state.revisions import History, SharedHistory
from xdpdirector.storage import event_ids
from xdpdirector.storage.denylist_store import SqliteDenyList
from xdpdirector.storage.fallback import FallbackStore
from xdpdirector.storage.idempotency_store import StoredAnswers
from xdpdirector.storage.maintenance_store import SqliteOrders
from xdpdirector.sync.combined import CombinedSync
from xdpdirector.sync.status import NoSync
from xdpdirector.system import privileges, slow_callbacks
from xdpdirector.system.background_tasks import BackgroundTasks

ROUND_WITHIN = 60.0
"""Seconds without a completed round of the reconciler, after which the watchdog gets no more messages. A round
comes every five seconds; the sweep of a full table on a busy machine takes some more."""

UMASK = 0o077
"""Whatever umask the caller has: files of the daemon are private. Files for others get their mode explicitly."""
TURN = 0.001
"""Seconds that a thread with long work may keep the interpreter when the event loop wants it."""

log = logging.getLogger("xdpdirector")


class _Part(Protocol):
    """What works beside the API from its start on."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...


def run(
    instance: str,
    source: Path,
    wanted: Configuration,
    *,
    has_hung_up: Callable[[], bool] = lambda: False,
    examine: Callable[[], Sequence[dict[str, str]]] = list,
) -> int:
    """Serve until SIGTERM or SIGINT; SIGHUP reads the configuration, `source`, again, and so does one that came
    while this started, as `has_hung_up` says. `examine`: what the doctor finds. The exit status.

    Errors come before anything that runs is touched.
    """
    log_format.begin()
    os.umask(UMASK)
    paths = InstancePaths(instance)
    supervisor = Supervisor.of(os.environ)
    rlimits.require()
    sys.setswitchinterval(TURN)
    privileges.require_daemon()
    with (
        startup.only_one(paths),
        contextlib.closing(Access.at(paths.access, wanted.api)) as access,
        open_sockets(paths.socket, wanted.api, access.tokens, has_fleet=wanted.store.is_shared) as sockets,
        slow_callbacks.as_the_environment_says(os.environ.get),
    ):
        attachment.refuse_obstacles(paths, wanted.interfaces, wanted.mode)
        loaded = startup.loaded(paths, wanted)
        asyncio.run(_serve(paths, source, wanted, loaded, access, sockets, supervisor, has_hung_up, examine))
    return 0


async def _serve(
    paths: InstancePaths,
    source: Path,
    wanted: Configuration,
    loaded: Loaded,
    access: Access,
    sockets: Sequence[ListeningSocket],
    supervisor: Supervisor,
    has_hung_up: Callable[[], bool],
    examine: Callable[[], Sequence[dict[str, str]]],
) -> None:
    """The maps are filled before the program is attached, so that packets never meet an empty director."""
    hung_up, opened = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up.set)
    if has_hung_up():
        hung_up.set()

    def on_open() -> None:
        supervisor.ready()
        opened.set()

    with contextlib.ExitStack() as stack:
        archive = stack.enter_context(
            FallbackStore(paths.state, paths.run / "spare", on_revision=access.audit.note_revision)
        )
        own_denials = SqliteDenyList(lambda: archive.database)
        own_answers = StoredAnswers(lambda: archive.database)
        fleet = configured_parts.shared_stores(paths, wanted, access, stack, own_denials, own_answers)
        shared, shared_denials = (fleet.history, fleet.denials) if fleet else (None, None)
        history: History = shared or archive
        stored, digest = history.latest(), config_file.digest(wanted)
        plane = stack.enter_context(RealPlane(paths, loaded))
        begun = _begun(shared, archive, wanted, digest, plane)
        events, tasks = Events(first=event_ids.begin(paths.events)), BackgroundTasks()
        tasks.watch_callbacks()
        weaknesses = exec_check.notes(wanted.checks)
        probe = Measured(registry.allowing(wanted.checks), lambda address: lan.suspect(address))

        def neighbours(on_change: OnChange, routed: bool) -> Neighbours:
            if routed:
                return Neighbours(on_change, tasks=tasks, grace=wanted.lan.grace, routed=True)

            def tell(address: Address) -> None:
                on_change(address)
                lan.route_changed(address)

            def see(links: Collection[Interface]) -> None:
                plane.take_frames_for(own_macs(links, wanted.interfaces), former.see(links))
                ways.see(links)
                carriers.see(links)
                lan.see(links)

            return Neighbours(tell, see, tasks, grace=wanted.lan.grace)

        former = FormerMacs(wanted.interfaces)
        vips = configured_parts.vip_table(
            paths, wanted, events, tasks, is_ready=lambda: not director.problems()
        )
        ways = CheckNetwork(paths.name, enter=drop_privileges.namespace(), tunnels=plane.probe_tunnels())
        reconciler = Reconciler(
            begun.services,
            plane=plane,
            vips=vips,
            neighbours=neighbours,
            checks=lambda on_change, route: Monitor(on_change, route, probe=probe, ways=ways, tasks=tasks),
            events=events,
            tasks=tasks,
            has_peers=(wanted.has_peers and wanted.vips == "external")
            or isinstance(wanted.vips, VipsOnDummy),
            take_over=configured_parts.take_over(paths, wanted),
        )
        certificates = Certificates(access.spec, sockets)
        carriers = AttachKeeper(paths, wanted.interfaces, wanted.mode, events, tasks, vips.look_soon)
        lan = Lan(
            wanted.lan,
            wanted.interfaces,
            events,
            services=lambda: reconciler.services,
            route=reconciler.route,
            tasks=tasks,
        )
        sync = configured_parts.connection_sync(paths, wanted, plane, tasks, stack, reconciler.vips_here)
        ipvs_sync = configured_parts.ipvs_sync(wanted, plane, lambda: reconciler.services, tasks, stack)
        director = Director(
            reconciler,
            plane,
            history,
            wanted,
            carriers=carriers,
            lan=lan,
            guard=GuardController(
                plane,
                shared_denials or own_denials,
                events,
                lambda: reconciler.services,
                wanted.sizes,
                tasks,
                shared_denials,
            ),
            orders=fleet.orders if fleet else SqliteOrders(lambda: archive.database, wanted.director_name),
            sync=CombinedSync(sync or NoSync(), ipvs_sync) if ipvs_sync else sync,
            tallies=probe.tallies,
            notes=lambda: [*access.audit.notes, *certificates.notes(), *weaknesses],
            revision=stored.id if stored else 0,
            shared=shared,
        )
        async with contextlib.AsyncExitStack() as running:
            running.push_async_callback(director.close)
            await director.start(strict=begun.is_new, ready=lambda: startup.attach(paths, wanted))
            if begun.takes_in:
                director.take_in(digest, wanted.services, begun.leaving)
            if begun.refusal:
                log.error("the configuration file is not merged: %s", begun.refusal)
                director.configuration.refuse_file(begun.refusal)
            macs = SecondaryMacs(wanted.interfaces, plane.leave_frames_for, tasks)
            parts: list[_Part | None] = [carriers, lan, macs, sync, ipvs_sync]
            for part in filter(None, parts):
                running.push_async_callback(part.close)
                await part.start()
            answers = fleet.answers if fleet else own_answers
            app = create_app(director, access, answers, examine=examine, fleet=director.fleet)
            server = Server(app, sockets, on_open=on_open)
            recording = tasks.start("keeping rates for the dashboard", app.state.live_feed.record)
            running.push_async_callback(asyncio.wait, [recording])
            running.callback(recording.cancel)
            malloc.settle()
            collecting = tasks.start("collecting garbage", malloc.collect_at_quiet_moments)
            running.callback(collecting.cancel)
            await _answer(
                director,
                server,
                supervisor,
                tasks,
                lambda: _read_again(source, director, certificates),
                certificates,
                lambda: time.monotonic() - reconciler.last_round < ROUND_WITHIN,
                hung_up,
                opened,
            )


def _begun(
    shared: SharedHistory | None,
    archive: FallbackStore,
    wanted: Configuration,
    digest: str,
    plane: RealPlane,
) -> InitialState:
    """What a director starts with: what it knows of its fleet's state; else its own. Then that begins the fleet, or
    gives way to it, as soon as the fleet's store can be asked."""
    if shared is None:
        return initial_state(archive, wanted, digest, plane)
    if known := shared.latest():
        return InitialState(known.services, takes_in=True)
    return replace(initial_state(archive, wanted, digest, plane), leaving=frozenset(), takes_in=True)


async def _answer(
    director: Director,
    server: Server,
    supervisor: Supervisor,
    tasks: BackgroundTasks,
    read_again: Callable[[], Awaitable[None]],
    certificates: Certificates,
    is_sound: Callable[[], bool],
    hung_up: asyncio.Event,
    opened: asyncio.Event,
) -> None:
    """Serve the API until a signal comes. systemd's watchdog is fed while the director `is_sound`."""

    def stop() -> None:
        supervisor.stopping()
        director.stop_waiting()
        server.stop()

    async def reload() -> None:
        await opened.wait()
        while True:
            await hung_up.wait()
            hung_up.clear()
            supervisor.reloading()
            await read_again()
            supervisor.ready()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    beside = [
        tasks.start("reading the configuration file again", reload),
        tasks.start("looking at the API's certificates", certificates.follow),
    ]
    if supervisor.is_there:
        tell = partial(supervisor.live, lambda: _status(director), is_sound)
        beside.append(tasks.start("telling systemd", tell))
    try:
        await server.serve()
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)


def _status(director: Director) -> str:
    """What `systemctl status` shows."""
    seen = director.readiness()
    services = f"revision {seen.revision}, {len(director.names())} services"
    return f"not ready: {seen.problems[0]}" if seen.problems else services


async def _read_again(source: Path, director: Director, certificates: Certificates) -> None:
    """On SIGHUP: reload certificates and the configuration file. Errors are logged, and change nothing."""
    trust_store.forget()
    await certificates.read()
    try:
        wanted = await asyncio.to_thread(config_file.load, source)
        digest = config_file.digest(wanted)
        if director.fleet:  # it tries again when it cannot be done now
            director.fleet.merge(wanted, digest)
            await director.guard.take_in(wanted.guard)
            return
        plan = await director.configuration.reload(wanted, digest)
        await director.guard.take_in(wanted.guard)
        log.info("the configuration file is read again: %d changes", len(plan.changes))
    except DirectorError as error:
        log.error("the configuration file is not merged: %s", error.detail)
        director.configuration.refuse_file(error.detail)
    except Exception as error:  # a bug: the daemon goes on
        log.exception("the configuration file is not merged")
        director.configuration.refuse_file(str(error))
