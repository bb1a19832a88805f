# SPDX-License-Identifier: Apache-2.0
"""What loading requires: privileges, a bpffs, a lock against other loaders, and an instance's pins.

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

from xdpdirector import libbpf
from xdpdirector.errors import ConflictError, InvalidRequestError, LoaderError, NotAllowedError
from xdpdirector.paths import BPFFS, InstancePaths
from xdpdirector.system import privileges, procfs, untrusted_directory

PROGRAM = "program"
UNFINISHED = "program-new"
RETIRED = "program-"
MAPS = "maps-"
EXPLAINING = "explain-"
LOCK_PATIENCE = 120.0
OLDEST_KERNEL, TRIED_KERNEL = (5, 18), (6, 1)  # bpf_xdp_load_bytes, BPF_F_XDP_HAS_FRAGS

_REMEDY = "run as root, or give CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
_DIRECTORY_MODE = 0o700


def require_kernel(release: str | None = None) -> None:
    """Raise LoaderError on a kernel that is too old. `release`: as from `uname -r`."""
    release = release or os.uname().release
    if kernel_version(release) < OLDEST_KERNEL:
        oldest, tried = (".".join(map(str, each)) for each in (OLDEST_KERNEL, TRIED_KERNEL))
        raise LoaderError(
            f"use Linux {oldest} or newer ({tried} and 6.18 are tested): this is Linux {release}, which is too old "
            "for the packet program"
        )


def kernel_version(release: str) -> tuple[int, int]:
    """The first two numbers of a kernel release."""
    major, minor = (int("".join(filter(str.isdigit, part)) or 0) for part in f"{release}.0".split(".")[:2])
    return major, minor


def require_privileges(*, adopting: bool = False) -> None:
    """Raise NotAllowedError unless this process may load a program and attach it. `adopting`: with maps that
    are pinned already."""
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
    """Translate OSError to NotAllowedError or LoaderError: `what` failed."""
    try:
        yield
    except PermissionError as error:
        raise NotAllowedError(f"{what} is not allowed ({error}): {_REMEDY}") from error
    except OSError as error:
        raise LoaderError(f"{what} failed: {error}") from error


def ensure_mounted() -> None:
    """Mount a bpffs at /sys/fs/bpf if there is none.

    Not in a private mount namespace of another process, as `ip netns exec` makes it: the pins would end with
    it. LoaderError, NotAllowedError.
    """
    if is_mounted():
        return
    if above := _process_elsewhere():
        raise LoaderError(
            f"run `mount -t bpf bpf {BPFFS}` in this mount namespace, or, if `ip netns exec NAME` made it, enter "
            f"by `nsenter --net=/run/netns/NAME` instead: no bpffs is mounted on {BPFFS} here, and {above}, from "
            "which this command descends, has another mount namespace. The pins on a bpffs that is mounted only "
            "here end with this mount namespace, so the loader mounts none by itself"
        )
    mount()


def mount() -> None:
    """Mount a bpffs at /sys/fs/bpf, in this mount namespace. LoaderError, NotAllowedError."""
    if not BPFFS.is_dir():
        raise LoaderError(
            f"run `mount -t sysfs sysfs /sys`, or use a kernel with CONFIG_BPF_SYSCALL: there is no {BPFFS}, on "
            f"which a bpffs could be mounted, and /sys is {'mounted' if Path('/sys/kernel').is_dir() else 'empty'}"
        )
    try:
        done = subprocess.run(
            ["mount", "-t", "bpf", "bpf", str(BPFFS)], capture_output=True, text=True, check=False
        )
        said = done.stderr.strip()
    except OSError as error:
        said = str(error)
    if not is_mounted():
        raise NotAllowedError(
            f"run `mount -t bpf bpf {BPFFS}` as root of the machine or in a container that may mount: no bpffs is "
            f"mounted on {BPFFS}, and mounting one failed: {said}"
        )


def is_mounted() -> bool:
    """True if a bpffs is visible at /sys/fs/bpf."""
    try:
        device = BPFFS.stat().st_dev
    except OSError:
        return False
    number = f"{os.major(device)}:{os.minor(device)}"
    lines = (line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return any(fields[2] == number and fields[fields.index("-") + 1] == "bpf" for fields in lines)


def _process_elsewhere() -> str | None:
    """The nearest ancestor process in another mount namespace: its command and pid.

    The search ends at a process that we may not inspect. Uses the pids of /proc, which may be of another PID
    namespace.
    """
    mine, above = procfs.PROC / "self/ns/mnt", _parent(procfs.PROC / "self")
    while above:
        try:
            if not (above / "ns/mnt").samefile(mine):
                return f"{(above / 'comm').read_text().strip()} (process {above.name})"
            above = _parent(above)
        except OSError:
            return None
    return None


def _parent(process: Path) -> Path | None:
    status = (process / "status").read_text(errors="replace")
    number = next(line.split()[1] for line in status.splitlines() if line.startswith("PPid:"))
    return procfs.PROC / number if number != "0" else None


@contextmanager
def locked(paths: InstancePaths) -> Iterator[None]:
    """Hold the loader lock. ConflictError if another loader holds it for more than two minutes."""
    with translated(f"making {paths.run}"), untrusted_directory.directory(paths.run, make=True):
        pass
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
    """A locked descriptor of the file that has this name now: an unload may have removed the one we opened."""
    with translated(f"opening {path}"), untrusted_directory.opened(path, os.O_RDWR | os.O_CREAT) as fd:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        return os.dup(fd) if untrusted_directory.is_the_one(path, fd) else None


def make_directory(path: Path) -> None:
    """Make a directory on the bpffs, for root only."""
    with translated(f"making {path}"):
        path.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)


def pinned_programs(paths: InstancePaths) -> dict[int, Path]:
    """By program id: the prepared program, and retired ones that may still be attached."""
    programs = {}
    for path in [paths.pins / PROGRAM, *paths.pins.glob(f"{RETIRED}*")]:
        with suppress(FileNotFoundError), libbpf.opened(path) as fd:
            programs[libbpf.prog_info(fd).id] = path
    return programs


def instance_of(program_id: int) -> str | None:
    """The instance on this machine that the program belongs to, by its pins; None if there is no visible pin."""
    for directory in sorted((BPFFS / "xdpdirector").glob("*/")):
        with suppress(InvalidRequestError, OSError):
            if program_id in pinned_programs(InstancePaths(directory.name)):
                return directory.name
    return None


def open_program(paths: InstancePaths, program_id: int) -> int:
    """A descriptor, through its pin if it has one: by id needs CAP_SYS_ADMIN."""
    pin = pinned_programs(paths).get(program_id)
    return libbpf.obj_get(pin) if pin else libbpf.prog_fd(program_id)


def pin_program(paths: InstancePaths, fd: int, name: str = PROGRAM) -> None:
    """Pin it as `name`, atomically. A previous `program` stays pinned as `program-ID`."""
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
    """Remove pins and directories, as far as they exist."""
    for path in directory.iterdir() if directory.is_dir() else ():
        if path.is_dir():
            remove_tree(path)
        else:
            path.unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        directory.rmdir()
