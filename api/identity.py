# SPDX-License-Identifier: Apache-2.0
"""Who asks, and what that one may do. The kernel names who is on a unix socket, a token everybody else.

Knows no routes and no database: tokens are looked up behind a seam.
"""

from __future__ import annotations

import pwd
import socket
import struct
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_network
from typing import Protocol

from xdpdirector.accessspec import Role
from xdpdirector.errors import NotAuthenticatedError

_PEERCRED = struct.Struct("=iII")  # struct ucred, unix(7)
_SCHEME = "bearer "
_HOW = "send the header 'Authorization: Bearer TOKEN'; `xdpdirector token add` makes one"


@dataclass(frozen=True)
class Peer:
    """The other end of a connection: a process of this host (`uid`, `pid`), or an address and a port."""

    host: str = ""
    port: int = 0
    uid: int | None = None
    pid: int = 0

    @classmethod
    def of(cls, connection: socket.socket) -> Peer:
        """As the kernel says. OSError when the connection is gone already."""
        if connection.family == socket.AF_UNIX:
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
            pid, uid, _ = _PEERCRED.unpack(credentials)
            return cls(uid=uid, pid=pid)
        host, port, *_ = connection.getpeername()
        return cls(str(host), int(port))

    def __str__(self) -> str:
        if self.uid is not None:
            return f"uid {self.uid}, pid {self.pid}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Identity:
    """`name` stands beside changes: the user's name of a process, `token:NAME` of a token."""

    name: str
    role: Role
    peer: Peer
    has_token: bool = False


def whence(peer: Peer) -> str:
    """The user, or the address, of IPv6 its /64: one host has them all."""
    if peer.uid is not None:
        return f"uid {peer.uid}"
    if ":" in peer.host:
        return str(ip_network((peer.host.partition("%")[0], 64), strict=False))
    return peer.host


class Known(Protocol):
    """What a valid token says."""

    @property
    def name(self) -> str: ...

    @property
    def role(self) -> Role: ...


class TokenBook(Protocol):
    def find(self, text: str) -> Known | None:
        """The token of that text, if there is one and it is valid now; StoreError when nobody can tell."""


def identify(peer: Peer, authorization: str | None, tokens: TokenBook, role: Role) -> Identity:
    """A token counts wherever it comes from. `role` is that of users on the unix socket; root may do everything.

    NotAuthenticatedError when nobody can be named.
    """
    if authorization is not None:
        return _by_token(peer, authorization, tokens)
    if peer.uid is None:
        raise NotAuthenticatedError(f"A token is needed: {_HOW}.")
    return Identity(user_name(peer.uid), Role.ADMIN if peer.uid == 0 else role, peer)


def _by_token(peer: Peer, authorization: str, tokens: TokenBook) -> Identity:
    if not authorization.lower().startswith(_SCHEME):
        raise NotAuthenticatedError(f"Only tokens are known here: {_HOW}.")
    token = tokens.find(authorization[len(_SCHEME) :].strip())
    if token is None:
        raise NotAuthenticatedError(
            "The token is not valid: it was removed, has expired, or is not complete. "
            "`xdpdirector token list` shows which there are."
        )
    return Identity(f"token:{token.name}", token.role, peer, has_token=True)


@lru_cache(maxsize=256)
def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
