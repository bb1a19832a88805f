# SPDX-License-Identifier: Apache-2.0
"""The `mysql` check: a complete handshake as a user without a password, who need not exist.

Complete, because a server blocks the director's address after a hundred incomplete handshakes
(`max_connect_errors`). PyMySQL implements the protocol; it blocks, so it runs in a thread, on the socket
passed to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import pymysql
from pymysql.connections import Connection

from xdpdirector.health.checks import CheckFailed, Dial, Target
from xdpdirector.health.checks.excerpts import MOST, excerpt
from xdpdirector.health.checks.stream import LIMIT, channel
from xdpdirector.model.checks import CheckSpec, MysqlCheck

THREADS = 64
# Access denied: to the database, with this password, with this plugin. Only a working server says so.
_ALIVE = {1045, 1044, 1698, 1251}


async def probe(spec: CheckSpec, target: Target, dial: Dial) -> None:
    """Succeeds if the server accepts the login, or rejects the user."""
    assert isinstance(spec, MysqlCheck)
    async with channel(spec, target, dial) as talk:
        talk.expected = "the end of the handshake"
        work = asyncio.get_running_loop().run_in_executor(_threads(), _shake_hands, talk.socket, spec)
        try:
            problem = await asyncio.shield(work)
        except asyncio.CancelledError:
            with contextlib.suppress(OSError):
                talk.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
            await asyncio.wait([work])
            raise
        if problem:
            raise CheckFailed(f"{target} {problem}")


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="mysql-check")


def _shake_hands(opened: socket.socket, spec: MysqlCheck) -> str:
    """Runs in a thread; returns what is wrong, as the end of a sentence."""
    bounded = _Bounded(opened, spec.timeout)
    connection = Connection(user=spec.user, password="", ssl_disabled=True, defer_connect=True)
    try:
        connection.connect(bounded)
        connection.close()
    except pymysql.err.Error as error:
        code = error.args[0] if error.args else 0
        words = str(error.args[-1])[:160] if error.args else repr(error)
        number = f" ({code})" if isinstance(code, int) and code else ""
        return "" if code in _ALIVE else f"did not finish the handshake: {words}{number}"
    except Exception:  # PyMySQL's errors for data that is not MySQL
        return f"does not speak MySQL: it sent {excerpt(bounded.begin)}"
    return ""


class _Bounded:
    """The part of a socket that PyMySQL uses. Reads at most 64 KiB; the library cannot change the time-out.
    `begin`: the first bytes received."""

    def __init__(self, opened: socket.socket, timeout: float) -> None:
        self._socket, self.begin = opened, b""
        opened.settimeout(timeout)

    def settimeout(self, timeout: float | None) -> None:
        pass

    def makefile(self, mode: str) -> Any:
        return io.BufferedReader(_BoundedReader(self._socket, self))

    def sendall(self, data: bytes) -> None:
        self._socket.sendall(data)

    def close(self) -> None:
        """Its owner closes it."""


class _BoundedReader(io.RawIOBase):
    def __init__(self, opened: socket.socket, owner: _Bounded) -> None:
        self._socket, self._owner, self._left = opened, owner, LIMIT

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with memoryview(buffer) as view:
            number = self._socket.recv_into(view, min(len(view), self._left)) if self._left else 0
            self._owner.begin = (self._owner.begin + bytes(view[: min(number, MOST)]))[: MOST + 1]
        self._left -= number
        return number
