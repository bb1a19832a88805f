# SPDX-License-Identifier: Apache-2.0
"""Opens the sockets that the API listens on: the unix socket always, TCP addresses when tokens can be told.

Knows files, addresses and modes; no routes.
"""

from __future__ import annotations

import contextlib
import grp
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from xdpdirector.accessspec import ApiSpec, Endpoint
from xdpdirector.api import tls
from xdpdirector.api.server import Door
from xdpdirector.errors import ConfigurationError, StoreError
from xdpdirector.tokens import Tokens

log = logging.getLogger(__name__)


@contextlib.contextmanager
def opened_doors(path: Path, spec: ApiSpec, tokens: Tokens) -> Iterator[list[Door]]:
    """The unix socket first, then the TCP addresses. ConfigurationError: why one of them cannot be opened."""
    with contextlib.ExitStack() as stack:
        context = tls.context(spec.tls) if spec.tls else None
        endpoints = spec.listen if _may_listen(spec, tokens) else ()
        doors = [Door(stack.enter_context(unix_socket(path, spec.group)))]
        doors += [Door(stack.enter_context(_tcp_socket(endpoint)), context) for endpoint in endpoints]
        for endpoint in endpoints:
            log.info("the API listens on %s%s", endpoint, ", with TLS" if context else "")
        yield doors


def load_certificates_anew(spec: ApiSpec, doors: Sequence[Door]) -> None:
    """For connections from now on. ConfigurationError, and all stays as it is, when the files cannot be used."""
    for context in {door.tls for door in doors if door.tls}:
        assert spec.tls is not None
        tls.load(context, spec.tls)
        log.info("the API's certificate was read again from %s", spec.tls.certificate)


def _may_listen(spec: ApiSpec, tokens: Tokens) -> bool:
    """False when nobody can tell who may come in: a broken file must not keep the director from its work."""
    try:
        require_tokens(spec, tokens)
    except StoreError as error:
        log.error("the API listens on no TCP address, because no token can be told: %s", error.detail)
        return False
    return True


def require_tokens(spec: ApiSpec, tokens: Tokens) -> None:
    """ConfigurationError when there is a TCP address and nobody could come in there."""
    if spec.listen and not tokens.any_valid():
        raise ConfigurationError(
            f"api.listen has {spec.listen[0]}, and there is no valid token: make one with "
            "`xdpdirector token add NAME --role admin`, or take the address out of api.listen"
        )


@contextlib.contextmanager
def unix_socket(path: Path, group: str | None = None) -> Iterator[socket.socket]:
    """For user and group (0660). The instance's lock is held, so an old one belongs to nobody."""
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
