# SPDX-License-Identifier: Apache-2.0
"""Who has root's terminal cannot type root's commands into it."""

import os
import pty
import sys

import pytest

PROGRAM = """
import fcntl, os, subprocess, sys, termios
from xdpdirector.system import terminal

def attempt(request, argument):
    try:
        fcntl.ioctl(0, request, argument)
        return "typed"
    except OSError as error:
        return error.strerror

terminal.forbid_typing()
os.setuid(65534)
type_it = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSTI, b'y')"
child = subprocess.run([sys.executable, "-c", type_it], capture_output=True, text=True)
print(attempt(termios.TIOCSTI, b"x"), attempt(0x541C, b"\\3"), sep=", ")
print("Operation not permitted" in child.stderr, attempt(termios.TIOCGWINSZ, bytes(8)))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="a filter without no_new_privs needs root")
def test_nothing_is_typed_into_roots_terminal() -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", PROGRAM])
    said = b""
    try:
        while piece := os.read(terminal, 4096):
            said += piece
    except OSError:  # EIO: the other side is closed
        pass
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)

    assert said.decode().split("\r\n")[:2] == [
        "Operation not permitted, Operation not permitted",
        "True typed",
    ], said
