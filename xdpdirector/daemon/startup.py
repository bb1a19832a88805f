# SPDX-License-Identifier: Apache-2.0
"""Steps before the daemon, and steps that need more rights than it has: load, unload, drop privileges.

Imports little: it is done at every start. Knows files, programs and users; nothing of services.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import select
import signal
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from xdpdirector.config import config_file
from xdpdirector.daemon import drop_privileges
from xdpdirector.errors import AlreadyRunningError, ConflictError, NotAllowedError
from xdpdirector.health import vip_network
from xdpdirector.loader import (
    attachment,
    bpffs,
    compiler,
    layout,
    ownership,
    source,
)
from xdpdirector.loader.build import Build
from xdpdirector.loader.layout import Loaded
from xdpdirector.model import Configuration, Sizes
from xdpdirector.net import interfaces, netns, veth_peer
from xdpdirector.paths import InstancePaths
from xdpdirector.system import privileges, procfs, untrusted_directory
from xdpdirector.system.privileges import Account

if TYPE_CHECKING:
    from xdpdirector.dataplane.migration.fates import Carried

log = logging.getLogger("xdpdirector")

_TERM_PATIENCE, _KILL_PATIENCE = 20.0, 5.0  # seconds


def prepare(instance: str, configuration: Path) -> Configuration:
    """The configuration, for the user that it names.

    Another user does what needs more rights, becomes that user and executes the command again.
    """
    if not privileges.may_load():
        privileges.require_daemon()
    wanted = config_file.load(configuration)
    interfaces.find(wanted.interfaces)
    account = Account.of(wanted.user)
    if not account.is_this:
        _load_for(account, InstancePaths(instance), wanted)
        veth_peer.note_ready(wanted.interfaces)
        drop_privileges.become(account, [wanted.api.group] if wanted.api.group else [])
    return wanted


def load(
    instance: str, configuration: Path, *, force: bool = False, lose: bool = False, only_prepare: bool = False
) -> int:
    """Prepare and attach the program without a daemon; an attached one is replaced in place.

    `only_prepare`: only compile, so that the next load is quick; a running program stays.

    ConflictError when running connections could not be carried over, unless `lose`.
    """
    paths = InstancePaths(instance)
    bpffs.require_privileges()
    wanted = config_file.load(configuration)
    interfaces.find(wanted.interfaces)
    attachment.refuse_obstacles(paths, wanted.interfaces, wanted.mode, force=force)
    program = _ensure(paths, wanted)
    if only_prepare:
        give(paths, Account.of(wanted.user), program)
        print(f"program {program.program_id} is prepared")
        return 0
    with only_one(paths) if layout.set_aside(paths) else contextlib.nullcontext():
        for carried in carry(paths, program, lose=lose):
            print(f"carried over: {carried}")
        attach_without_daemon(paths, program, wanted, force)
    give(paths, Account.of(wanted.user), program)
    for found in attachment.attachments(paths):
        print(f"program {program.program_id} runs on {found.interface}, {found.mode} mode")
    return 0


def _ensure(paths: InstancePaths, wanted: Configuration) -> Loaded:
    """What is loaded, if it is what is wanted; else that is prepared."""
    has_frags = attachment.needs_frags(paths, wanted.interfaces, wanted.mode)
    return compiler.ensure(paths, wanted.sizes, has_frags=has_frags)


def give(paths: InstancePaths, account: Account, program: Loaded) -> None:
    """All that there is of the instance, to the daemon's user. At once, since a daemon that runs looks at the pins
    every second; then the program that explains, which takes seconds to compile, and which the user cannot make."""
    ownership.hand_over(paths, account)
    if not account.is_this:
        compiler.ensure_explaining(paths, program)
        ownership.hand_over(paths, account)


def plan(instance: str, configuration: Path) -> int:
    """Say what an upgrade to this release and these sizes carries over; 0 when the maps stay as they are, else 1.

    Nothing of this machine is changed: the program is loaded where nobody else sees it.
    """
    from xdpdirector.dataplane.migration import migrate
    from xdpdirector.replay import sandbox

    paths = InstancePaths(instance)
    bpffs.require_privileges()
    sizes = config_file.load(configuration).sizes
    with sandbox.loading([sizes], source.program().name, keeps=False) as [program]:
        old = migrate.running_otherwise(paths, Build(paths, sizes, source.program()).pins)
        plans = migrate.plan(old, program) if old else []
    for carried in plans:
        print(carried)
    if old is None:
        print("the maps stay as they are: all connections are kept")
    return 1 if old else 0


def compile_only(configuration: Path) -> int:
    """Compile the program, and the one that explains, so that the next load needs no compiler. `configuration`: for
    `sizes`; without the file, their defaults. Nothing stays loaded."""
    from xdpdirector.replay import sandbox

    bpffs.require_privileges()
    sizes = config_file.sizes(configuration) if configuration.exists() else Sizes()
    with sandbox.loading([sizes], source.program().name, explains=True):
        print("the packet program is compiled")
    return 0


def carry(paths: InstancePaths, program: Loaded, *, lose: bool = False) -> list[Carried]:
    """See `carrying.carry`, which not every start needs. Whoever was ended after the new program was attached has
    carried all there was; `attach` does the rest."""
    if not layout.set_aside(paths) or _forwards(paths, program):
        return []
    from xdpdirector.dataplane.migration import migrate

    return [each for each in migrate.carry(paths, program, lose=lose) if each.entries]


def _forwards(paths: InstancePaths, program: Loaded) -> bool:
    return any(found.program_id == program.program_id for found in attachment.attachments(paths))


def _complete(paths: InstancePaths) -> None:
    program = layout.read(paths)
    if program and layout.set_aside(paths):
        from xdpdirector.dataplane.migration import migrate

        completed = migrate.complete(paths, program)
        log.info("%d records of connections are carried over", completed.records - completed.unplaced)
        if completed.unplaced:
            log.warning("%d running connections found no place in the new table", completed.unplaced)


def unload(instance: str, *, addresses: bool = False) -> int:
    """Take the program off its interfaces and remove its maps: all forwarding of this instance ends.

    `addresses`: those that a daemon put on these interfaces go, too. Not under a running daemon, which would go on
    writing into maps that no packet sees.
    """
    bpffs.require_privileges()
    paths = InstancePaths(instance)
    with only_one(paths) if paths.lock.exists() else contextlib.nullcontext():
        names = attachment.unload(paths)
        vip_network.clear(instance)
        if addresses:
            _withdraw(paths, names)
    print(f"the data plane of '{instance}' is gone" + (f" from {', '.join(names)}" if names else ""))
    return 0


def unload_everywhere(instance: str) -> int:
    """As `unload`, but the daemon is ended first, and no network namespace of this machine keeps program or VIPs.

    For when the program is removed from the machine. ConflictError when the daemon does not end.
    """
    bpffs.require_privileges()
    paths = InstancePaths(instance)
    if ended := _end_daemon(paths):
        print(f"ended the daemon of '{instance}', process {ended}")
    _here, *others = netns.everywhere()
    for place in others:
        for name in netns.visit(place, lambda: _leave(paths)):
            print(f"took the program of '{instance}' off {name}, in another network namespace")
    return unload(instance, addresses=True)


def _leave(paths: InstancePaths) -> list[str]:
    """This network namespace; which interfaces carried the program."""
    names = [found.interface for found in attachment.attachments(paths)]
    if names:
        attachment.detach(paths, names)
        vip_network.clear(paths.name)
        _withdraw(paths, names)
    return names


def _end_daemon(paths: InstancePaths) -> int | None:
    """SIGTERM, and SIGKILL where that does not help; the process, None when none had the lock."""
    try:
        with untrusted_directory.opened(paths.lock) as lock:
            if _is_free(lock):
                return None
            pid = _number(os.pread(lock, 20, 0))
            with _process(pid) as process:
                if process is None or not _has_open(pid, lock):
                    raise ConflictError(
                        f"end the daemon of instance '{paths.name}' where it runs: it holds {paths.lock}, and "
                        "is no process that can be seen from here"
                    )
                if _ended(process):
                    return pid
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConflictError(f"{paths.lock} is not the daemon's: {error.strerror}: remove it") from error
    raise ConflictError(
        f"the daemon of instance '{paths.name}', process {pid}, does not end, also not by SIGKILL"
    )


def _number(said: bytes) -> int:
    """Of a process; 0 for what is none."""
    try:
        return max(0, int(said))
    except ValueError:
        return 0


@contextlib.contextmanager
def _process(pid: int) -> Iterator[int | None]:
    """A pidfd, so that signals go to the same process that was examined; None: there is no such process."""
    try:
        process = os.pidfd_open(pid)
    except OSError:
        yield None
        return
    try:
        yield process
    finally:
        os.close(process)


def _ended(process: int) -> bool:
    for number, patience in ((signal.SIGTERM, _TERM_PATIENCE), (signal.SIGKILL, _KILL_PATIENCE)):
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, number)
        if select.select([process], [], [], patience)[0]:
            return True
    return False


def _is_free(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(lock, fcntl.LOCK_UN)
    return True


def _has_open(pid: int, file: int) -> bool:
    """Whether the process has this file open, and is of the user whose file it is: a number alone may be another
    process's, and a file can be handed to anybody."""
    wanted = os.fstat(file)
    with contextlib.suppress(OSError):
        process = procfs.directory(pid)
        if privileges.user_of((process / "status").read_text()) != wanted.st_uid:
            return False
        for each in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                if os.path.samestat(each.stat(), wanted):
                    return True
    return False


def _withdraw(paths: InstancePaths, names: Collection[str]) -> None:
    from xdpdirector.net import vips

    for address in vips.withdraw(names, paths.arp):
        print(f"took {address} off")
    with contextlib.suppress(OSError):  # the daemon's files are there
        paths.run.rmdir()


def attach(paths: InstancePaths, wanted: Configuration, force: bool = False) -> None:
    """On the interfaces that are wanted, and on no others any more.

    Connections that began since `carry` are copied before the new program takes packets, which would answer those
    that it does not know with a RST; only what begins during that is copied afterwards."""
    _complete(paths)
    attached = attachment.attach(paths, wanted.interfaces, wanted.mode, force, done=lambda: _complete(paths))
    for done in attached:
        log.info("program %d on %s, %s mode %s", done.program_id, done.interface, done.mode, done.note)
    stale = [
        found.interface for found in attachment.attachments(paths) if found.interface not in wanted.interfaces
    ]
    for name in attachment.detach(paths, stale) if stale else []:
        log.info("program taken off %s, which is no longer in the configuration", name)


def attach_without_daemon(
    paths: InstancePaths, program: Loaded, wanted: Configuration, force: bool = False
) -> None:
    """As `attach`. A daemon lets the program drop packets of connections that it does not know yet; without one
    that is done here."""
    if not layout.set_aside(paths) or _forwards(paths, program):
        attach(paths, wanted, force)
        return
    from xdpdirector.dataplane.migration import migrate

    with migrate.forbearing(program):
        attach(paths, wanted, force)


def loaded(paths: InstancePaths, wanted: Configuration) -> Loaded:
    """What is loaded; loaded now when it is not there or is another one, by those who may."""
    try:
        found = compiler.current(paths, wanted.sizes)
    except PermissionError as error:
        raise _not_handed_over(error) from error
    if found is None and not privileges.may_load():
        raise NotAllowedError(
            "the packet program of this release and these sizes is not loaded, and this user may not load it: "
            "run `xdpdirector load` as root"
        )
    found = found or _ensure(paths, wanted)
    for carried in carry(paths, found):
        log.info("carried over: %s", carried)
    if os.geteuid() == 0:
        ownership.hand_over(paths, Account.of(None))
    return found


@contextlib.contextmanager
def only_one(paths: InstancePaths) -> Iterator[None]:
    """Hold the instance's lock; AlreadyRunningError when another daemon has it."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(untrusted_directory.directory(paths.run, make=True))
            fd = stack.enter_context(untrusted_directory.opened(paths.lock, os.O_RDWR | os.O_CREAT))
        except PermissionError as error:
            raise _not_handed_over(error) from error
        except OSError as error:
            raise ConflictError(f"{paths.lock} cannot be used: {error.strerror}: remove it") from error
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


def _load_for(account: Account, paths: InstancePaths, wanted: Configuration) -> None:
    """All that needs more rights than the daemon has."""
    bpffs.require_privileges()
    with only_one(paths):
        attachment.refuse_obstacles(paths, wanted.interfaces, wanted.mode)
        program = _ensure(paths, wanted)
        carry(paths, program)
        give(paths, account, program)


def _not_handed_over(error: PermissionError) -> NotAllowedError:
    return NotAllowedError(
        f"this user may not use {error.filename}: let it be the `user` of the configuration, and run "
        "`xdpdirector load` as root"
    )
