# SPDX-License-Identifier: Apache-2.0
"""Puts a changing request into the audit: before it is carried out, and what came of it.

A change that cannot be written into the audit is refused (503), except from root over the unix socket, so that a
backend can be drained while the disk is broken. Knows responses, not routes.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, Protocol

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Send

from xdpdirector.api.auth.failed_logins import FailedLogins
from xdpdirector.api.auth.identity import Identity, Peer, client_key
from xdpdirector.api.http.unicode_text import utf8
from xdpdirector.errors import DirectorError, StoreError
from xdpdirector.storage.audit_log import Entry, Outcome, attempting
from xdpdirector.system.threads import to_its_end

_LARGEST_PROBLEM = 1 << 14
ROOT = 0

log = logging.getLogger(__name__)


class Recorder(Protocol):
    """Where attempts are written down; see `xdpdirector.storage.audit_log.Audit`."""

    def begin(self, entry: Entry) -> int: ...

    def finish(self, attempt: int, outcome: Outcome) -> None: ...

    def refused(self, entry: Entry, outcome: Outcome) -> None: ...


class Audited:
    """One request that would change something."""

    def __init__(self, audit: Recorder, request: Request, operation: str | None, identity: Identity) -> None:
        self._audit, self._request, self._peer = audit, request, identity.peer
        url = request.url
        self._entry = Entry(
            author=identity.name,
            role=str(identity.role),
            source=identity.source,
            operation=operation or "",
            request=f"{request.method} {url.path}" + (f"?{url.query}" if url.query else ""),
            key=request.headers.get("idempotency-key"),
        )
        self._reason = utf8(request.headers.get("change-reason", ""))

    async def refused(self, error: DirectorError) -> None:
        """It is not begun."""
        outcome = Outcome(HTTPStatus.FORBIDDEN, reason=self._reason, detail=error.detail)
        await to_its_end(partial(self._audit.refused, self._entry, outcome))

    async def run(self, app: ASGIApp, receive: Receive, send: Send) -> None:
        """StoreError, and `app` is not called, when the attempt cannot be written down and the peer is not root."""
        watched = _Watched(send, await to_its_end(self._begin))
        watched.outcome.reason = self._reason  # a revision puts its own in place of it
        with attempting(watched.outcome):
            try:
                await app(self._request.scope, receive, watched)
            except Exception:
                await watched.end(HTTPStatus.INTERNAL_SERVER_ERROR)
                raise

    def _begin(self) -> Callable[[Outcome], None]:
        """What writes the outcome down."""
        try:
            attempt = self._audit.begin(self._entry)
        except StoreError as error:
            if self._peer.uid != ROOT:
                raise
            log.error("carried out for root, though not in the audit: %s (%s)", self._entry, error.detail)
            return lambda outcome: log.error("the outcome, not in the audit: %s", outcome)
        return lambda outcome: self._audit.finish(attempt, outcome)


async def pause(seconds: float) -> None:
    await asyncio.sleep(seconds)


async def reject_unauthenticated(
    audit: Recorder,
    failed_logins: FailedLogins,
    request: Request,
    operation: str | None,
    peer: Peer,
) -> None:
    """Report an invalid token or login code, at most once in a while; delay the answer after many of them."""
    failure = failed_logins.failed(client_key(peer))
    if failure.report:
        text = f"requests without a valid token from {client_key(peer)}: {failure.report}"
        log.warning("%s", text)
        await _audit_failed_login(audit, request, operation, peer, text)
    if failure.delay:
        await pause(failure.delay)


async def _audit_failed_login(
    audit: Recorder, request: Request, operation: str | None, peer: Peer, text: str
) -> None:
    """If it cannot be written into the audit, the request is refused all the same."""
    entry = Entry("unknown", "", str(peer), operation or "", f"{request.method} {request.url.path}")
    try:
        outcome = Outcome(HTTPStatus.UNAUTHORIZED, detail=text)
        await to_its_end(partial(audit.refused, entry, outcome))
    except StoreError as error:
        log.error("not in the audit: %s (%s)", text, error.detail)


class _Watched:
    """Reads along what is sent: the status, and what a problem says. The outcome is written down before the answer
    is complete: who has it finds it in the audit."""

    def __init__(self, send: Send, finish: Callable[[Outcome], None]) -> None:
        self.outcome = Outcome()
        self._send, self._finish = send, finish
        self._body, self._ended = b"", False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.outcome.status = message["status"]
        elif message["type"] == "http.response.body":
            if len(self._body) < _LARGEST_PROBLEM:
                self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await self.end()
        await self._send(message)

    async def end(self, status: int | None = None) -> None:
        """Once; `status`: where no answer says one."""
        if self._ended:
            return
        self._ended = True
        self.outcome.status = self.outcome.status or status
        if (self.outcome.status or 0) >= HTTPStatus.BAD_REQUEST:
            self.outcome.detail = _detail(self._body)
        await to_its_end(partial(self._finish, self.outcome))


def _detail(body: bytes) -> str:
    try:
        problem: Any = json.loads(body)
    except ValueError:
        return ""
    return str(problem.get("detail", "")) if isinstance(problem, dict) else ""
