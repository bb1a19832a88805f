# SPDX-License-Identifier: Apache-2.0
"""Processes that live in a network namespace of its own and give sockets of it away.

Making a namespace takes CAP_SYS_ADMIN, which the daemon's user has not. So root, before it becomes that user,
starts this in a new one and keeps a channel to it: whoever has the channel gets sockets that belong there.
`python -m xdpdirector.health.socket_helper CHANNEL NAME=VALUE...`. systemd can do the same, for each that connects:
xdpdirector-checks@.service.

There are two processes, of which either survives the other: one serves, the other waits for its end and then starts
another one in the same namespace; when the one that waits ends, the one that serves takes its place and starts
another one to serve. Both go when the channel is closed, and the namespace with them.

A request has a number, and so has its answer: an answer that comes late is not taken for the next one's. Answer 0
says who serves; it comes at the beginning and when it is asked for, with the namespace and a pidfd.

Knows kinds of sockets, and settings below /proc/sys/net; nothing of checks.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import sys
import time
from pathlib import Path

REQUEST = struct.Struct("=Iiii")
"""Number, family, kind, protocol."""
ANSWER = struct.Struct("=Iiii")
"""Number, error (errno, 0 for none); with number 0: who serves, and its parent."""
SERVING = 0
AGAIN = 0.1  # seconds until the next one is started to serve, so that one that cannot live costs little


def serve(channel: socket.socket, parent: int | None = None) -> bool:
    """Answer until the other end is closed, or until `parent`, a pipe, is: whether it was the former."""
    try:
        _say_who(channel)
        poll = select.poll()
        for each in filter(None, (channel.fileno(), parent)):
            poll.register(each, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if channel.fileno() not in ready:
                return False
            if not (request := channel.recv(REQUEST.size)):
                return True
            _answer(channel, request)
    except OSError:  # the other end is gone
        return True


def _say_who(channel: socket.socket) -> None:
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    process = os.pidfd_open(os.getpid())
    socket.send_fds(channel, [ANSWER.pack(SERVING, 0, os.getpid(), os.getppid())], [own, process])
    os.close(own)
    os.close(process)


def _answer(channel: socket.socket, request: bytes) -> None:
    number, family, kind, protocol = REQUEST.unpack(request)
    if number == SERVING:
        _say_who(channel)
        return
    try:
        made = socket.socket(family, kind, protocol)
    except OSError as error:
        channel.send(ANSWER.pack(number, error.errno or 0, 0, 0))
        return
    with made:
        socket.send_fds(channel, [ANSWER.pack(number, 0, 0, 0)], [made.fileno()])


def keep(channel: socket.socket) -> None:
    """See that somebody serves, until the channel is closed."""
    while True:
        alive, until = os.pipe()
        begun = time.monotonic()
        process = os.fork()
        if process == 0:
            os.close(until)
            ended = serve(channel, alive)
            os.close(alive)
            if ended:
                os._exit(0)
            continue  # whoever waited for us is gone
        os.close(alive)
        _, status = os.waitpid(process, 0)
        os.close(until)
        if status == 0:
            return
        time.sleep(max(0.0, begun + AGAIN - time.monotonic()))


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal means the daemon
    for setting in sys.argv[2:]:
        name, _, value = setting.partition("=")
        Path("/proc/sys/net", name).write_text(value)
    with socket.socket(fileno=int(sys.argv[1])) as channel:
        keep(channel)
    return 0


if __name__ == "__main__":
    sys.exit(main())
