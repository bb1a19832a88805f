# SPDX-License-Identifier: Apache-2.0
"""Runs a program with the least privileges, and ends all processes that it leaves behind.

    python -I -S sandbox.py COMMAND [ARGUMENT...]

The program has no capabilities and cannot get any; only IP sockets, so that it cannot be taken for the daemon
on a unix socket; no tracing of other processes and no loading of BPF programs (seccomp). The director's files
are hidden from it, and it can write to /tmp only (Landlock, if the kernel has it: see `landlock()`). From
Linux 6.12 it can signal only its own descendants. Its descendants end with it, in whatever session: this
process adopts them (PR_SET_CHILD_SUBREAPER). SIGTERM ends all. The exit status is the program's own, also for
a signal; 126: not executable.

Run as a file: it imports nothing of the package, so that it starts fast.
"""

from __future__ import annotations

import ctypes as ct  # noqa: TID251 (it imports nothing of the package, libbpf included)
import os
import resource
import signal
import stat
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from types import FrameType
from typing import NoReturn

HIDDEN = ("/run/xdpdirector", "/var/lib/xdpdirector", "/etc/xdpdirector", "/sys/fs/bpf")
WRITABLE = ("/tmp", "/dev/null", "/dev/zero", "/dev/full", "/dev/tty")
NOT_EXECUTABLE = 126

_SET_NO_NEW_PRIVS, _SET_SUBREAPER, _SET_SECCOMP, _FILTER, _CAP_DROP, _AMBIENT, _CLEAR_ALL = (
    38,
    36,
    22,
    2,
    24,
    47,
    4,
)
_CAPSET = {"x86_64": 126, "aarch64": 91}
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on all architectures
_VERSION, _PATH_BENEATH = 1, 1

# linux/landlock.h; what came with which version
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = (1 << bit for bit in range(4))
_ALL_OF = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_TRUNCATE, _DEVICE_IOCTL = 1 << 14, 1 << 15
_SCOPES = 3  # abstract unix sockets, signals
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _DEVICE_IOCTL

# linux/seccomp.h, linux/filter.h, linux/audit.h
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 1  # EPERM
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SOCKET = {"x86_64": 41, "aarch64": 198}
_X32 = 0x40000000
_FAMILIES = (2, 10, 16)  # AF_INET, AF_INET6; AF_NETLINK, with which libraries read addresses
# bpf, ptrace, process_vm_readv, process_vm_writev, perf_event_open, setns, unshare, mount, keyctl, add_key,
# io_uring_setup (which can create sockets), pidfd_getfd
_REFUSED = {
    "x86_64": (321, 101, 310, 311, 298, 308, 272, 165, 250, 248, 425, 438),
    "aarch64": (280, 117, 270, 271, 241, 268, 97, 40, 219, 217, 425, 438),
}

_libc = ct.CDLL(None, use_errno=True)


def landlock() -> int:
    """The kernel's Landlock ABI version; 0 for none."""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, ct.c_size_t(0), _VERSION)))


def main() -> int:
    command = sys.argv[1:]
    _drop_capabilities()
    _done(_libc.prctl(_SET_SUBREAPER, 1, 0, 0, 0), "adopting what it leaves")
    signal.signal(signal.SIGTERM, _end)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    program = os.fork()
    if program == 0:
        _become(command)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    while True:
        ended, status = os.waitpid(-1, 0)  # adopted orphans are reaped, too
        if ended == program:
            break
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    _kill_all()
    if os.WIFSIGNALED(status):
        _end_by(os.WTERMSIG(status))
    return os.waitstatus_to_exitcode(status)


def _become(command: list[str]) -> NoReturn:
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # ignored by Python
            signal.signal(number, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.umask(0o077)
        _hide_files(command[0])
        _filter_calls()
        os.execv(command[0], command)
    except BaseException as error:
        os.write(2, f"{command[0]} cannot be run: {getattr(error, 'strerror', None) or error}\n".encode())
    os._exit(NOT_EXECUTABLE)


def _end(_number: int, _frame: FrameType | None) -> None:
    _kill_all()
    _end_by(signal.SIGTERM)


def _end_by(number: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)


def _kill_all() -> None:
    """Kill all descendants: orphans of killed processes become our children."""
    if os.readlink("/proc/self") != str(os.getpid()):  # noqa: PTH115
        return  # /proc is another PID namespace's, with other pids; our process group is killed later
    with suppress(ChildProcessError):
        while True:
            for child in _children():
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            os.waitpid(-1, 0)


def _children() -> list[int]:
    own = os.getpid()
    with suppress(FileNotFoundError):  # a kernel without CONFIG_PROC_CHILDREN
        return [int(number) for number in _text(f"/proc/self/task/{own}/children").split()]
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and _parent(name) == own]  # noqa: PTH208


def _parent(process: str) -> int:
    try:
        return int(_text(f"/proc/{process}/stat").rpartition(") ")[2].split()[1])
    except (OSError, IndexError):
        return 0


def _text(path: str) -> str:
    with open(path, errors="replace") as file:  # noqa: PTH123 (pathlib takes long to import)
        return file.read()


# Capabilities


def _drop_capabilities() -> None:
    for number in range(64):  # what cannot be dropped here is cleared below: only root regains it
        _libc.prctl(_CAP_DROP, number, 0, 0, 0)
    _libc.prctl(_AMBIENT, _CLEAR_ALL, 0, 0, 0)
    header, none = struct.pack("=Ii", 0x20080522, 0), bytes(24)
    if number := _CAPSET.get(os.uname().machine, 0):
        _done(_libc.syscall(number, header, none), "giving up capabilities")
    _done(_libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "renouncing privileges")


# Files


def _hide_files(program: str) -> None:
    version = landlock()
    if not version:
        return
    handled = _ALL_OF[max(known for known in _ALL_OF if known <= version)]
    rules = struct.pack("=QQQ", handled, 0, _SCOPES if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = _done(_libc.syscall(_CREATE_RULESET, rules, ct.c_size_t(size), 0), "hiding files")
    reading = _EXECUTE | _READ_FILE | _READ_DIR
    for path in (*_visible("/", _real(HIDDEN)), *_of_program(program)):
        _allow(ruleset, path, reading)
    for path in WRITABLE:
        _allow(ruleset, path, handled & ~(_EXECUTE if path.startswith("/dev") else 0))
    _done(_libc.syscall(_RESTRICT_SELF, ruleset, 0), "hiding files")
    os.close(ruleset)


def _real(paths: tuple[str, ...]) -> list[str]:
    return [os.path.realpath(path) for path in paths]


def _visible(path: str, hidden: list[str]) -> Iterator[str]:
    """The directories that stay readable: everything but the hidden ones, in as few trees as possible."""
    if path in hidden:
        return
    above = path.rstrip("/") + "/"
    if not any(each.startswith(above) for each in hidden):
        yield path
        return
    with suppress(OSError), os.scandir(path) as entries:
        for entry in entries:
            if not entry.is_symlink():  # the target of a symlink has its own rule
                yield from _visible(above + entry.name, hidden)


def _of_program(program: str) -> Iterator[str]:
    """The program's directory, which may be below a hidden one, so that it can read its own files."""
    real = os.path.realpath(program)
    yield real
    if os.path.dirname(real) not in _real(HIDDEN):  # noqa: PTH120
        yield os.path.dirname(real)  # noqa: PTH120


def _allow(ruleset: int, path: str, access: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # removed meanwhile, or not readable for us anyway
        return
    if not stat.S_ISDIR(os.fstat(place).st_mode):
        access &= _OF_FILES
    _done(
        _libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", access, place), 0),
        f"showing {path}",
    )
    os.close(place)


# System calls


def _filter_calls() -> None:
    machine = os.uname().machine
    if machine not in _ARCHITECTURES:
        return
    tests = [(_LOAD, 0, 0, _ARCHITECTURE), *_unless(_EQUAL, _ARCHITECTURES[machine]), (_LOAD, 0, 0, _NUMBER)]
    tests += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _REFUSE)]
    for number in _REFUSED[machine]:
        tests += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE)]
    tests += [(_EQUAL, 1, 0, _SOCKET[machine]), (_RETURN, 0, 0, _ALLOW), (_LOAD, 0, 0, _FIRST_ARGUMENT)]
    for family in _FAMILIES:
        tests += [(_EQUAL, 0, 1, family), (_RETURN, 0, 0, _ALLOW)]
    tests += [(_RETURN, 0, 0, _REFUSE)]
    text = b"".join(struct.pack("=HBBI", *each) for each in tests)
    program = ct.create_string_buffer(text)
    head = struct.pack("@HP", len(tests), ct.addressof(program))
    _done(_libc.prctl(_SET_SECCOMP, _FILTER, ct.c_char_p(head), 0, 0), "filtering system calls")


def _unless(comparison: int, value: int) -> list[tuple[int, int, int, int]]:
    return [(comparison, 1, 0, value), (_RETURN, 0, 0, _REFUSE)]


def _done(result: int, what: str) -> int:
    if result < 0:
        raise OSError(ct.get_errno(), f"{what}: {os.strerror(ct.get_errno())}")
    return result


if __name__ == "__main__":
    sys.exit(main())
