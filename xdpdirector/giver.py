# SPDX-License-Identifier: Apache-2.0
"""A process that lives in a network namespace of its own and gives sockets of it away.

Making a namespace takes CAP_SYS_ADMIN, which the daemon's user has not. So root, before it becomes that user,
starts this process in a new one and keeps a channel to it: whoever has the channel gets sockets that belong there.
It goes with the channel, the namespace with it. `python -m xdpdirector.giver CHANNEL NAME=VALUE...`. systemd can
do the same, one for each that connects: xdpdirector-checks@.service.

Knows kinds of sockets, and settings below /proc/sys/net; nothing of checks.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys
from pathlib import Path

PATIENCE = 2.0  # seconds
_REQUEST, _ANSWER = struct.Struct("=iii"), struct.Struct("=i")
_THE_NAMESPACE = _REQUEST.pack(socket.AF_UNSPEC, 0, 0)


class GivenNamespace:
    """The other end: a namespace that somebody else made. `fd`: its descriptor. OSError when the giver is gone."""

    def __init__(self, channel: socket.socket, patience: float = PATIENCE) -> None:
        """`patience`: seconds to wait for each answer."""
        self._channel = channel
        self._channel.settimeout(patience)
        self.fd = self._asked(_THE_NAMESPACE)

    def make(self, family: int, kind: int, protocol: int = 0, /) -> socket.socket:
        """As `socket.socket`, but in there."""
        made = socket.socket(fileno=self._asked(_REQUEST.pack(family, kind, protocol)))
        made.setblocking(not kind & socket.SOCK_NONBLOCK)
        return made

    def close(self) -> None:
        """The giver stays, for who asks next."""
        os.close(self.fd)

    def _asked(self, request: bytes) -> int:
        self._channel.send(request)
        answer, descriptors, _, _ = socket.recv_fds(self._channel, _ANSWER.size, 1)
        if not answer:
            raise ConnectionError("the process that makes the checks' sockets is gone: restart the daemon")
        if not descriptors:
            number = _ANSWER.unpack(answer)[0]
            raise OSError(number, os.strerror(number))
        os.set_inheritable(descriptors[0], False)
        return descriptors[0]


def give(channel: socket.socket) -> None:
    """Answer until the other end is closed."""
    while request := channel.recv(_REQUEST.size):
        try:
            made = _open(request)
        except OSError as error:
            channel.send(_ANSWER.pack(error.errno or 0))
            continue
        socket.send_fds(channel, [_ANSWER.pack(0)], [made])
        os.close(made)


def _open(request: bytes) -> int:
    if request == _THE_NAMESPACE:
        return os.open("/proc/self/ns/net", os.O_RDONLY)
    return socket.socket(*_REQUEST.unpack(request)).detach()


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal means the daemon
    for setting in sys.argv[2:]:
        name, _, value = setting.partition("=")
        Path("/proc/sys/net", name).write_text(value)
    with socket.socket(fileno=int(sys.argv[1])) as channel:
        give(channel)
    return 0


if __name__ == "__main__":
    sys.exit(main())
