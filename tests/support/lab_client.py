# SPDX-License-Identifier: Apache-2.0
"""What a client of a lab does: TCP with HTTP on it, and datagrams, from inside this process.

A socket belongs to the network namespace that its thread was in when it was made, so a throw-away thread makes
it there and the test holds it. Knows hosts and addresses; nothing of directors.
"""

import os
import socket
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from typing import Self, TypeVar

from pyroute2 import netns

from xdpdirector.lab.host import Host
from xdpdirector.lab.waiting import wait_until
from xdpdirector.model import Address

T = TypeVar("T")

PATIENCE = 5.0


def call_on(host: Host, function: Callable[[], T]) -> T:
    """What the function returns in the network namespace of a host."""

    def entered() -> T:
        netns.setns(str(host.node.namespace_path), flags=os.O_RDONLY)
        return function()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(entered).result()


def socket_on(host: Host, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """A socket in the network namespace of a host."""
    return call_on(host, lambda: socket.socket(family, kind, protocol))


def family_of(address: Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def connected(
    host: Host,
    kind: int,
    address: Address,
    port: int,
    timeout: float,
    source: str = "",
    source_port: int = 0,
) -> socket.socket:
    """Connected, or the OSError that says why not. `source`: which of the host's addresses it comes from."""
    made = socket_on(host, family_of(address), kind)
    try:
        made.settimeout(timeout)
        if source or source_port:
            made.bind((source, source_port))
        made.connect((str(address), port))
    except BaseException:
        made.close()
        raise
    return made


class Conversation:
    """One TCP connection that is never opened a second time. `backend` is who answered first."""

    def __init__(
        self,
        host: Host,
        address: Address,
        port: int = 80,
        *,
        timeout: float = PATIENCE,
        source: str = "",
        source_port: int = 0,
    ) -> None:
        self._socket = connected(host, socket.SOCK_STREAM, address, port, timeout, source, source_port)
        self.http = HTTPConnection("lab", port)
        self.http.sock, self.http.auto_open = self._socket, 0
        try:
            self.backend = self.who()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, path: str) -> HTTPResponse:
        self.http.request("GET", path)
        return self.http.getresponse()

    def who(self) -> str:
        """The name of the backend that answers."""
        return self.ask("/who").read().decode().strip()

    def patience(self, timeout: float) -> None:
        """How long to wait for an answer from now on."""
        self._socket.settimeout(timeout)

    def hang_up(self) -> None:
        """Close both directions, also under a thread that waits in one of them."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def close(self) -> None:
        self.http.close()
        self._socket.close()


def answering(host: Host, address: Address, port: int = 80, *, timeout: float = PATIENCE) -> str:
    """Who answers a new connection."""
    with Conversation(host, address, port, timeout=timeout) as conversation:
        return conversation.backend


def await_each(names: Collection[str], ask: Callable[[], str | None], timeout: float = PATIENCE) -> None:
    """Ask again and again until each of these backends has answered. `ask`: who answered, None for no answer; an
    answer of somebody else fails."""
    seen = set[str]()

    def all_answered() -> bool:
        answer = ask()
        if answer is not None:
            assert answer in names
            seen.add(answer)
        return seen == set(names)

    wait_until(all_answered, f"an answer from each of {sorted(names)}", timeout)


@contextmanager
def datagrams(host: Host, address: Address, port: int) -> Iterator[socket.socket]:
    """A UDP socket that talks to one address."""
    with connected(host, socket.SOCK_DGRAM, address, port, PATIENCE) as opened:
        yield opened


def echoed(opened: socket.socket, message: bytes) -> str:
    """Who echoes the message."""
    opened.send(message)
    name, _, text = opened.recv(65535).partition(b" ")
    assert text == message
    return name.decode()
