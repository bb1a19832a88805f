# SPDX-License-Identifier: Apache-2.0
"""The terminal in which root starts a process that then becomes another user.

Both have it, and who has a terminal could type into it (ioctl TIOCSTI): root's shell, which reads there next, would
take that for root's commands. Linux forbids it by itself from 6.2 on where `dev.tty.legacy_tiocsti` is 0. Knows no
users.
"""

from __future__ import annotations

import ctypes as ct
import os
import struct

TIOCSTI, TIOCLINUX = 0x5412, 0x541C  # types a character; pastes what is selected on a console
TERMINAL = "/dev/tty"

# linux/prctl.h, linux/seccomp.h, linux/filter.h, linux/audit.h
_SET_SECCOMP, _FILTER = 22, 2
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _SECOND_ARGUMENT = 0, 4, 24
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 1  # EPERM
_ARCHITECTURES = {"x86_64": (0xC000003E, 16), "aarch64": (0xC00000B7, 29)}
"""As audit knows it, and the number of ioctl."""
_X32 = 0x40000000


def forbid_typing() -> None:
    """This process and all that it starts can type into no terminal any more. OSError. Nothing is done without a
    terminal, or on another architecture."""
    machine = os.uname().machine
    if machine in _ARCHITECTURES and _has_terminal():
        _install(_program(*_ARCHITECTURES[machine]))


def _has_terminal() -> bool:
    try:
        os.close(os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _program(architecture: int, ioctl: int) -> list[tuple[int, int, int, int]]:
    """Calls of another architecture, which have other numbers, are refused."""
    tests = [(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _REFUSE)]
    tests += [(_LOAD, 0, 0, _NUMBER), (_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _REFUSE)]
    tests += [(_EQUAL, 1, 0, ioctl), (_RETURN, 0, 0, _ALLOW), (_LOAD, 0, 0, _SECOND_ARGUMENT)]
    for request in (TIOCSTI, TIOCLINUX):  # the kernel looks at the lower half alone
        tests += [(_EQUAL, 0, 1, request), (_RETURN, 0, 0, _REFUSE)]
    return [*tests, (_RETURN, 0, 0, _ALLOW)]


def _install(tests: list[tuple[int, int, int, int]]) -> None:
    program = ct.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in tests))
    head = struct.pack("@HP", len(tests), ct.addressof(program))
    libc = ct.CDLL(None, use_errno=True)
    if libc.prctl(_SET_SECCOMP, _FILTER, ct.c_char_p(head), 0, 0) < 0:
        number = ct.get_errno()
        raise OSError(number, f"forbidding to type into the terminal: {os.strerror(number)}")
