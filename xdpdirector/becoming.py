# SPDX-License-Identifier: Apache-2.0
"""How root becomes the daemon's user, and what that user finds of what only root could make.

Loading is done before; what is left is the checks' network namespace, which a process of its own holds (`giver`).
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NoReturn

from xdpdirector import privileges
from xdpdirector.checknet import SETTINGS, Inside, own_namespace
from xdpdirector.errors import NotAllowedError
from xdpdirector.giver import GivenNamespace
from xdpdirector.privileges import Account

log = logging.getLogger(__name__)

CHANNEL = "XDPDIRECTOR_CHECKS"
"""Environment: the descriptor of the channel to the giver."""
GIVER = Path("/run/xdpdirector/checks.sock")
"""Where systemd starts a giver for who comes (xdpdirector-checks.socket), and root needs to start nothing."""
BIRTH = 30.0  # seconds until a giver answers for the first time


def become(account: Account, groups: Collection[str] = ()) -> NoReturn:
    """Run this command once more, as that user with the daemon's capabilities, in the same process.

    `groups`: names, besides its own.
    """
    channel = _start_giver(account)
    os.environ[CHANNEL] = str(channel.fileno())
    line = [*privileges.as_user(account, privileges.DAEMON, groups), sys.executable, *sys.orig_argv[1:]]
    os.execv(line[0], line)


def namespace(giver: Path = GIVER) -> Callable[[], Inside]:
    """Where the checks' namespace comes from: from the giver that root left us, from one that `giver` leads to, or
    it is made anew."""
    number = os.environ.pop(CHANNEL, None)
    if number is not None:
        channel = socket.socket(fileno=int(number))
        channel.set_inheritable(False)
        return lambda: GivenNamespace(channel)
    if "CAP_SYS_ADMIN" not in privileges.held() and giver.is_socket():
        try:
            channel = called(giver)
        except OSError as error:
            log.warning("%s gives no sockets for checks: %s", giver, error.strerror or error)
        else:
            return lambda: GivenNamespace(channel)
    return own_namespace


def called(giver: Path) -> socket.socket:
    """Our end of a channel to a giver that is at work by then. OSError when there is none."""
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        channel.connect(str(giver))
        GivenNamespace(channel, BIRTH).close()
    except BaseException:
        channel.close()
        raise
    return channel


def _start_giver(account: Account) -> socket.socket:
    """Our end of the channel. It needs CAP_NET_ADMIN: sockets carry the rights of who made them."""
    unshare = shutil.which("unshare")
    if unshare is None:
        raise NotAllowedError("the command unshare is missing: `apt install util-linux`")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.set_inheritable(True)
    with theirs:
        subprocess.Popen(
            [
                *(unshare, "--net", "--"),
                *privileges.as_user(account, ["CAP_NET_ADMIN"]),
                *(sys.executable, "-m", "xdpdirector.giver", str(theirs.fileno())),
                *(f"{name}={value}" for name, value in SETTINGS.items()),
            ],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
    return ours
