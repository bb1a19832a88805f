# SPDX-License-Identifier: Apache-2.0
"""Root drops its privileges: it executes itself as the daemon's user, and leaves that user a socket helper.

The program is loaded before. The helper (`xdpdirector.health.socket_helper`) holds the network namespace of the
checks.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import NoReturn

from xdpdirector.errors import NotAllowedError
from xdpdirector.health.check_namespace import SETTINGS, Enter, own_namespace
from xdpdirector.health.socket_client import Helper
from xdpdirector.system import privileges, terminal
from xdpdirector.system.privileges import Account

CHANNEL = "XDPDIRECTOR_CHECKS"
"""Environment: the descriptor of the channel to the socket helper."""
GIVER = Path("/run/xdpdirector/checks.sock")
"""Where systemd starts a socket helper for each connection (xdpdirector-checks.socket); root starts none then."""


def become(account: Account, groups: Collection[str] = ()) -> NoReturn:
    """Run this command once more, as that user with the daemon's capabilities, in the same process.

    `groups`: names, besides its own.
    """
    terminal.forbid_typing()
    channel = _start_giver(account)
    os.environ[CHANNEL] = str(channel.fileno())
    line = [*privileges.as_user(account, privileges.DAEMON, groups), sys.executable, *sys.orig_argv[1:]]
    os.execv(line[0], line)


def namespace(giver: Path = GIVER) -> Enter:
    """How to enter the checks' namespace: through the socket helper that root left, through the one at the path
    `giver`, or in a new namespace."""
    number = os.environ.pop(CHANNEL, None)
    if number is not None:
        channels = [socket.socket(fileno=int(number))]
        channels[0].set_inheritable(False)
        return Helper(lambda: _only_once(channels)).enter
    if "CAP_SYS_ADMIN" not in privileges.held() and giver.is_socket():
        return Helper(lambda: called(giver)).enter
    return own_namespace


def _only_once(channels: list[socket.socket]) -> socket.socket:
    if not channels:
        raise OSError(
            errno.ECONNRESET,
            "both processes that make the checks' sockets are gone, and only root could start others: restart the "
            "daemon, which packets do not notice",
        )
    return channels.pop()


def called(giver: Path) -> socket.socket:
    """Our end of a channel to a new socket helper. OSError when there is none."""
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    try:
        channel.connect(str(giver))
    except BaseException:
        channel.close()
        raise
    return channel


def _start_giver(account: Account) -> socket.socket:
    """Our end of the channel. It has the daemon's capabilities: sockets carry the rights of who made
    them, and `sctp` checks need raw ones."""
    unshare = shutil.which("unshare")
    if unshare is None:
        raise NotAllowedError("the command unshare is missing: `apt install util-linux`")
    search = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.set_inheritable(True)
    with theirs:
        subprocess.Popen(
            [
                *(unshare, "--net", "--"),
                *privileges.as_user(account, privileges.DAEMON),
                *(sys.executable, "-m", "xdpdirector.health.socket_helper", str(theirs.fileno())),
                *(f"{name}={value}" for name, value in SETTINGS.items()),
            ],
            env=os.environ | {"PYTHONPATH": search, "PYTHONSAFEPATH": "1"},  # not from where root stands now
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
    return ours
