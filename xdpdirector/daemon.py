# SPDX-License-Identifier: Apache-2.0
"""The daemon's life, in order: configuration, lock, program and maps, director, API, until a signal ends it.

Nothing is taken down at the end: packets never depend on this process. Knows every room, decides nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from xdpdirector import attachment, config, interfaces, loader
from xdpdirector.api.app import create_app
from xdpdirector.director import Director
from xdpdirector.errors import AlreadyRunningError, NotAllowedError
from xdpdirector.layout import Loaded
from xdpdirector.model import Configuration
from xdpdirector.monitor import Monitor
from xdpdirector.neighbours import Neighbours
from xdpdirector.paths import InstancePaths
from xdpdirector.realplane import RealPlane
from xdpdirector.store import Store
from xdpdirector.vips import Vips

log = logging.getLogger("xdpdirector")


def run(instance: str, configuration: Path) -> int:
    """Serve until SIGTERM or SIGINT; the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    paths = InstancePaths(instance)
    wanted = config.load(configuration)
    interfaces.find(wanted.interfaces)
    with _only_one(paths):
        loaded = loader.ensure(paths, wanted.sizes)
        asyncio.run(_serve(paths, wanted, config.digest(configuration), loaded))
    return 0


def load(instance: str, configuration: Path, *, force: bool = False) -> int:
    """Prepare and attach the program without a daemon; an attached one is replaced in place."""
    paths = InstancePaths(instance)
    wanted = config.load(configuration)
    interfaces.find(wanted.interfaces)
    loaded = loader.ensure(paths, wanted.sizes)
    for done in attachment.attach(paths, wanted.interfaces, wanted.mode, force):
        print(f"program {loaded.program_id} runs on {done.interface}, {done.mode} mode. {done.note}".rstrip())
    return 0


def unload(instance: str) -> int:
    """Take the program off its interfaces and remove its maps: all forwarding of this instance ends."""
    names = attachment.unload(InstancePaths(instance))
    print(f"the data plane of '{instance}' is gone" + (f" from {', '.join(names)}" if names else ""))
    return 0


async def _serve(paths: InstancePaths, wanted: Configuration, digest: str, loaded: Loaded) -> None:
    async with contextlib.AsyncExitStack() as stack:
        store = stack.enter_context(Store(paths.state))
        plane = stack.enter_context(RealPlane(paths, loaded))
        services, revision = store.reconcile(wanted, digest)
        director = Director(
            services,
            revision=revision,
            plane=plane,
            history=store,
            vips=Vips(wanted.interfaces, manage=wanted.vips == "manage"),
            neighbours=Neighbours,
            checks=Monitor,
        )
        stack.push_async_callback(director.close)
        await director.start()
        for done in attachment.attach(paths, wanted.interfaces, wanted.mode):
            log.info(
                "program %d runs on %s, %s mode %s", done.program_id, done.interface, done.mode, done.note
            )
        await _answer(director, paths)


async def _answer(director: Director, paths: InstancePaths) -> None:
    """Serve the API on the unix socket until a signal comes."""
    paths.socket.unlink(missing_ok=True)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(director),
            uds=str(paths.socket),
            http="h11",
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            timeout_graceful_shutdown=2,
        )
    )
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with contextlib.suppress(FileNotFoundError):
        serving = asyncio.create_task(server._serve(sockets=None))
        waiting = asyncio.create_task(stop.wait())
        await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        waiting.cancel()
        await serving


@contextlib.contextmanager
def _only_one(paths: InstancePaths) -> Iterator[None]:
    """Hold the instance's lock; AlreadyRunningError when another daemon has it."""
    try:
        paths.run.mkdir(parents=True, exist_ok=True)
        fd = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except PermissionError as error:
        raise NotAllowedError(f"{paths.lock} cannot be opened: run as root") from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(fd, 20, 0).decode(errors="replace").strip() or "unknown"
            raise AlreadyRunningError(
                f"a daemon for instance '{paths.name}' runs already (process {holder}): stop it first, or use "
                "another name with --instance"
            ) from error
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)
