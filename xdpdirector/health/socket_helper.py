# SPDX-License-Identifier: Apache-2.0
"""Two processes in a network namespace of their own that make sockets there and pass them on.

Making a namespace takes CAP_SYS_ADMIN, which the daemon's user does not have. So root, before it switches to
that user, starts this in a new namespace and keeps a channel to it: whoever has the channel gets sockets of
the namespace. `python -m xdpdirector.health.socket_helper CHANNEL NAME=VALUE...`. systemd can start it for
each connection instead: xdpdirector-checks@.service.

Either process survives the other: one serves, the other waits for its end and then starts another one in the
same namespace; when the waiting one ends, the serving one takes its place and starts another one to serve.
Both end when the channel is closed, and the namespace with them.

Requests and answers are numbered, so that a late answer is not taken for another one. Answer 0 says which
process serves; it is sent at the start and on request, with descriptors of the namespace and of the process
(pidfd).

Knows socket types, and settings below /proc/sys/net; nothing of checks.
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
"""Number, error (errno, 0 for none); for number 0: pids of the serving process and its parent."""
SERVING = 0
AGAIN = 0.1  # seconds until the next process is started to serve, so that one that fails at once costs little


def serve(channel: socket.socket, parent: int | None = None) -> bool:
    """Answer requests until the channel is closed (True), or until `parent`, a pipe, is closed (False)."""
    try:
        _say_who(channel)
        poll = select.poll()
        poll.register(channel, select.POLLIN)
        if parent is not None:
            poll.register(parent, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if channel.fileno() not in ready:
                return False
            if not (request := channel.recv(REQUEST.size)):
                return True
            _answer(channel, request)
    except OSError:  # the other end is closed
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
    """Keep a serving process running until the channel is closed."""
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
            continue  # the waiting process has ended
        os.close(alive)
        _, status = os.waitpid(process, 0)
        os.close(until)
        if status == 0:
            return
        time.sleep(max(0.0, begun + AGAIN - time.monotonic()))


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the daemon
    for setting in sys.argv[2:]:
        name, _, value = setting.partition("=")
        Path("/proc/sys/net", name).write_text(value)
    with socket.socket(fileno=int(sys.argv[1])) as channel:
        keep(channel)
    return 0


if __name__ == "__main__":
    sys.exit(main())
