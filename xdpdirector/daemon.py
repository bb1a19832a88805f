# SPDX-License-Identifier: Apache-2.0
"""The daemon's life, in order: privileges, configuration, lock, program, director, API, until a signal ends it.

Nothing is taken down at the end: packets never depend on this process. Knows every room, decides nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from pathlib import Path

from xdpdirector import (
    attachment,
    becoming,
    bpffs,
    checknet,
    config,
    handover,
    interfaces,
    loader,
    privileges,
)
from xdpdirector.answers import StoredAnswers
from xdpdirector.api.access import Access
from xdpdirector.api.app import create_app
from xdpdirector.api.doors import load_certificates_anew, opened_doors
from xdpdirector.api.server import Door, Server
from xdpdirector.archive import Archive
from xdpdirector.carriers import Carriers
from xdpdirector.checknet import CheckNetwork
from xdpdirector.checks import registry
from xdpdirector.checks.measured import Measured
from xdpdirector.denystore import DenyStore
from xdpdirector.director import Director
from xdpdirector.errors import AlreadyRunningError, ConfigurationError, DirectorError, NotAllowedError
from xdpdirector.events import Events
from xdpdirector.filestate import merge_file
from xdpdirector.guard import Guard
from xdpdirector.interfaces import Interface
from xdpdirector.lan.watch import Lan
from xdpdirector.layout import Loaded
from xdpdirector.model import Address, Configuration
from xdpdirector.monitor import Monitor
from xdpdirector.neighbours import Neighbours, OnChange
from xdpdirector.paths import InstancePaths
from xdpdirector.privileges import Account
from xdpdirector.realplane import RealPlane
from xdpdirector.reconciler import Reconciler
from xdpdirector.recorded import Recorded
from xdpdirector.stations import own_macs
from xdpdirector.vips import Vips

log = logging.getLogger("xdpdirector")


def run(instance: str, configuration: Path) -> int:
    """Serve until SIGTERM or SIGINT; SIGHUP reads the configuration again. The exit status.

    Errors come before anything that runs is touched.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    paths = InstancePaths(instance)
    wanted = config.load(configuration)
    interfaces.find(wanted.interfaces)
    account = Account.of(wanted.user)
    if not account.is_this:
        _load_for(account, paths, wanted)
        becoming.become(account, [wanted.api.group] if wanted.api.group else [])
    privileges.require_daemon()
    with (
        _only_one(paths),
        contextlib.closing(Access.at(paths.access, wanted.api)) as access,
        opened_doors(paths.socket, wanted.api, access.tokens) as doors,
    ):
        attachment.refuse_obstacles(paths, wanted.interfaces, wanted.mode)
        loaded = _loaded(paths, wanted)
        asyncio.run(_serve(paths, configuration, wanted, loaded, access, doors))
    return 0


def load(instance: str, configuration: Path, *, force: bool = False) -> int:
    """Prepare and attach the program without a daemon; an attached one is replaced in place."""
    paths = InstancePaths(instance)
    bpffs.require_privileges()
    wanted = config.load(configuration)
    interfaces.find(wanted.interfaces)
    if not force:
        attachment.refuse_obstacles(paths, wanted.interfaces, wanted.mode)
    loaded = loader.ensure(paths, wanted.sizes)
    _attach(paths, wanted, force)
    if wanted.user:  # who cannot make it when it is asked for
        loader.ensure_explaining(paths, loaded)
    handover.hand_over(paths, Account.of(wanted.user))
    for found in attachment.attachments(paths):
        print(f"program {loaded.program_id} runs on {found.interface}, {found.mode} mode")
    return 0


def unload(instance: str) -> int:
    """Take the program off its interfaces and remove its maps: all forwarding of this instance ends.

    Not under a running daemon, which would go on writing into maps that no packet sees.
    """
    bpffs.require_privileges()
    paths = InstancePaths(instance)
    with _only_one(paths) if paths.lock.exists() else contextlib.nullcontext():
        names = attachment.unload(paths)
        checknet.clear(instance)
    print(f"the data plane of '{instance}' is gone" + (f" from {', '.join(names)}" if names else ""))
    return 0


def _load_for(account: Account, paths: InstancePaths, wanted: Configuration) -> None:
    """All that needs more rights than the daemon has, before it becomes that user."""
    bpffs.require_privileges()
    with _only_one(paths):
        attachment.refuse_obstacles(paths, wanted.interfaces, wanted.mode)
        loaded = loader.ensure(paths, wanted.sizes)
        loader.ensure_explaining(paths, loaded)
        handover.hand_over(paths, account)


def _loaded(paths: InstancePaths, wanted: Configuration) -> Loaded:
    """What is loaded; loaded now when it is not there or is another one, by those who may."""
    try:
        loaded = loader.current(paths, wanted.sizes)
    except PermissionError as error:
        raise _not_handed_over(error) from error
    if loaded is None and not privileges.may_load():
        raise NotAllowedError(
            "the packet program of this release and these sizes is not loaded, and this user may not load it: "
            "run `xdpdirector load` as root"
        )
    loaded = loaded or loader.ensure(paths, wanted.sizes)
    if os.geteuid() == 0:
        handover.hand_over(paths, Account.of(None))
    return loaded


def _not_handed_over(error: PermissionError) -> NotAllowedError:
    return NotAllowedError(
        f"this user may not use {error.filename}: let it be the `user` of the configuration, and run "
        "`xdpdirector load` as root"
    )


async def _serve(
    paths: InstancePaths,
    source: Path,
    wanted: Configuration,
    loaded: Loaded,
    access: Access,
    doors: Sequence[Door],
) -> None:
    """The maps are filled before the program is attached, so that packets never meet an empty director."""
    with contextlib.ExitStack() as stack:
        archive = stack.enter_context(Archive(paths.state, paths.run / "spare"))
        stored = archive.latest()
        services = merge_file(stored, wanted, digest := config.digest(wanted))
        is_new = stored is None or stored.file_digest != digest
        plane = stack.enter_context(RealPlane(paths, loaded))
        events = Events()
        probe = Measured(registry.allowing(wanted.checks), lambda address: lan.suspect(address))

        def neighbours(on_change: OnChange) -> Neighbours:
            def tell(address: Address) -> None:
                on_change(address)
                lan.route_changed(address)

            def see(links: Collection[Interface]) -> None:
                plane.take_frames_for(own_macs(links, wanted.interfaces))

            return Neighbours(tell, see)

        reconciler = Reconciler(
            services,
            plane=plane,
            vips=_vips(wanted, events),
            neighbours=neighbours,
            checks=lambda on_change, route: Monitor(
                on_change, route, probe=probe, ways=CheckNetwork(paths.name, enter=becoming.namespace())
            ),
            events=events,
        )
        history = Recorded(archive, access.audit)
        carriers = Carriers(paths, wanted.interfaces, wanted.mode, events)
        lan = Lan(
            wanted.lan,
            wanted.interfaces,
            events,
            services=lambda: reconciler.services,
            route=reconciler.route,
        )
        director = Director(
            reconciler,
            plane,
            history,
            wanted,
            carriers=carriers,
            lan=lan,
            guard=Guard(
                plane,
                DenyStore(lambda: archive.database),
                events,
                lambda: reconciler.services,
                wanted.sizes,
            ),
            tallies=probe.tallies,
            revision=stored.id if stored else 0,
        )
        async with contextlib.AsyncExitStack() as running:
            running.push_async_callback(director.close)
            await director.start(strict=is_new, ready=lambda: _attach(paths, wanted))
            if is_new:
                director.take_in(digest, frozenset(wanted.services))
            for watcher in (carriers, lan):
                running.push_async_callback(watcher.close)
                await watcher.start()
            app = create_app(director, access, StoredAnswers(lambda: archive.database))
            await _answer(director, Server(app, doors), lambda: _read_again(source, director, access, doors))


def _vips(wanted: Configuration, events: Events) -> Vips:
    def tell(address: Address) -> None:
        come = vips.present(address)
        text = (
            "the VIP stands on this director" if come else "the VIP stands on no interface of this director"
        )
        events.publish("vip.present" if come else "vip.absent", str(address), text)

    vips = Vips(wanted.interfaces, manage=wanted.vips == "manage", on_change=tell)
    return vips


def _attach(paths: InstancePaths, wanted: Configuration, force: bool = False) -> None:
    """On the interfaces that are wanted, and on no others any more."""
    for done in attachment.attach(paths, wanted.interfaces, wanted.mode, force):
        log.info("program %d on %s, %s mode %s", done.program_id, done.interface, done.mode, done.note)
    stale = [
        found.interface for found in attachment.attachments(paths) if found.interface not in wanted.interfaces
    ]
    for name in attachment.detach(paths, stale) if stale else []:
        log.info("program taken off %s, which is no longer in the configuration", name)


async def _answer(director: Director, server: Server, read_again: Callable[[], Awaitable[None]]) -> None:
    """Serve the API until a signal comes."""
    hung_up = asyncio.Event()

    def stop() -> None:
        director.stop_waiting()
        server.should_exit = True

    async def reload() -> None:
        while True:
            await hung_up.wait()
            hung_up.clear()
            await read_again()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, hung_up.set)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    reloading = asyncio.create_task(reload())
    try:
        await server.serve()
    finally:
        reloading.cancel()
        await asyncio.gather(reloading, return_exceptions=True)


async def _read_again(source: Path, director: Director, access: Access, doors: Sequence[Door]) -> None:
    """On SIGHUP: certificates and the configuration file. What is wrong with them is told, and changes nothing."""
    try:
        load_certificates_anew(access.spec, doors)
    except ConfigurationError as error:
        log.error("the certificates stay as they are: %s", error.detail)
    try:
        wanted = await asyncio.to_thread(config.load, source)
        plan = await director.configuration.reload(wanted, config.digest(wanted))
        director.guard.take_in(wanted.guard)
        log.info("the configuration file is read again: %d changes", len(plan.changes))
    except DirectorError as error:
        log.error("the configuration file is not taken in: %s", error.detail)
        director.configuration.refuse_file(error.detail)
    except Exception as error:  # a bug of ours: what runs goes on
        log.exception("the configuration file is not taken in")
        director.configuration.refuse_file(str(error))


@contextlib.contextmanager
def _only_one(paths: InstancePaths) -> Iterator[None]:
    """Hold the instance's lock; AlreadyRunningError when another daemon has it."""
    try:
        paths.run.mkdir(parents=True, exist_ok=True)
        fd = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except PermissionError as error:
        raise _not_handed_over(error) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(fd, 20, 0).decode(errors="replace").strip() or "unknown"
            raise AlreadyRunningError(
                f"a daemon for instance '{paths.name}' runs already (process {holder}): stop it first, or name "
                "another instance with --instance"
            ) from error
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)
