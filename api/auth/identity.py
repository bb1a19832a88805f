# SPDX-License-Identifier: Apache-2.0
"""Who asks, and what that one may do. The kernel names who is on a unix socket, a token or a session
everybody else.

Knows no routes and no database: tokens are looked up behind a seam.
"""

from __future__ import annotations

import pwd
import socket
import struct
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from ipaddress import ip_network
from typing import Protocol

from xdpdirector.errors import NotAuthenticatedError
from xdpdirector.model.access import Role
from xdpdirector.storage.sessions import Holder, Session

_PEERCRED = struct.Struct("=iII")  # struct ucred, unix(7)
_SCHEME = "bearer "
_HOW = "send the header 'Authorization: Bearer TOKEN'; `xdpdirector token add` makes one"


@dataclass(frozen=True)
class Peer:
    """The other end of a connection: a process of this host (`uid`, `pid`), or an address and a port. `relay`: the
    local process that forwards the connection; its rights do not count."""

    host: str = ""
    port: int = 0
    uid: int | None = None
    pid: int = 0
    relay: str = ""

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
        address = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        return f"{address} by {self.relay}" if self.relay else address


@dataclass(frozen=True)
class Identity:
    """`name` stands beside changes: the user's name of a process, `token:NAME` of a token. `can_end`: what lets it
    in can be taken away while a request is answered. `session`: the id of the session that it asks with; `holder`:
    who a session of its own would stand for."""

    name: str
    role: Role
    peer: Peer
    can_end: bool = False
    session: str = ""
    holder: Holder | None = None

    @property
    def source(self) -> str:
        """Where it asks from, for the audit."""
        return f"{self.peer}, session {self.session}" if self.session else str(self.peer)


def client_key(peer: Peer) -> str:
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

    @property
    def created(self) -> datetime: ...


class TokenBook(Protocol):
    def find(self, text: str) -> Known | None:
        """The token of that text, if there is one and it is valid now; StoreError if the store cannot be read."""


class SessionTokens(Protocol):
    def of_session(self, name: str, created: datetime) -> Known | None:
        """The token of that name that was made then, if it is valid now; StoreError if the store cannot be read."""


class SessionBook(Protocol):
    def find(self, text: str) -> Session | None:
        """The session of that text, if it is one now; StoreError if the store cannot be read."""


def identify(peer: Peer, authorization: str | None, tokens: TokenBook, role: Role) -> Identity:
    """A token counts wherever it comes from. `role` is that of users on the unix socket; root may do everything.

    NotAuthenticatedError if the client cannot be identified.
    """
    if authorization is not None:
        return _by_token(peer, authorization, tokens)
    if peer.uid is None:
        raise NotAuthenticatedError(f"A token is needed: {_HOW}.")
    name = user_name(peer.uid)
    return Identity(name, _of_user(peer.uid, role), peer, holder=Holder(name, role, uid=peer.uid))


def identify_session(
    peer: Peer, cookie: str, sessions: SessionBook, tokens: SessionTokens, role: Role
) -> Identity | None:
    """Who a session stands for, with what that one may do now; None when it is over."""
    session = sessions.find(cookie)
    if session is None:
        return None
    holder, public = session.holder, session.view.id
    if holder.uid is not None:
        return Identity(holder.author, _of_user(holder.uid, role), peer, can_end=True, session=public)
    token = (
        tokens.of_session(holder.token, holder.token_created)
        if holder.token and holder.token_created
        else None
    )
    if token is None:
        return None
    return Identity(holder.author, token.role, peer, can_end=True, session=public)


def holder_of(token: Known) -> Holder:
    """Who a session stands for that is begun with this token."""
    return Holder(f"token:{token.name}", token.role, token=token.name, token_created=token.created)


def _of_user(uid: int, role: Role) -> Role:
    return Role.ADMIN if uid == 0 else role


def _by_token(peer: Peer, authorization: str, tokens: TokenBook) -> Identity:
    if not authorization.lower().startswith(_SCHEME):
        raise NotAuthenticatedError(f"Only tokens are known here: {_HOW}.")
    token = tokens.find(authorization[len(_SCHEME) :].strip())
    if token is None:
        raise NotAuthenticatedError(
            "The token is not valid: it was removed, has expired, or is not complete. "
            "`xdpdirector token list` shows which there are."
        )
    holder = holder_of(token)
    return Identity(holder.author, token.role, peer, can_end=True, holder=holder)


@lru_cache(maxsize=256)
def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
