# SPDX-License-Identifier: Apache-2.0
"""Limits of connections: by user, by address and in all, with a reserve for root and administrators.

Over TCP a client is unauthenticated until its first request. Unauthenticated connections have a limit of their
own; beyond it the oldest of them is closed for a new one. Over the unix socket the kernel names the user. Knows
neither sockets nor requests.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from xdpdirector.api.auth.identity import Peer, client_key
from xdpdirector.errors import OverloadedError

ROOT = 0


@dataclass(frozen=True)
class ConnectionLimits:
    """Over TCP: `tcp` authenticated connections, and `reserved` more of administrators; `unauthenticated` ones;
    `address` from one address (IPv6: one /64). Over the unix socket: `unix` of all users but root, `user` of one
    of them, and again `unix` of root."""

    tcp: int = 128
    address: int = 32
    unauthenticated: int = 64
    unix: int = 256
    user: int = 128
    reserved: int = 32


class AdmittedConnection:
    """One connection that was accepted."""

    def __init__(self, counts: ConnectionCounts, peer: Peer) -> None:
        self._counts, self.peer = counts, peer
        self.is_authenticated = peer.uid is not None
        self.is_open = True
        self.abort: Callable[[], None] = _nothing
        """Closes the connection, while it is open."""

    def authenticated(self, *, privileged: bool) -> None:
        """The client is authenticated. OverloadedError when there are too many such connections."""
        self._counts.authenticated(self, privileged)

    def leave(self) -> None:
        """Can be called twice."""
        if self.is_open:
            self.is_open = False
            self.abort = _nothing  # refers to the connection, which refers to this
            self._counts.forget(self)


class ConnectionCounts:
    """Counts open connections."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits, self._known = limits, 0
        self._by_client = Counter[str]()
        self._unauthenticated: OrderedDict[AdmittedConnection, None] = OrderedDict()

    def refusal(self, peer: Peer) -> str:
        """Why this connection is refused; empty when it is accepted."""
        client = client_key(peer)
        if peer.uid == ROOT:
            return f"{self._limits.unix} connections of root are open" * (
                self._by_client[client] >= self._limits.unix
            )
        if peer.uid is not None:
            if self._by_client[client] >= self._limits.user:
                return f"{self._limits.user} connections of {client} are open on the socket"
            others = sum(count for name, count in self._by_client.items() if name.startswith("uid "))
            others -= self._by_client[f"uid {ROOT}"]
            return f"{self._limits.unix} connections are open on the socket" * (others >= self._limits.unix)
        if self._by_client[client] >= self._limits.address:
            return f"{self._limits.address} connections from {client} are open"
        return ""

    def enter(self, peer: Peer) -> AdmittedConnection:
        """Count a connection; the oldest unauthenticated one is aborted if there are too many."""
        admitted = AdmittedConnection(self, peer)
        self._by_client[client_key(peer)] += 1
        if not admitted.is_authenticated:
            while len(self._unauthenticated) >= self._limits.unauthenticated:
                oldest = next(iter(self._unauthenticated))
                oldest.abort()
                oldest.leave()
            self._unauthenticated[admitted] = None
        return admitted

    def authenticated(self, admitted: AdmittedConnection, privileged: bool) -> None:
        most = self._limits.tcp + (self._limits.reserved if privileged else 0)
        if self._known >= most:
            raise OverloadedError(
                f"{self._known} connections are open: close some of them, or come back later."
            )
        if admitted.is_open:
            self._unauthenticated.pop(admitted, None)
            admitted.is_authenticated = True
            self._known += 1

    def forget(self, admitted: AdmittedConnection) -> None:
        client = client_key(admitted.peer)
        self._by_client[client] -= 1
        if not self._by_client[client]:
            del self._by_client[client]
        if admitted.peer.uid is None and admitted.is_authenticated:
            self._known -= 1
        self._unauthenticated.pop(admitted, None)


def _nothing() -> None:
    """There is nothing to close."""
