# SPDX-License-Identifier: Apache-2.0
"""Opens the sockets that the API listens on: the unix socket always, TCP addresses if tokens can be checked.

Knows files, addresses and modes; no routes.
"""

from __future__ import annotations

import asyncio
import contextlib
import grp
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from xdpdirector.api.server import tls
from xdpdirector.api.server.server import ListeningSocket
from xdpdirector.errors import ConfigurationError, StoreError
from xdpdirector.model.access import ApiSpec, Endpoint
from xdpdirector.storage.tokens import Tokens
from xdpdirector.system.files import Fingerprint, fingerprint

LOOK_APART = 5.0  # seconds between two looks at the files of TLS

log = logging.getLogger(__name__)


@contextlib.contextmanager
def open_sockets(
    path: Path, spec: ApiSpec, tokens: Tokens, *, has_fleet: bool = False
) -> Iterator[list[ListeningSocket]]:
    """The unix socket first, then the TCP addresses. ConfigurationError: why one of them cannot be opened.
    `has_fleet`: there may be tokens of a fleet, which are not known yet."""
    with contextlib.ExitStack() as stack:
        context = tls.context(spec.tls) if spec.tls else None
        endpoints = spec.listen if has_fleet or _may_listen(spec, tokens) else ()
        listening_sockets = [ListeningSocket(stack.enter_context(unix_socket(path, spec.group)))]
        listening_sockets += [
            ListeningSocket(stack.enter_context(_tcp_socket(endpoint)), context) for endpoint in endpoints
        ]
        for endpoint in endpoints:
            log.info("the API listens on %s%s", endpoint, ", with TLS" if context else "")
        yield listening_sockets


class Certificates:
    """The files of the API's TLS, read again for connections from now on: when they are others, and when asked for.
    Files that cannot be used change nothing, and are reported."""

    def __init__(
        self, spec: ApiSpec, listening_sockets: Sequence[ListeningSocket], *, look_apart: float = LOOK_APART
    ) -> None:
        self._look_apart = look_apart
        self._spec = spec.tls
        self._listening_sockets = [each for each in listening_sockets if each.tls]
        self._state = self._look()
        self._trouble = ""

    def notes(self) -> list[str]:
        """A sentence when the files, as they are now, cannot be used."""
        return [self._trouble] if self._trouble else []

    async def follow(self) -> None:
        """Look at them again and again."""
        while True:
            await asyncio.sleep(self._look_apart)
            if await asyncio.to_thread(self._look) != self._state:
                await self.read()

    async def read(self) -> None:
        """Now, whatever they looked like before."""
        if self._spec is None or not self._listening_sockets:
            return
        state = await asyncio.to_thread(self._look)
        try:
            made = await asyncio.to_thread(tls.context, self._spec)
        except ConfigurationError as error:
            self._trouble = f"the API's certificates stay as they were: {error.detail}"
            log.error("%s", self._trouble)
        else:
            for listening_socket in self._listening_sockets:
                listening_socket.tls = made
            self._trouble = ""
            log.info("the API's certificate was read again from %s", self._spec.certificate)
        self._state = state

    def _look(self) -> tuple[Fingerprint | None, ...]:
        if self._spec is None:
            return ()
        paths = filter(None, (self._spec.certificate, self._spec.key, self._spec.client_ca))
        return tuple(fingerprint(path) for path in paths)


def _may_listen(spec: ApiSpec, tokens: Tokens) -> bool:
    """False if tokens cannot be checked: a damaged file must not stop the director."""
    try:
        require_tokens(spec, tokens)
    except StoreError as error:
        log.error("the API listens on no TCP address, because tokens cannot be checked: %s", error.detail)
        return False
    return True


def require_tokens(spec: ApiSpec, tokens: Tokens) -> None:
    """ConfigurationError if there is a TCP address and no client could be authenticated there."""
    if spec.listen and not tokens.any_valid():
        raise ConfigurationError(
            f"api.listen has {spec.listen[0]}, and there is no valid token: make one with "
            "`xdpdirector token add NAME --role admin`, or take the address out of api.listen"
        )


@contextlib.contextmanager
def unix_socket(path: Path, group: str | None = None) -> Iterator[socket.socket]:
    """For user and group (0660). The instance's lock is held, so no process uses an old one."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listening:
        before = os.umask(0o117 if group is None else 0o177)
        try:
            listening.bind(str(path))
        finally:
            os.umask(before)
        try:
            if group is not None:
                _give_to(path, group)
            yield listening
        finally:
            path.unlink(missing_ok=True)


def _give_to(path: Path, group: str) -> None:
    try:
        os.chown(path, -1, grp.getgrnam(group).gr_gid)
    except KeyError as error:
        raise ConfigurationError(f"api.group: there is no group '{group}' on this host") from error
    except PermissionError as error:
        raise ConfigurationError(
            f"api.group: the daemon's user is not in the group '{group}', and may not give it the socket: "
            f"run `usermod -a -G {group} USER`, or start the daemon as root"
        ) from error
    path.chmod(0o660)


@contextlib.contextmanager
def _tcp_socket(endpoint: Endpoint) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if endpoint.address.version == 6 else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit it. asyncio sets it on sockets of its own making only, and without it an answer's body
        # waits 40 ms for the client to acknowledge the head.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            listening.bind((str(endpoint.address), endpoint.port))
        except OSError as error:
            raise ConfigurationError(f"api.listen: {endpoint} cannot be opened: {error.strerror}") from error
        yield listening
