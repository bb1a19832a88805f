# SPDX-License-Identifier: Apache-2.0
"""The ground that loading stands on: privileges, a bpffs, one loader at a time, an instance's pins.

Knows nothing of compilers or interfaces. bpffs allows no dots in names.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from xdpdirector import libbpf, privileges
from xdpdirector.errors import ConflictError, LoaderError, NotAllowedError
from xdpdirector.paths import BPFFS, InstancePaths

PROGRAM = "program"
UNFINISHED = "program-new"
RETIRED = "program-"
MAPS = "maps-"
EXPLAINING = "explain-"
LOCK_PATIENCE = 120.0

_REMEDY = "run as root, or give CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
_DIRECTORY_MODE = 0o700


def require_privileges(*, adopting: bool = False) -> None:
    """NotAllowedError unless this process may load a program and attach it; `adopting`: onto pinned maps."""
    if privileges.may_load(adopting=adopting):
        return
    if not privileges.may_load():
        raise NotAllowedError(f"loading the packet program needs privileges: {_REMEDY}")
    raise NotAllowedError(
        "loading onto maps that are pinned already needs CAP_SYS_ADMIN besides, since BCC opens them by "
        "their ids: run as root"
    )


@contextmanager
def translated(what: str) -> Iterator[None]:
    """An OSError inside becomes NotAllowedError or LoaderError: `what` failed."""
    try:
        yield
    except PermissionError as error:
        raise NotAllowedError(f"{what} is not allowed ({error}): {_REMEDY}") from error
    except OSError as error:
        raise LoaderError(f"{what} failed: {error}") from error


def ensure_mounted() -> None:
    """Mount a bpffs at /sys/fs/bpf when none is there.

    Not in a mount namespace of our own, as `ip netns exec` makes one: the pins would vanish with it.
    """
    if is_mounted():
        return
    if not BPFFS.is_dir():
        raise LoaderError(f"{BPFFS} does not exist: this kernel has no BPF, or sysfs is not mounted on /sys")
    if not _mounts_are_shared_with_init():
        raise LoaderError(
            f"no bpffs is mounted on {BPFFS} in this mount namespace, "
            "and one mounted now would vanish with it. Instead of `ip netns exec NAME` use "
            "`nsenter --net=/run/netns/NAME`, "
            f"or first run `mount -t bpf bpf {BPFFS}` in this mount namespace"
        )
    mount = subprocess.run(
        ["mount", "-t", "bpf", "bpf", str(BPFFS)], capture_output=True, text=True, check=False
    )
    if not is_mounted():
        raise NotAllowedError(
            f"{BPFFS} has no bpffs and mounting one failed ({mount.stderr.strip()}): "
            f"run `mount -t bpf bpf {BPFFS}` as root"
        )


def is_mounted() -> bool:
    """Whether what one sees at /sys/fs/bpf is a bpffs."""
    try:
        device = BPFFS.stat().st_dev
    except OSError:
        return False
    number = f"{os.major(device)}:{os.minor(device)}"
    lines = (line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return any(fields[2] == number and fields[fields.index("-") + 1] == "bpf" for fields in lines)


def _mounts_are_shared_with_init() -> bool:
    """Whether no process above ours has another mount namespace; one that we may not look at ends the search."""
    mine, pid = Path("/proc/self/ns/mnt").stat().st_ino, os.getppid()
    while pid:
        try:
            if Path(f"/proc/{pid}/ns/mnt").stat().st_ino != mine:
                return False
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return True
        pid = int(status.split("\nPPid:")[1].split()[0])
    return True


@contextmanager
def locked(paths: InstancePaths) -> Iterator[None]:
    """One loader at a time; ConflictError when another one works for more than two minutes."""
    with translated(f"making {paths.run}"):
        paths.run.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + LOCK_PATIENCE
    while (fd := _try_lock(paths.loader_lock)) is None:
        if time.monotonic() > deadline:
            raise ConflictError(
                f"another loader of instance '{paths.name}' has been at work for {LOCK_PATIENCE:.0f} s "
                f"(it holds {paths.loader_lock}): wait for it, or end it"
            )
        time.sleep(0.05)
    try:
        yield
    finally:
        os.close(fd)


def _try_lock(path: Path) -> int | None:
    """A locked descriptor of the file that has this name now: an unload may have removed what we opened."""
    with translated(f"opening {path}"):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(fd), path.stat()):
            return fd
    os.close(fd)
    return None


def make_directory(path: Path) -> None:
    """A directory on the bpffs, for root only."""
    with translated(f"making {path}"):
        path.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)


def pinned_programs(paths: InstancePaths) -> dict[int, Path]:
    """By program id: the prepared program and the retired ones that may still be attached."""
    programs = {}
    for path in [paths.pins / PROGRAM, *paths.pins.glob(f"{RETIRED}*")]:
        with suppress(FileNotFoundError), libbpf.opened(path) as fd:
            programs[libbpf.prog_info(fd).id] = path
    return programs


def open_program(paths: InstancePaths, program_id: int) -> int:
    """A descriptor, by its pin when it has one: going by the id alone needs CAP_SYS_ADMIN."""
    pin = pinned_programs(paths).get(program_id)
    return libbpf.obj_get(pin) if pin else libbpf.prog_fd(program_id)


def pin_program(paths: InstancePaths, fd: int, name: str = PROGRAM) -> None:
    """Pin it as `name` in one step; what had the name stays pinned as `program-ID` when it is the program."""
    unfinished = paths.pins / UNFINISHED
    unfinished.unlink(missing_ok=True)
    libbpf.obj_pin(fd, unfinished)
    if name == PROGRAM:
        _retire(paths.pins / PROGRAM)
    unfinished.rename(paths.pins / name)


def _retire(program: Path) -> None:
    with suppress(FileNotFoundError), libbpf.opened(program) as fd:
        retired = program.with_name(f"{RETIRED}{libbpf.prog_info(fd).id}")
        with suppress(FileExistsError):
            retired.hardlink_to(program)


def remove_tree(directory: Path) -> None:
    """Pins and directories, as far as they are there."""
    for path in directory.iterdir() if directory.is_dir() else ():
        if path.is_dir():
            remove_tree(path)
        else:
            path.unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        directory.rmdir()
